"""What each anchor learns: an object, that there is none, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.checks import check
from geodistill.detect.anchors import ClassAnchors, direction, encode
from geodistill.detect.overlap import iou_nearest

IGNORED, BACKGROUND = -2, -1


@dataclass(frozen=True, eq=False)
class Targets:
    """Of A anchors.

    Attributes:
        object: int64 [A], which of the boxes it learns; -1: that there is none; -2: nothing.
        label: int64 [A], the box's class, or the same.
        code: [A, 7] of the box; 0 where there is none.
        half: int64 [A], the half of the circle that it points to; 0 where there is none.
    """

    object: Tensor
    label: Tensor
    code: Tensor
    half: Tensor


def assign(
    anchors: Tensor,
    boxes: Tensor,
    labels: Tensor,
    classes: Sequence[ClassAnchors],
    offset: float,
    forced: Sequence[float] | None = None,
) -> Targets:
    """Assign boxes to the anchors of their class.

    An anchor learns the box that it overlaps most, seen from above in the nearest right angle, from
    the class's `positive` on, and the background below its `negative`. Each box also claims the
    anchors that overlap it most, of which several may do so equally.

    Args:
        anchors: [H, W, C, R, 7], from `anchor_grid`: rows of one y and columns of one x.
        boxes: [M, 7].
        labels: int64 [M], their classes.
        classes: C of them.
        offset: see `anchors.direction`.
        forced: for each class, the least overlap with which a box claims its best anchors: mmdet3d
            takes `negative`; None: any overlap, as OpenPCDet.

    Returns:
        Targets in the order of the anchors, A = H W C R.

    Raises ShapeError for other shapes.
    """
    check(anchors=(anchors, "H W C R 7"), boxes=(boxes, "M 7"), labels=(labels, "M"))
    found = torch.full(anchors.shape[:-1], BACKGROUND, device=anchors.device)
    for number, one in enumerate(classes):
        own = (labels == number).nonzero()[:, 0]
        if len(own) == 0:
            continue
        near = _near(anchors[:, :, number], boxes[own])
        place = anchors[:, :, number][near]  # [P, R, 7]: all others overlap nothing
        if len(place) == 0:
            continue
        overlap = iou_nearest(place.reshape(-1, 7), boxes[own])
        least = 0.0 if forced is None else forced[number]
        which = _match(overlap, one.positive, one.negative, least)
        numbered = torch.where(which >= 0, own[which.clamp(min=0)], which)
        found[:, :, number][near] = numbered.reshape(place.shape[:-1])
    return targets_of(found.reshape(-1), anchors, boxes, labels, offset)


def targets_of(
    found: Tensor, anchors: Tensor, boxes: Tensor, labels: Tensor, offset: float
) -> Targets:
    """Targets of anchors [H, W, C, R, 7], of each of which is known which box it learns [A]."""
    learnt = (found >= 0).nonzero()[:, 0]
    mine = boxes[found[learnt]]
    code = torch.zeros(len(found), 7, dtype=anchors.dtype, device=anchors.device)
    code[learnt] = encode(mine, anchors.reshape(-1, 7)[learnt])
    half = torch.zeros_like(found)
    half[learnt] = direction(mine[:, 6], offset)
    label = found.clone()
    label[learnt] = labels[found[learnt]]
    return Targets(found, label, code, half)


def _near(anchors: Tensor, boxes: Tensor) -> Tensor:
    """The cells whose anchors [H, W, R, 7] can overlap any of boxes [M, 7]: bool [H, W]."""
    reach = (boxes[:, 3:5].amax(1) + anchors[..., 3:5].amax()) / 2 * 1.001
    columns = (anchors[0, :, 0, None, 0] - boxes[:, 0]).abs() <= reach  # [W, M]
    rows = (anchors[:, 0, 0, None, 1] - boxes[:, 1]).abs() <= reach  # [H, M]
    return (rows[:, None] & columns).any(2)


def _match(overlap: Tensor, positive: float, negative: float, least: float) -> Tensor:
    """Of each row the column that it learns, BACKGROUND or IGNORED: [A] of [A, M]."""
    best, which = overlap.max(1)
    found = torch.full_like(which, IGNORED)
    found[best < negative] = BACKGROUND
    found = torch.where(best >= positive, which, found)
    most = overlap.max(0).values
    for column in range(overlap.shape[1]):
        if most[column] > 0 and most[column] >= least:
            found[overlap[:, column] == most[column]] = column
    return found
