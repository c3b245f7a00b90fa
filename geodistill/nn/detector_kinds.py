"""The detectors that there are."""

from __future__ import annotations

from geodistill.nn.anchor_detector import AnchorDetector, AnchorSettings
from geodistill.nn.detector import Detector
from geodistill.nn.point_detector import PointDetector
from geodistill.nn.point_settings import PointSettings

DetectorSettings = AnchorSettings | PointSettings
SETTINGS: dict[str, type[AnchorSettings] | type[PointSettings]] = {
    "pointpillars": AnchorSettings,
    "second": AnchorSettings,
    "pointrcnn": PointSettings,
}
"""By architecture."""


def new_detector(settings: DetectorSettings) -> Detector:
    """With random weights, of torch's generator."""
    if isinstance(settings, PointSettings):
        return PointDetector(settings)
    return AnchorDetector(settings)
