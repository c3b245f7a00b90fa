"""PointPillars, at any width.

Source: Lang et al., "PointPillars: Fast Encoders for Object Detection from Point Clouds" (CVPR
2019); widths of students after Zhang et al., "PointDistiller" (CVPR 2023), section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from geodistill.checks import UsageError
from geodistill.nn.bev import AnchorHead, Backbone, Neck, Predictions
from geodistill.nn.pillars import Coordinates, PillarEncoder, ground_map
from geodistill.nn.voxels import VoxelGrid, Voxels

KITTI_GRID = VoxelGrid((0.0, -39.68, -3.0), (69.12, 39.68, 1.0), (0.16, 0.16, 4.0), 32, 16_000)
Compression = Literal[1, 2, 4, 8, 16]
DIVISORS = {1: 1.0, 2: 1.4, 4: 2.0, 8: 2.8, 16: 4.0}
STRIDES, DEPTHS, UPS = (2, 2, 2), (3, 5, 5), (1, 2, 4)


def narrowed(width: int, compression: int) -> int:
    """A width of a student whose parameters and operations are `compression` times fewer: divided
    by its square root, 1.4 for 2 and 2.8 for 8.

    Raises UsageError for a compression that is not published.
    """
    if compression not in DIVISORS:
        known = ", ".join(map(str, DIVISORS))
        raise UsageError(f"compression must be one of {known}, got {compression}")
    return math.floor(width / DIVISORS[compression])


@dataclass(frozen=True)
class PillarSettings:
    """Attributes:
    grid: of pillars.
    classes: how many.
    yaws: anchors of a class in a cell.
    values: of a point.
    compression: of the parameters, 1 for the published network.
    coordinates: see `PillarEncoder`.
    """

    grid: VoxelGrid = KITTI_GRID
    classes: int = 3
    yaws: int = 2
    values: int = 4
    compression: int = 1
    coordinates: Coordinates = "absolute"


class PointPillars(nn.Module):
    """From voxels to the predictions of every anchor.

    Parts, by the names under which losses tap them: encoder [V, C], backbone (three maps), neck
    [B, C, H, W], head.
    """

    def __init__(self, settings: PillarSettings) -> None:
        super().__init__()
        self.settings = settings

        def width(published: int) -> int:
            return narrowed(published, settings.compression)

        stages, joined = [width(w) for w in (64, 128, 256)], [width(128)] * 3
        self.encoder = PillarEncoder(settings.values, width(64), settings.coordinates)
        self.backbone = Backbone(width(64), stages, STRIDES, DEPTHS)
        self.neck = Neck(stages, joined, UPS)
        self.head = AnchorHead(sum(joined), settings.classes, settings.classes * settings.yaws)

    def forward(self, voxels: Voxels) -> Predictions:
        return self.head(self.neck(self.maps(voxels)))

    def maps(self, voxels: Voxels) -> list[Tensor]:
        """Of the backbone's stages."""
        return self.backbone(ground_map(self.encoder(voxels), voxels))
