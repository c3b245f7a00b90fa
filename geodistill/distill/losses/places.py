"""Places of features, voxels or cells of a map, and which of them matter."""

from __future__ import annotations

from torch import Tensor, arange

from geodistill.checks import UsageError
from geodistill.distill.losses.base import Seen


def rows(x: Tensor) -> Tensor:
    """Voxels [V, C] as they are, maps [B, C, H, W] as [B H W, C]."""
    return x if x.dim() == 2 else x.permute(0, 2, 3, 1).flatten(0, 2)


def importance(teacher: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
    """Of each place, and its scan, both [P]: of a voxel the number of its points; of a map's cell
    the largest of the teacher's channels.

    Raises UsageError for voxels [V, C] that are not those of the scans.
    """
    if teacher.dim() == 2:
        counts = seen.voxels.counts
        if len(counts) != len(teacher):
            raise UsageError(
                f"the scans have {len(counts):,} voxels and the features at the tap belong to "
                f"{len(teacher):,} places: tap a part that keeps the voxels, or a map"
            )
        return counts.to(teacher.dtype), seen.voxels.cells[:, 0]
    best = teacher.amax(1)
    scan = arange(len(best), device=best.device)[:, None, None].expand_as(best)
    return best.flatten(), scan.flatten()


def by_scan(scan: Tensor, scans: int) -> list[Tensor]:
    """Places of each scan that has at least two: int64 [P] each."""
    groups = [(scan == k).nonzero()[:, 0] for k in range(scans)]
    return [own for own in groups if len(own) > 1]


def strongest(teacher: Tensor, seen: Seen, count: int) -> list[Tensor]:
    """The `count` places of the largest importance, or all, of each scan that has at least two."""
    scores, scan = importance(teacher, seen)
    groups = by_scan(scan, seen.voxels.scans)
    return [own[scores[own].topk(min(count, len(own))).indices] for own in groups]
