"""How much oriented boxes overlap, on any device: convex polygons are clipped by their corners and
crossings, many pairs at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geodistill.checks import check
from geodistill.detect.boxes import corners_bev, turn

_CHUNK = 1 << 16  # pairs at a time: a few hundred numbers each
_TOUCH = 1e-9
"""Of the boxes' size, by which corners on an edge count as inside; sine of the angle between edges
up to which they are parallel."""


def intersection_area(a: Tensor, b: Tensor) -> Tensor:
    """Areas that boxes a [P, 7] and b [P, 7] share seen from above, pair by pair: float64 [P].

    Computed about the first box's centre, so that nothing depends on where in the world they are.

    Raises ShapeError for other shapes.
    """
    check(a=(a, "P 7"), b=(b, "P 7"))
    parts = zip(a.double().split(_CHUNK), b.double().split(_CHUNK), strict=True)
    return torch.cat([_shared(*part) for part in parts])


def shared_area(a: Tensor, b: Tensor) -> Tensor:
    """Areas that each of the boxes a [N, 7] shares with each of b [M, 7]: float64 [N, M]."""
    check(a=(a, "N 7"), b=(b, "M 7"))
    a, b = a.double(), b.double()
    # Boxes that are farther apart than their half diagonals do not meet.
    reach = (a[:, 3:5].norm(dim=1)[:, None] + b[:, 3:5].norm(dim=1)) / 2
    one, two = (torch.cdist(a[:, :2], b[:, :2]) < reach).nonzero(as_tuple=True)
    found = a.new_zeros(len(a), len(b))
    found[one, two] = intersection_area(a[one], b[two])
    return found


def iou_bev(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes a [N, 7] and b [M, 7] seen from above: float64 [N, M]."""
    shared = shared_area(a, b)
    return _over_union(shared, a[:, 3:5], b[:, 3:5])


def overlapping(a: Tensor, b: Tensor, threshold: float) -> Tensor:
    """Whether `iou_bev` of boxes a [N, 7] and b [M, 7] is above a threshold: bool [N, M].

    Areas are computed only where bounds of them leave it open, which is for few pairs when the
    threshold is high.
    """
    check(a=(a, "N 7"), b=(b, "M 7"))
    a, b = a.double(), b.double()
    reach = (a[:, 3:5].norm(dim=1)[:, None] + b[:, 3:5].norm(dim=1)) / 2
    sizes, others = a[:, 3:5].prod(1)[:, None], b[:, 3:5].prod(1)
    # No more is shared than the smaller box has.
    alike = torch.minimum(sizes, others) >= threshold * (1 - _TOUCH) * torch.maximum(sizes, others)
    near = (a[:, None, :2] - b[:, :2]).square().sum(-1) < reach.square()
    one, two = (near & alike).nonzero(as_tuple=True)
    p, q = a[one], b[two]
    both = sizes[one, 0] + others[two]
    most = torch.minimum(_at_most_shared(p, q), _at_most_shared(q, p))
    open_ = most * (1 + threshold) >= threshold * both * (1 - _TOUCH)
    shared = intersection_area(p[open_], q[open_])
    found = torch.zeros_like(near)
    above = shared > threshold * (both[open_] - shared)
    found[one[open_], two[open_]] = above
    return found


def iou_3d(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of the volumes of boxes a [N, 7] and b [M, 7]: float64 [N, M]."""
    shared = shared_area(a, b)
    (low_a, high_a), (low_b, high_b) = _ends(a.double()), _ends(b.double())
    depth = torch.minimum(high_a[:, None], high_b) - torch.maximum(low_a[:, None], low_b)
    return _over_union(shared * depth.clamp(min=0), a[:, 3:6], b[:, 3:6])


def iou_nearest(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union seen from above of boxes a [N, 7] and b [M, 7] whose yaw is taken as
    the nearest multiple of a right angle, as anchors are matched: [N, M], in the boxes' dtype."""
    check(a=(a, "N 7"), b=(b, "M 7"))
    (low_a, high_a), (low_b, high_b) = _upright(a), _upright(b)
    sides = [
        torch.minimum(high_a[:, None, k], high_b[:, k])
        - torch.maximum(low_a[:, None, k], low_b[:, k])
        for k in (0, 1)
    ]
    shared = sides[0].clamp_(min=0) * sides[1].clamp_(min=0)
    return _over_union(shared, a[:, 3:5], b[:, 3:5])


def meet(a: Tensor, b: Tensor) -> Tensor:
    """Whether boxes a [N, 7] and b [M, 7] meet seen from above, more than in a line: bool [N, M].

    Two rectangles do unless a line along a side of either separates them: cheaper than areas.
    """
    check(a=(a, "N 7"), b=(b, "M 7"))
    a, b = a.double(), b.double()
    one, two = corners_bev(a), corners_bev(b)
    apart = _parted(a, one, two) | _parted(b, two, one).T
    return ~apart


def _parted(boxes: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """Whether a side of boxes [N, 7] with corners own [N, 4, 2] separates each from others
    [M, 4, 2]: [N, M]."""
    cos, sin = boxes[:, 6].cos(), boxes[:, 6].sin()
    apart = torch.zeros(len(boxes), len(others), dtype=torch.bool, device=boxes.device)
    for x, y in ((cos, sin), (-sin, cos)):
        p = own[..., 0] * x[:, None] + own[..., 1] * y[:, None]  # [N, 4]
        q = others[None, ..., 0] * x[:, None, None] + others[None, ..., 1] * y[:, None, None]
        apart |= (p.amax(1)[:, None] <= q.amin(2)) | (q.amax(2) <= p.amin(1)[:, None])
    return apart


def _ends(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return boxes[:, 2] - boxes[:, 5] / 2, boxes[:, 2] + boxes[:, 5] / 2


def _over_union(shared: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Of boxes of sizes a [N, D] and b [M, D]."""
    union = a.to(shared).prod(1)[:, None] + b.to(shared).prod(1) - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(shared))


def _at_most_shared(a: Tensor, b: Tensor) -> Tensor:
    """Of pairs of boxes: what each shares with the rectangle along its axes around the other."""
    away = b[:, :2] - a[:, :2]
    along = torch.stack(turn(away[:, 0], away[:, 1], -a[:, 6]))
    between = b[:, 6] - a[:, 6]
    cos, sin = between.cos().abs(), between.sin().abs()
    length, width = b[:, 3], b[:, 4]
    half = torch.stack([length * cos + width * sin, length * sin + width * cos]) / 2
    own = a[:, 3:5].T / 2
    extent = torch.minimum(own, along + half) - torch.maximum(-own, along - half)
    return extent.clamp(min=0).prod(0)


def _upright(boxes: Tensor) -> tuple[Tensor, Tensor]:
    quarter = torch.remainder(boxes[:, 6], math.pi)
    swapped = (quarter > math.pi / 4) & (quarter < 3 * math.pi / 4)
    half = torch.where(swapped[:, None], boxes[:, [4, 3]], boxes[:, 3:5]) / 2
    return boxes[:, :2] - half, boxes[:, :2] + half


def _shared(a: Tensor, b: Tensor) -> Tensor:
    """Of pairs of boxes, in float64."""
    shift = a[:, :3].clone()
    shift[:, 2] = 0
    p = corners_bev(torch.cat([a[:, :3] - shift, a[:, 3:]], 1))  # [P, 4, 2]
    q = corners_bev(torch.cat([b[:, :3] - shift, b[:, 3:]], 1))
    crossings, crossed = _crossings(p, q)
    points = torch.cat([p, q, crossings], 1)  # [P, 24, 2]
    real = torch.cat([_within(p, q), _within(q, p), crossed], 1)
    # About their mean, which is inside of what they span: in order of their angle there, they are
    # its outline. Points that are none take the place of the first that is one.
    count = real.sum(1, keepdim=True).clamp(min=1)
    middle = (points * real[..., None]).sum(1) / count
    away = points - middle[:, None]
    angle = torch.atan2(away[..., 1], away[..., 0]).masked_fill(~real, math.inf)
    order = angle.argsort(1)
    around = away.gather(1, order[..., None].expand(-1, -1, 2))
    kept = real.gather(1, order)
    around = torch.where(kept[..., None], around, around[:, :1])
    after = around.roll(-1, 1)
    cross = around[..., 0] * after[..., 1] - around[..., 1] * after[..., 0]
    area = cross.sum(1) / 2
    # A box of no size has no sides that anything could be outside of.
    solid = (a[:, 3:5].prod(1) != 0) & (b[:, 3:5].prod(1) != 0) & (real.sum(1) > 2)
    return torch.where(solid, area, torch.zeros_like(area)).clamp(min=0)


def _crossings(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Where each edge of one crosses each edge of the other: [P, 16, 2], and whether it does.

    Parallel ones do not, on one line either: where they part there are corners.
    """
    start, step = p[:, :, None], (p.roll(-1, 1) - p)[:, :, None]
    other, along = q[:, None], (q.roll(-1, 1) - q)[:, None]
    gap = other - start
    det = _cross(step, along)
    crossing = det.abs() > _TOUCH * step.norm(dim=-1) * along.norm(dim=-1)
    safe = torch.where(crossing, det, torch.ones_like(det))
    t, u = _cross(gap, along) / safe, _cross(gap, step) / safe
    hit = crossing & (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
    where = start + t[..., None] * step
    return where.flatten(1, 2), hit.flatten(1, 2)


def _within(points: Tensor, box: Tensor) -> Tensor:
    """Whether points [P, 4, 2] are inside of convex outlines [P, 4, 2], edges included: [P, 4]."""
    edge = (box.roll(-1, 1) - box)[:, None]
    side = _cross(edge, points[:, :, None] - box[:, None])
    size = edge.norm(dim=-1).amax(-1, keepdim=True) ** 2
    return (side >= -_TOUCH * size).all(-1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
