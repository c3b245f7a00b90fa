"""Parameters and multiply-adds of detectors, beside the published ones."""

from __future__ import annotations

import torch
from rows import Row
from torch.utils.flop_counter import FlopCounterMode

from geodistill.detect.anchors import KITTI
from geodistill.nn.anchor_detector import AnchorDetector, AnchorSettings
from geodistill.nn.second import KITTI_GRID as VOXELS

PUBLISHED = {
    ("pointpillars", 1): (4.8, 34.3),
    ("pointpillars", 4): (1.3, 9.0),
    ("pointpillars", 16): (0.3, 2.5),
    ("second", 1): (5.3, 69.8),
    ("second", 4): (1.4, 17.8),
    ("second", 16): (0.4, 4.6),
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
}
"""By the published widths, without the losses' layers and the sparse encoder."""
CLOSE = 0.01


def rows() -> list[Row]:
    found = []
    for (architecture, compression), (parameters, operations) in EXACT.items():
        settings = AnchorSettings(architecture, compression, anchors=KITTI)
        if architecture == "second":
            settings = AnchorSettings(architecture, compression, grid=VOXELS, placing="ends")
        detector = AnchorDetector(settings)
        count = sum(p.numel() for p in detector.parameters()) / 1e6
        macs = dense_operations(detector) / 1e9
        printed = PUBLISHED[architecture, compression]
        for what, value, exact, paper in (
            ("million parameters", count, parameters, printed[0]),
            ("10^9 multiply-adds on the map", macs, operations, printed[1]),
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


def dense_operations(detector: AnchorDetector) -> int:
    """Multiply-adds of backbone, neck and head for one scan."""
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
