"""Places of features, voxels, points or cells of a map, and which of them matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import UsageError
from geodistill.distill.losses.base import Seen, over_ranks
from geodistill.nn.bev import Predictions
from geodistill.nn.voxels import Voxels

Places = Literal["voxels", "points", "map"]
NEVER = -1e9
"""A logit whose softmax is 0."""


def kind_of(x: Tensor, seen: Seen) -> Places:
    """Of features [V, C] or [B, C, H, W], what has them."""
    if x.dim() == 4:
        return "map"
    return "voxels" if isinstance(seen.inputs, Voxels) else "points"


def rows(x: Tensor) -> Tensor:
    """Voxels or points [V, C] as they are, maps [B, C, H, W] as [B H W, C]."""
    return x if x.dim() == 2 else x.permute(0, 2, 3, 1).flatten(0, 2)


def importance(
    teacher: Tensor, seen: Seen, said: Predictions | None = None
) -> tuple[Tensor, Tensor]:
    """Of each place, and its scan, both [P]: of a voxel the number of its points; of a point or a
    map's cell the largest of the teacher's channels, or of the logits there of a head with anchors.

    Args:
        said: by the teacher's head, of maps.

    Raises UsageError for rows [V, C] that are not of the scans' voxels or points.
    """
    inputs = seen.inputs
    if teacher.dim() == 4:
        best = teacher.amax(1) if said is None else _certainty(said, seen, teacher.shape[2:])
        scan = torch.arange(len(best), device=best.device)[:, None, None].expand_as(best)
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
    scan = torch.arange(inputs.scans, device=teacher.device)
    return teacher.amax(1), scan.repeat_interleave(inputs.points.shape[1])


def _certainty(said: Predictions, seen: Seen, size: Sequence[int]) -> Tensor:
    """The largest logit of the anchors at each place of maps of so many rows and columns:
    [B, H, W]."""
    rows_, columns = seen.anchors.shape[:2]
    best = said.logits.amax(2).unflatten(1, (rows_, columns, -1)).amax(3)
    return F.adaptive_max_pool2d(best, tuple(size))


def seen_cells(seen: Seen, size: Sequence[int], reach: float | None) -> Tensor:
    """The cells of maps of so many rows and columns that are within `reach` metres, along x and
    along y, of one with a point, or all: bool [B, H, W]."""
    inputs, (height, width) = seen.inputs, size
    found = inputs.points.new_zeros(inputs.scans, height, width)
    if not isinstance(inputs, Voxels) or reach is None:
        return found == 0
    columns, rows_, _ = inputs.grid.cells
    scan, _, y, x = inputs.cells.T
    found[scan, y * height // rows_, x * width // columns] = 1
    low_x, low_y, high_x, high_y = seen.area
    for axis, step in ((1, (high_y - low_y) / height), (2, (high_x - low_x) / width)):
        beside = math.ceil(min(reach / step, height + width))  # all
        kernel, padding = [1, 1], [0, 0]
        kernel[axis - 1], padding[axis - 1] = 2 * beside + 1, beside
        found = F.max_pool2d(found, kernel, 1, padding)
    return found > 0


def seen_rows(x: Tensor, seen: Seen, reach: float | None) -> tuple[Tensor, Tensor]:
    """Which of the `rows` of features [V, C] or [B, C, H, W] are compared, int64 [P], and their
    weights in a mean, [P]: over voxels or points all alike; over maps' cells, that are seen, those
    of each scan as much as another's."""
    if x.dim() == 2:
        own = _of_scans(x[:, 0], seen)
        place = own.nonzero()[:, 0]
        return place, (1 / over_ranks(own.sum())).expand(len(place))
    own = seen_cells(seen, x.shape[2:], reach).flatten(1)
    weight = 1 / (len(own) * own.sum(1, keepdim=True).clamp(min=1))
    return own.flatten().nonzero()[:, 0], weight.expand_as(own)[own]


def _of_scans(rows_: Tensor, seen: Seen) -> Tensor:
    """Which places of rows [P] belong to a scan with points: a cloud of an empty one has zeros."""
    inputs = seen.inputs
    if isinstance(inputs, Voxels):
        return torch.ones_like(rows_, dtype=torch.bool)
    each = len(rows_) // inputs.scans
    return (inputs.counts > 0).repeat_interleave(each)


def by_scan(teacher: Tensor, scan: Tensor, seen: Seen, reach: float | None) -> list[Tensor]:
    """Places of each scan that has at least two, without cells that are not seen: int64 [P]
    each. `scan` is that of `importance`."""
    own = _of_scans(scan, seen)
    groups = [(scan == k) & own for k in range(seen.inputs.scans)]
    if teacher.dim() == 4:
        own = seen_cells(seen, teacher.shape[2:], reach).flatten()
        groups = [group & own for group in groups]
    found = [group.nonzero()[:, 0] for group in groups]
    return [own for own in found if len(own) > 1]


def strongest(teacher: Tensor, seen: Seen, count: int, reach: float | None) -> list[Tensor]:
    """The `count` places of the largest importance, or all, of each scan that has at least two."""
    scores, scan = importance(teacher, seen)
    groups = by_scan(teacher, scan, seen, reach)
    return [own[scores[own].topk(min(count, len(own))).indices] for own in groups]
