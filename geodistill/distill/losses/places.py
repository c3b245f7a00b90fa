"""Places of features, voxels, points or cells of a map, and which of them matter."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, arange

from geodistill.checks import UsageError
from geodistill.distill.losses.base import Seen
from geodistill.nn.voxels import Voxels

Places = Literal["voxels", "points", "map"]


def kind_of(x: Tensor, seen: Seen) -> Places:
    """Of features [V, C] or [B, C, H, W], what has them."""
    if x.dim() == 4:
        return "map"
    return "voxels" if isinstance(seen.inputs, Voxels) else "points"


def rows(x: Tensor) -> Tensor:
    """Voxels or points [V, C] as they are, maps [B, C, H, W] as [B H W, C]."""
    return x if x.dim() == 2 else x.permute(0, 2, 3, 1).flatten(0, 2)


def importance(teacher: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
    """Of each place, and its scan, both [P]: of a voxel the number of its points; of a point or a
    map's cell the largest of the teacher's channels.

    Raises UsageError for rows [V, C] that are not of the scans' voxels or points.
    """
    inputs = seen.inputs
    if teacher.dim() == 4:
        best = teacher.amax(1)
        scan = arange(len(best), device=best.device)[:, None, None].expand_as(best)
        return best.flatten(), scan.flatten()
    if isinstance(inputs, Voxels):
        what, count = "voxels", len(inputs.counts)
    else:
        what, count = "points", inputs.points.shape[0] * inputs.points.shape[1]
    if len(teacher) != count:
        raise UsageError(
            f"the scans have {count:,} {what} and the features at the tap belong to "
            f"{len(teacher):,} places: tap a part that keeps the {what}, or a map"
        )
    if isinstance(inputs, Voxels):
        return inputs.counts.to(teacher.dtype), inputs.cells[:, 0]
    scan = arange(inputs.scans, device=teacher.device)
    return teacher.amax(1), scan.repeat_interleave(inputs.points.shape[1])


def by_scan(scan: Tensor, scans: int) -> list[Tensor]:
    """Places of each scan that has at least two: int64 [P] each."""
    groups = [(scan == k).nonzero()[:, 0] for k in range(scans)]
    return [own for own in groups if len(own) > 1]


def strongest(teacher: Tensor, seen: Seen, count: int) -> list[Tensor]:
    """The `count` places of the largest importance, or all, of each scan that has at least two."""
    scores, scan = importance(teacher, seen)
    groups = by_scan(scan, seen.inputs.scans)
    return [own[scores[own].topk(min(count, len(own))).indices] for own in groups]
