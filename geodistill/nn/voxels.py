"""Points gathered into the cells of a grid, unpadded: each point says which voxel it is in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geodistill.checks import UsageError, check, expect_within

MOST_CELLS = 100_000  # along a side


@dataclass(frozen=True)
class VoxelGrid:
    """Where voxels lie, and how much of a scan they keep.

    Attributes:
        low, high: corners of the box of points that are kept, in metres.
        size: of a voxel.
        most_points: of a voxel; later ones are dropped.
        most_voxels: of a scan; those that come up later are dropped.

    Raises UsageError where a side or a voxel has no length, or a side rounds to no voxel.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    size: tuple[float, float, float]
    most_points: int
    most_voxels: int

    def __post_init__(self) -> None:
        anywhere = (-math.inf, math.inf)
        expect_within(self, low=anywhere, high=anywhere)
        expect_within(self, most_points=(1, math.inf), most_voxels=(1, math.inf))
        axes = zip(self.low, self.high, self.size, strict=True)
        if not all(
            size > 0 and 0.5 < (high - low) / size <= MOST_CELLS for low, high, size in axes
        ):
            size = " x ".join(map(str, self.size))
            raise UsageError(
                f"voxels of {size} m fill no grid from {self.low} to {self.high} m, of at most "
                f"{MOST_CELLS:,} along a side"
            )

    @property
    def cells(self) -> tuple[int, int, int]:
        """Along x, y and z."""
        x, y, z = (
            round((high - low) / size)
            for low, high, size in zip(self.low, self.high, self.size, strict=True)
        )
        return x, y, z


@dataclass(frozen=True, eq=False)
class Voxels:
    """The voxels of B scans.

    Attributes:
        points: [N, F], x, y, z and what else a point has.
        voxel: int64 [N], which voxel a point is in.
        cells: int64 [V, 4], scan, z, y and x.
        counts: int64 [V], points of each.
        scans: B.
        grid: where they lie.
        shared: what networks that look at them share, see `nn.sparse.SparseMap`.
    """

    points: Tensor
    voxel: Tensor
    cells: Tensor
    counts: Tensor
    scans: int
    grid: VoxelGrid
    shared: dict[Any, Any] = field(default_factory=dict)


def voxelize(scans: Sequence[Tensor], grid: VoxelGrid) -> Voxels:
    """Gather the points of scans, [N, F] each, into voxels.

    Voxels come in the order in which a scan's points reach them, and points in that of the scan, as
    in the reference implementations: both limits drop what comes later. A scan may be empty.

    Raises ShapeError for scans of another shape.
    """
    parts = [_one(scan, grid) for scan in scans]
    first = 0
    voxel, cells = [], []
    for number, (_, own, places) in enumerate(parts):
        voxel.append(own + first)
        cells.append(torch.cat([torch.full_like(places[:, :1], number), places], 1))
        first += len(places)
    which = torch.cat(voxel)
    return Voxels(
        torch.cat([points for points, _, _ in parts]),
        which,
        torch.cat(cells),
        torch.bincount(which, minlength=first),
        len(scans),
        grid,
    )


def _one(scan: Tensor, grid: VoxelGrid) -> tuple[Tensor, Tensor, Tensor]:
    """Points, their voxels, and the voxels' z, y and x."""
    check(scan=(scan, "N F"))
    low, size = scan.new_tensor(grid.low), scan.new_tensor(grid.size)
    place = ((scan[:, :3] - low) / size).floor()
    x, y, z = grid.cells
    keep = ((place >= 0) & (place < place.new_tensor([x, y, z]))).all(1)
    scan, place = scan[keep], place[keep].long()
    key = (place[:, 2] * y + place[:, 1]) * x + place[:, 0]
    keys, voxel = key.unique(return_inverse=True)
    # Numbers of voxels in the order in which they come up.
    reached = torch.full_like(keys, len(key)).scatter_reduce(
        0, voxel, torch.arange(len(key), device=key.device), "amin"
    )
    order = reached.argsort()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=key.device)
    voxel = rank[voxel]
    kept = (voxel < grid.most_voxels) & (_turn(voxel) < grid.most_points)
    keys = keys[order][: grid.most_voxels]
    cells = torch.stack([keys // (x * y), keys // x % y, keys % x], 1)
    return scan[kept], voxel[kept], cells


def _turn(voxel: Tensor) -> Tensor:
    """How many points of the same voxel come before each."""
    order = voxel.argsort(stable=True)
    ordered = voxel[order]
    first = torch.searchsorted(ordered, ordered)
    turn = torch.empty_like(order)
    turn[order] = torch.arange(len(order), device=order.device) - first
    return turn


def voxel_means(values: Tensor, voxels: Voxels) -> Tensor:
    """The mean of points' values [N, C] in each voxel: [V, C]."""
    sums = values.new_zeros(voxels.counts.shape[0], values.shape[1])
    sums.index_add_(0, voxels.voxel, values)
    return sums / voxels.counts[:, None]
