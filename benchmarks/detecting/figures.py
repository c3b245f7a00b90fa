"""Parameters and multiply-adds of detectors, beside the published ones."""

from __future__ import annotations

import torch
from rows import Row
from torch.utils.flop_counter import FlopCounterMode

from geodistill.nn.anchor_detector import AnchorDetector, AnchorSettings
from geodistill.nn.point_detector import PointDetector, PointSettings
from geodistill.nn.pointpillars import KITTI_GRID as PILLARS
from geodistill.nn.second import KITTI_GRID as VOXELS

PUBLISHED = {
    ("pointpillars", 1): (4.8, 34.3),
    ("pointpillars", 4): (1.3, 9.0),
    ("pointpillars", 16): (0.3, 2.5),
    ("second", 1): (5.3, 69.8),
    ("second", 4): (1.4, 17.8),
    ("second", 16): (0.4, 4.6),
    ("pointrcnn", 1): (4.1, 104.9),
    ("pointrcnn", 8): (0.5, 13.7),
    ("pointrcnn", 16): (0.3, 7.1),
}
"""Millions of parameters, of the losses' layers too, and 10^9 multiply-adds (PointDistiller, table
1), as far as they are printed."""
EXACT = {
    ("pointpillars", 1): (4.835, 34.2),
    ("pointpillars", 4): (1.217, 8.9),
    ("pointpillars", 16): (0.309, 2.41),
    ("second", 1): (5.326, 69.6),
    ("second", 4): (1.343, 17.7),
    ("second", 16): (0.341, 4.60),
    ("pointrcnn", 1): (4.039, 104.9),
    ("pointrcnn", 8): (0.517, 13.7),
    ("pointrcnn", 16): (0.258, 7.1),
}
"""By the published widths, without the losses' layers and the sparse encoder; PointRCNN's
multiply-adds are the printed ones, see `nn.pointrcnn`."""
PROPOSALS = 512
CLOSE = 0.01


def rows() -> list[Row]:
    found = []
    for (architecture, compression), (parameters, operations) in EXACT.items():
        detector: AnchorDetector | PointDetector
        if architecture == "pointrcnn":
            detector = PointDetector(PointSettings(compression=compression))
            macs = point_operations(detector) / 1e9
        else:
            grid = VOXELS if architecture == "second" else PILLARS
            detector = AnchorDetector(AnchorSettings(architecture, compression, grid))
            macs = dense_operations(detector) / 1e9
        count = sum(p.numel() for p in detector.parameters()) / 1e6
        printed = PUBLISHED[architecture, compression]
        for what, value, exact, paper in (
            ("million parameters", count, parameters, printed[0]),
            ("10^9 multiply-adds", macs, operations, printed[1]),
        ):
            found.append(
                Row(
                    f"{architecture} {compression}x, {what}",
                    f"{value:.4g}",
                    f"{exact:g} to {CLOSE:.0%}",
                    abs(value / exact - 1) <= CLOSE,
                    f"printed: {paper:g}",
                )
            )
    return found


def point_operations(detector: PointDetector) -> int:
    """Multiply-adds for one scan, of both stages."""
    torch.manual_seed(0)
    settings, network = detector.settings, detector.eval().network
    points = torch.rand(settings.points, settings.values) * 30
    some = 2  # proposals; each costs the same
    with torch.no_grad():
        batch = detector.prepare([points])
        with FlopCounterMode(display=False) as first:
            found = network(batch)
        pooled = torch.rand(some, settings.pooled, 5 + found.features.shape[-1])
        with FlopCounterMode(display=False) as second:
            network.refiner(pooled)
    return (first.get_total_flops() + second.get_total_flops() * PROPOSALS // some) // 2


def dense_operations(detector: AnchorDetector) -> int:
    """Multiply-adds of backbone, neck and head, on the map, for one scan."""
    settings = detector.settings
    x, y, _ = settings.grid.cells
    stride = 1 if settings.architecture == "pointpillars" else 8
    network = detector.network.to("meta")
    first = next(network.backbone.parameters())
    image = torch.zeros(1, first.shape[1], y // stride, x // stride, device="meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.head(network.neck(network.backbone(image)))
    return counter.get_total_flops() // 2
