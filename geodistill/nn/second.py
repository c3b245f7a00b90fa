"""SECOND, at any width.

Source: Yan, Mao and Li, "SECOND: Sparsely Embedded Convolutional Detection" (Sensors 2018).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from geodistill.nn.bev import AnchorHead, Backbone, Neck, Predictions
from geodistill.nn.pillars import EPSILON, MOMENTUM
from geodistill.nn.pointpillars import narrowed
from geodistill.nn.precision import in_float32
from geodistill.nn.sparse import SparseMap, StridedConv, SubmanifoldConv, Triple
from geodistill.nn.voxels import VoxelGrid, Voxels, voxel_means

KITTI_GRID = VoxelGrid((0.0, -40.0, -3.0), (70.4, 40.0, 1.0), (0.05, 0.05, 0.1), 5, 16_000)
SPARSE, STAGES, JOINED = (16, 32, 64, 128), (128, 256), (256, 256)
"""Published widths of the encoder's resolutions and of what it gives of each height, of the
backbone's stages, and what the neck makes of these."""
STRIDES, DEPTHS, UPS = (1, 2), (5, 5), (1, 2)
LAYERS = range(40, 56)
"""Of voxels, of which the encoder makes two, as the backbone expects."""


class Normed(nn.Module):
    """A sparse convolution, batch norm and ReLU."""

    def __init__(self, convolution: SubmanifoldConv | StridedConv) -> None:
        super().__init__()
        self.convolution = convolution
        width = convolution.weight.shape[-1]
        self.norm = nn.BatchNorm1d(width, eps=EPSILON, momentum=MOMENTUM)

    def forward(self, x: SparseMap) -> SparseMap:
        x = self.convolution(x)
        features = x.features
        if self.training and len(features) == 1 and isinstance(self.norm, nn.BatchNorm1d):
            # Torch's refuses one row; two alike have its mean and its variance.
            features = self.norm(features.expand(2, -1))[:1]
        else:
            features = self.norm(features)
        return x.with_features(torch.relu(features))


class SparseEncoder(nn.Module):
    """From the means of voxels to a map on the ground, eight times as coarse.

    Args:
        values: of a voxel.
        width: of a published width, what it is here.
    """

    def __init__(self, values: int, width: Callable[[int], int]) -> None:
        super().__init__()
        w16, w32, w64, w128 = map(width, SPARSE)
        self.first = Normed(SubmanifoldConv(values, w16))
        self.stages = nn.ModuleList(
            [
                nn.Sequential(Normed(SubmanifoldConv(w16, w16))),
                _stage(w16, w32, (1, 1, 1)),
                _stage(w32, w64, (1, 1, 1)),
                _stage(w64, w64, (0, 1, 1)),
            ]
        )
        self.last = Normed(StridedConv(w64, w128, (3, 1, 1), (2, 1, 1), (0, 0, 0)))

    @in_float32
    def forward(self, x: SparseMap) -> Tensor:
        """[B, C Z, Y, X], the channels of a height one behind the other: c Z + z."""
        x = self.first(x)
        for stage in self.stages:
            x = stage(x)
        return self.last(x).dense().flatten(1, 2)


class Second(nn.Module):
    """From voxels to the predictions of every anchor.

    Parts, by the names under which losses tap them: encoder [B, C, H, W], backbone (two maps), neck
    [B, C, H, W], head.
    """

    def __init__(
        self, classes: int = 3, yaws: int = 2, values: int = 4, compression: int = 1
    ) -> None:
        """As `PointPillars`."""
        super().__init__()

        def width(published: int) -> int:
            return narrowed(published, compression)

        stages, joined = [*map(width, STAGES)], [*map(width, JOINED)]
        self.encoder = SparseEncoder(values, width)
        self.backbone = Backbone(2 * width(SPARSE[-1]), stages, STRIDES, DEPTHS)
        self.neck = Neck(stages, joined, UPS)
        self.head = AnchorHead(sum(joined), classes, classes * yaws)

    def forward(self, voxels: Voxels) -> Predictions:
        return self.head(self.neck(self.maps(voxels)))

    def maps(self, voxels: Voxels) -> list[Tensor]:
        """Of the backbone's stages."""
        return self.backbone(self.encoder(sparse_map(voxels)))


def sparse_map(voxels: Voxels) -> SparseMap:
    """The mean of each voxel's points, in a grid with one more layer on top, as published."""
    x, y, z = voxels.grid.cells
    means, shape = voxel_means(voxels.points, voxels), (z + 1, y, x)
    return SparseMap(means, voxels.cells, shape, voxels.scans, voxels.shared)


def _stage(channels_in: int, channels_out: int, padding: Triple) -> nn.Sequential:
    strided = StridedConv(channels_in, channels_out, (3, 3, 3), (2, 2, 2), padding)
    more = (Normed(SubmanifoldConv(channels_out, channels_out)) for _ in range(2))
    return nn.Sequential(Normed(strided), *more)
