"""PointPillars, at any width.

Source: Lang et al., "PointPillars: Fast Encoders for Object Detection from Point Clouds" (CVPR
2019); widths of students after Zhang et al., "PointDistiller" (CVPR 2023), section 4.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from geodistill.checks import UsageError
from geodistill.nn.bev import AnchorHead, Backbone, Neck, Predictions
from geodistill.nn.pillars import Coordinates, PillarEncoder, ground_map
from geodistill.nn.voxels import VoxelGrid, Voxels

KITTI_GRID = VoxelGrid((0.0, -39.68, -3.0), (69.12, 39.68, 1.0), (0.16, 0.16, 4.0), 32, 16_000)
DIVISORS = {1: 1.0, 2: 1.4, 4: 2.0, 8: 2.8, 16: 4.0}
ENCODED, STAGES, JOINED = 64, (64, 128, 256), (128, 128, 128)
"""Published widths of the encoder, the backbone's stages, and what the neck makes of these."""
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


class PointPillars(nn.Module):
    """From voxels to the predictions of every anchor.

    Parts, by the names under which losses tap them: encoder [V, C], backbone (three maps), neck
    [B, C, H, W], head.
    """

    def __init__(
        self,
        classes: int = 3,
        yaws: int = 2,
        values: int = 4,
        compression: int = 1,
        coordinates: Coordinates = "absolute",
    ) -> None:
        """
        Args:
            classes: how many.
            yaws: anchors of a class in a cell.
            values: of a point.
            compression: of the parameters, 1 for the published network.
            coordinates: see `PillarEncoder`.
        """
        super().__init__()

        def width(published: int) -> int:
            return narrowed(published, compression)

        stages, joined = [*map(width, STAGES)], [*map(width, JOINED)]
        self.encoder = PillarEncoder(values, width(ENCODED), coordinates)
        self.backbone = Backbone(width(ENCODED), stages, STRIDES, DEPTHS)
        self.neck = Neck(stages, joined, UPS)
        self.head = AnchorHead(sum(joined), classes, classes * yaws)

    def forward(self, voxels: Voxels) -> Predictions:
        return self.head(self.neck(self.maps(voxels)))

    def maps(self, voxels: Voxels) -> list[Tensor]:
        """Of the backbone's stages."""
        return self.backbone(ground_map(self.encoder(voxels), voxels))
