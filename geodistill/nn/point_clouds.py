"""Scans as clouds of equally many points, with what is near what in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.checks import check
from geodistill.nn.pointnet import Level


@dataclass(frozen=True, eq=False)
class PointBatch:
    """The points of B scans.

    Attributes:
        points: [B, N, F], x, y, z and what else a point has.
        counts: int64 [B], different points of each scan; a scan without any has zeros.
        levels: see `nn.pointnet`.
        seed: of what is drawn in learning from this batch.
    """

    points: Tensor
    counts: Tensor
    levels: list[Level]
    seed: int

    @property
    def scans(self) -> int:
        return len(self.points)


def thinned(scan: Tensor, count: int, far_m: float, generator: torch.Generator) -> Tensor:
    """So many points of a scan [N, F], in a random order.

    Points that are at least `far_m` from the sensor stay, for there are few of them, and near ones
    are drawn, as in mmdetection3d; of a scan that has fewer points each is there, and others again.

    Raises ShapeError for a scan of another shape.
    """
    check(scan=(scan, "N F"))
    if len(scan) == 0:
        return scan.new_zeros(count, scan.shape[1])
    order = torch.randperm(len(scan), generator=generator)
    if len(scan) > count:
        far = (scan[:, :3].norm(dim=1) >= far_m).cpu()[order]
        order = torch.cat([order[far], order[~far]])[:count]
        order = order[torch.randperm(count, generator=generator)]
    else:
        # Whole rounds first, so that each point is there about as often.
        rounds = [torch.randperm(len(scan), generator=generator) for _ in range(count // len(scan))]
        order = torch.cat([order, *rounds])[:count]
    return scan[order.to(scan.device)]


def gathered(
    scans: Sequence[Tensor], count: int, far_m: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, int]:
    """Points, counts and seed of a `PointBatch` of scans [N, F]; without a generator each is drawn
    from alike, whatever is beside."""
    drawn = generator or torch.Generator()
    clouds = []
    for scan in scans:
        if generator is None:
            drawn.manual_seed(0)
        clouds.append(thinned(scan, count, far_m, drawn))
    points = torch.stack(clouds)
    counts = torch.tensor([min(len(scan), count) for scan in scans], device=points.device)
    seed = int(torch.randint(2**62, (), generator=drawn))
    return points, counts, seed
