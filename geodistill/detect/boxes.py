"""Oriented boxes, in one convention inside and in those of the field at the door.

Inside, a box is seven numbers in a frame with z up: the centre x, y, z, the sizes length (along x
at a yaw of 0), width and height, all in the frame's unit, and the yaw, in radians from x towards y.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from geodistill.checks import check, choose

# Of a unit square, counter-clockwise from the front right.
_CORNERS = ((0.5, -0.5), (0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5))


def wrap(angle: Tensor) -> Tensor:
    """The same angles in [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def turn(x: Tensor, y: Tensor, yaw: Tensor) -> tuple[Tensor, Tensor]:
    """x and y turned about z by yaws in radians, from x towards y."""
    cos, sin = yaw.cos(), yaw.sin()
    return x * cos - y * sin, x * sin + y * cos


def turned(xyz: Tensor, angle: Tensor) -> Tensor:
    """Points [..., 3] turned about z by angles [...] in radians, from x towards y."""
    x, y, z = xyz.unbind(-1)
    return torch.stack([*turn(x, y, angle), z], -1)


def corners_bev(boxes: Tensor) -> Tensor:
    """The corners of boxes [..., 7] seen from above, counter-clockwise: [..., 4, 2].

    Raises ShapeError for boxes of another shape.
    """
    check(boxes=(boxes, "... 7"))
    unit = boxes.new_tensor(_CORNERS)
    local = unit * boxes[..., None, 3:5]
    around = turn(local[..., 0], local[..., 1], boxes[..., 6:])
    return boxes[..., None, :2] + torch.stack(around, -1)


def corners(boxes: Tensor) -> Tensor:
    """All corners of boxes [..., 7]: those of the bottom, then those above them, [..., 8, 3]."""
    around = corners_bev(boxes)
    half = boxes[..., None, 5:6] / 2
    center = boxes[..., None, 2:3].expand(*around.shape[:-1], 1)
    bottom, top = (torch.cat([around, center + sign * half], -1) for sign in (-1, 1))
    return torch.cat([bottom, top], -2)


def inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether points [N, 3] lie in boxes [M, 7], their faces included: bool [N, M].

    Raises ShapeError for other shapes.
    """
    check(points=(points, "N 3"), boxes=(boxes, "M 7"))
    # Only pairs that are near each other along both axes are looked at closely.
    reach = boxes[:, 3:5].norm(dim=1)[:, None] / 2 * 1.001
    x, y = points[:, 0].contiguous(), points[:, 1].contiguous()
    near = (x - boxes[:, :1]).abs_() <= reach
    near &= (y - boxes[:, 1:2]).abs_() <= reach
    box, point = near.nonzero(as_tuple=True)
    own = boxes[box]
    away = points[point] - own[:, :3]
    local = torch.stack([*turn(away[:, 0], away[:, 1], -own[:, 6]), away[:, 2]], 1)
    near[box, point] = (local.abs() <= own[:, 3:6] / 2).all(1)
    return near.T


def to_convention(boxes: Tensor, name: str) -> Tensor:
    """Boxes [..., 7] as another toolbox writes them; see `CONVENTIONS`.

    Raises UsageError for an unknown name, ShapeError for boxes of another shape.
    """
    check(boxes=(boxes, "... 7"))
    return choose("box convention", name, CONVENTIONS)[0](boxes)


def from_convention(boxes: Tensor, name: str) -> Tensor:
    """The inverse of `to_convention`."""
    check(boxes=(boxes, "... 7"))
    return choose("box convention", name, CONVENTIONS)[1](boxes)


def _raised(boxes: Tensor, by: float) -> Tensor:
    moved = boxes.clone()
    moved[..., 2] += by * boxes[..., 5]
    return moved


def _to_old(boxes: Tensor) -> Tensor:
    x, y, z, length, width, height, yaw = _raised(boxes, -0.5).unbind(-1)
    return torch.stack([x, y, z, width, length, height, wrap(-yaw - math.pi / 2)], -1)


def _from_old(boxes: Tensor) -> Tensor:
    x, y, z, width, length, height, turn = boxes.unbind(-1)
    own = torch.stack([x, y, z, length, width, height, wrap(-turn - math.pi / 2)], -1)
    return _raised(own, 0.5)


CONVENTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "openpcdet": (Tensor.clone, Tensor.clone),
    "mmdet3d": (lambda boxes: _raised(boxes, -0.5), lambda boxes: _raised(boxes, 0.5)),
    "mmdet3d-0": (_to_old, _from_old),
}
"""To and from each:

openpcdet   the centre; that of this package
mmdet3d     1.0 and later: z is that of the bottom
mmdet3d-0   before 1.0: z of the bottom; width before length; yaw from -y, clockwise
"""
