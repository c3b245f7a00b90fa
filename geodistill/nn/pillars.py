"""PointPillars' encoder: one feature for each column of points, and the map that they lie in.

Source: Lang et al., "PointPillars: Fast Encoders for Object Detection from Point Clouds" (CVPR
2019).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from geodistill.nn.precision import in_float32
from geodistill.nn.synced import moments, remember
from geodistill.nn.voxels import Voxels, voxel_means

Coordinates = Literal["absolute", "mmdet3d_legacy"]
EPSILON, MOMENTUM = 1e-3, 0.01
"""Of every batch norm in these detectors."""


class PillarEncoder(nn.Module):
    """Points' features through a linear layer, batch norm and ReLU, and their maximum by pillar.

    A point enters with its own values, its way from the mean of its pillar's points, and from the
    pillar's centre. As published, a pillar is a list of `most_points` places: what is empty of it
    counts as zeros in the batch norm and in the maximum. Here only the points are computed, with
    the same result.

    Args:
        values: F of a point, x, y, z and what else.
        channels: C of a pillar.
        coordinates: "absolute"; or "mmdet3d_legacy", in which x, y and z are overwritten by the way
            from the pillar's centre, as in mmdet3d's models of KITTI.
    """

    def __init__(self, values: int, channels: int, coordinates: Coordinates = "absolute") -> None:
        super().__init__()
        self.coordinates = coordinates
        self.linear = nn.Linear(values + 6, channels, bias=False)
        self.norm = nn.BatchNorm1d(channels, eps=EPSILON, momentum=MOMENTUM)

    @in_float32
    def forward(self, voxels: Voxels) -> Tensor:
        """[V, C]"""
        found = self.linear(self.decorated(voxels))
        places = voxels.counts.shape[0] * voxels.grid.most_points
        scale, shift = self._affine(found, places)
        features = torch.relu(found * scale + shift)
        most = features.new_zeros(
            voxels.counts.shape[0], features.shape[1]
        )  # of ReLU: none is less
        index = voxels.voxel[:, None].expand_as(features)
        most = most.scatter_reduce(0, index, features, "amax")
        empty = torch.relu(shift).expand_as(most)
        room = (voxels.counts < voxels.grid.most_points)[:, None]
        return torch.where(room, torch.maximum(most, empty), most)

    def decorated(self, voxels: Voxels) -> Tensor:
        """What the linear layer is given, [N, F + 6]."""
        points, grid = voxels.points, voxels.grid
        xyz = points[:, :3]
        mean = voxel_means(xyz, voxels)[voxels.voxel]
        size, low = points.new_tensor(grid.size), points.new_tensor(grid.low)
        center = (voxels.cells[:, [3, 2, 1]] + 0.5) * size + low
        away = xyz - center[voxels.voxel]
        own = points
        if self.coordinates == "mmdet3d_legacy":
            own = torch.cat([away, points[:, 3:]], 1)
        return torch.cat([own, xyz - mean, away], 1)

    def _affine(self, found: Tensor, places: int) -> tuple[Tensor, Tensor]:
        """What batch norm multiplies by and adds, over the points and `places - N` zeros."""
        norm = self.norm
        if self.training:
            mean, variance, count = moments(found, [0], places)
            remember(norm, mean, variance, count)
        else:
            mean, variance = norm.running_mean, norm.running_var
        scale = norm.weight * torch.rsqrt(variance + norm.eps)  # type: ignore[operator]
        return scale, norm.bias - mean * scale  # type: ignore[operator]


def ground_map(features: Tensor, voxels: Voxels) -> Tensor:
    """Pillars' features [V, C] in their places of a map [B, C, H, W], zero elsewhere; in memory the
    channels of a place are together, as convolutions on CPUs are fastest."""
    x, y, _ = voxels.grid.cells
    place = (voxels.cells[:, 0] * y + voxels.cells[:, 2]) * x + voxels.cells[:, 3]
    flat = features.new_zeros(voxels.scans * y * x, features.shape[1])
    flat.index_copy_(0, place, features)
    return flat.reshape(voxels.scans, y, x, -1).permute(0, 3, 1, 2)
