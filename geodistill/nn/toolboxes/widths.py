"""Numbers that configs of the toolboxes take, of a detector here."""

from __future__ import annotations

from geodistill.nn import pointpillars, second
from geodistill.nn.anchor_detector import AnchorSettings
from geodistill.nn.pointpillars import narrowed


def span(settings: AnchorSettings) -> list[float]:
    return [*settings.grid.low, *settings.grid.high]


def map_channels(settings: AnchorSettings) -> int:
    """Channels of the map that the encoder gives."""
    if settings.architecture == "second":
        return 2 * narrowed(128, settings.compression)
    return narrowed(64, settings.compression)


def stage_widths(settings: AnchorSettings) -> list[int]:
    widths = (128, 256) if settings.architecture == "second" else (64, 128, 256)
    return [narrowed(width, settings.compression) for width in widths]


def joined_widths(settings: AnchorSettings) -> list[int]:
    if settings.architecture == "second":
        return [narrowed(256, settings.compression)] * 2
    return [narrowed(128, settings.compression)] * 3


def depths(settings: AnchorSettings) -> tuple[int, ...]:
    return second.DEPTHS if settings.architecture == "second" else pointpillars.DEPTHS


def strides(settings: AnchorSettings) -> tuple[int, ...]:
    return second.STRIDES if settings.architecture == "second" else pointpillars.STRIDES


def ups(settings: AnchorSettings) -> tuple[int, ...]:
    return second.UPS if settings.architecture == "second" else pointpillars.UPS
