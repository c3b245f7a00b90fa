"""Sums of 3D Gaussians at points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.kernels.reference.rays import ray_index

REACH = 3.0
"""Deviations from its mean at which a Gaussian ends."""
_PAIRS = 1 << 20


@dataclass(frozen=True)
class Gaussians:
    """M Gaussians and a grid over the cube [-1, 1]^3 of those that reach into each cell.

    shapes: [M, 10], mean, inverse covariance (xx, xy, xz, yy, yz, zz), height of the peak.
    starts: int64 [side^3 + 1], where each cell (x slowest) begins in members: int32 [P].
    """

    shapes: Tensor
    starts: Tensor
    members: Tensor
    side: int


def gaussian_sums(x: Tensor, gaussians: Gaussians, features: Tensor) -> Tensor:
    side = gaussians.side
    at = ((x + 1.0) * 0.5 * side).clamp(0, side - 1).long()
    cell = (at[:, 0] * side + at[:, 1]) * side + at[:, 2]
    counts = gaussians.starts.diff()[cell]
    out = x.new_zeros(len(x), 1 + features.shape[1])
    for rows in _blocks(counts):
        count = counts[rows]
        ends = count.cumsum(0)
        point = ray_index(torch.cat([ends.new_zeros(1), ends]))
        place = torch.arange(len(point), device=x.device) - (ends - count)[point]
        member = gaussians.members[gaussians.starts[cell[rows]][point] + place].long()
        shape = gaussians.shapes[member]
        dx, dy, dz = (x[rows][point] - shape[:, :3]).unbind(1)
        xx, xy, xz, yy, yz, zz, peak = shape[:, 3:].unbind(1)
        q = dx * (xx * dx + 2 * (xy * dy + xz * dz)) + dy * (yy * dy + 2 * yz * dz) + zz * dz * dz
        weight = torch.where(q < REACH**2, peak * torch.exp(-0.5 * q), 0.0)
        value = torch.cat([weight[:, None], weight[:, None] * features[member]], dim=1)
        out[rows] = out[rows].index_add(0, point, value)
    return out


def _blocks(counts: Tensor):
    """Ranges of points that have about `_PAIRS` Gaussians to look at together."""
    group = counts.cumsum(0) // _PAIRS
    return torch.arange(len(counts), device=counts.device).split(
        torch.unique_consecutive(group, return_counts=True)[1].tolist()
    )
