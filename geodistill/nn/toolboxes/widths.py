"""Numbers that configs of the toolboxes take, of a detector here."""

from __future__ import annotations

from types import ModuleType

from geodistill.nn import pointpillars, second
from geodistill.nn.anchor_detector import AnchorSettings
from geodistill.nn.pointpillars import narrowed


def span(settings: AnchorSettings) -> list[float]:
    return [*settings.grid.low, *settings.grid.high]


def sparse_widths(settings: AnchorSettings) -> list[int]:
    return [narrowed(width, settings.compression) for width in second.SPARSE]


def map_channels(settings: AnchorSettings) -> int:
    """Channels of the map that the encoder gives."""
    if settings.architecture == "second":
        return 2 * sparse_widths(settings)[-1]
    return narrowed(pointpillars.ENCODED, settings.compression)


def stage_widths(settings: AnchorSettings) -> list[int]:
    return [narrowed(width, settings.compression) for width in _published(settings).STAGES]


def joined_widths(settings: AnchorSettings) -> list[int]:
    return [narrowed(width, settings.compression) for width in _published(settings).JOINED]


def depths(settings: AnchorSettings) -> tuple[int, ...]:
    return _published(settings).DEPTHS


def strides(settings: AnchorSettings) -> tuple[int, ...]:
    return _published(settings).STRIDES


def ups(settings: AnchorSettings) -> tuple[int, ...]:
    return _published(settings).UPS


def _published(settings: AnchorSettings) -> ModuleType:
    return second if settings.architecture == "second" else pointpillars
