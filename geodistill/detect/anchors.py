"""Boxes that predictions start from, one grid of them for each class, and the code between the two.

Sources: Yan et al., "SECOND" (Sensors 2018); Lang et al., "PointPillars" (CVPR 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from geodistill.checks import ABOVE_ZERO, UsageError, check, expect_within

Placing = Literal["centers", "ends"]


@dataclass(frozen=True)
class ClassAnchors:
    """The anchors of one class, and which of them its objects are learnt by.

    Attributes:
        name: of the class.
        size: length, width and height in metres.
        bottom: z of their lower face in metres.
        positive, negative: an anchor learns the object with which its intersection over union is
            largest if that is `positive` or more, and that there is none if it is below `negative`;
            in between it learns nothing.
        yaws: in radians.
    """

    name: str
    size: tuple[float, float, float]
    bottom: float
    positive: float
    negative: float
    yaws: tuple[float, ...] = (0.0, 1.57)

    def __post_init__(self) -> None:
        anywhere, share = (-math.inf, math.inf), (0, 1)
        expect_within(self, size=ABOVE_ZERO, bottom=anywhere, yaws=anywhere)
        expect_within(self, positive=share, negative=share)
        if not self.yaws:
            raise UsageError(f"anchors of {self.name} need at least one of yaws")
        if self.positive < self.negative:
            raise UsageError(
                f"positive must be at least negative, {self.negative:g}, got {self.positive:g}"
            )


KITTI = (
    ClassAnchors("Pedestrian", (0.8, 0.6, 1.73), -0.6, 0.5, 0.35),
    ClassAnchors("Cyclist", (1.76, 0.6, 1.73), -0.6, 0.5, 0.35),
    ClassAnchors("Car", (3.9, 1.6, 1.56), -1.78, 0.6, 0.45),
)
"""As all published detectors of KITTI have them; the order is that of mmdet3d."""


def anchor_grid(
    classes: tuple[ClassAnchors, ...],
    area: tuple[float, float, float, float],
    cells: tuple[int, int],
    placing: Placing = "centers",
) -> Tensor:
    """Anchors of every cell of a grid on the ground.

    Args:
        classes: C of them, all with R yaws.
        area: least x and y, largest x and y in metres.
        cells: H along y and W along x.
        placing: "centers" of the cells; or "ends", from one edge of the area to the other, as
            OpenPCDet's and mmdet3d's SECOND place them.

    Returns:
        Boxes [H, W, C, R, 7].

    Raises UsageError for classes with different numbers of yaws.
    """
    if len({len(one.yaws) for one in classes}) != 1:
        raise UsageError("all classes of a head need as many yaws")
    x, y = (
        _places(area[axis], area[axis + 2], count, placing)
        for axis, count in ((0, cells[1]), (1, cells[0]))
    )
    shapes = torch.tensor(
        [[[one.bottom + one.size[2] / 2, *one.size, yaw] for yaw in one.yaws] for one in classes]
    )
    grid = torch.empty(*cells, *shapes.shape[:2], 7)
    grid[..., 0] = x[None, :, None, None]
    grid[..., 1] = y[:, None, None, None]
    grid[..., 2:] = shapes
    return grid


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """What anchors [..., 7] must learn to become boxes [..., 7]: the way to the centre in diagonals
    and heights of the anchor, logarithms of the sizes' ratios, and the turn in radians."""
    check(boxes=(boxes, "... 7"), anchors=(anchors, "... 7"))
    diagonal = anchors[..., 3:5].norm(dim=-1, keepdim=True)
    ground = (boxes[..., :2] - anchors[..., :2]) / diagonal
    up = (boxes[..., 2:3] - anchors[..., 2:3]) / anchors[..., 5:6]
    sizes = (boxes[..., 3:6] / anchors[..., 3:6]).log()
    return torch.cat([ground, up, sizes, boxes[..., 6:] - anchors[..., 6:]], -1)


def decode(codes: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `encode`."""
    check(codes=(codes, "... 7"), anchors=(anchors, "... 7"))
    diagonal = anchors[..., 3:5].norm(dim=-1, keepdim=True)
    ground = codes[..., :2] * diagonal + anchors[..., :2]
    up = codes[..., 2:3] * anchors[..., 5:6] + anchors[..., 2:3]
    sizes = codes[..., 3:6].exp() * anchors[..., 3:6]
    return torch.cat([ground, up, sizes, codes[..., 6:] + anchors[..., 6:]], -1)


def direction(yaw: Tensor, offset: float) -> Tensor:
    """Which half of the circle from `offset` on yaws point to: 0 or 1, int64."""
    around = torch.remainder(yaw - offset, 2 * math.pi)
    return (around / math.pi).floor().long().clamp(0, 1)


def directed(yaw: Tensor, half: Tensor, offset: float) -> Tensor:
    """Yaws that are right but for half turns, made to point to their half of the circle."""
    return torch.remainder(yaw - offset, math.pi) + offset + math.pi * half.to(yaw)


def _places(low: float, high: float, count: int, placing: Placing) -> Tensor:
    if placing == "ends":
        return torch.linspace(low, high, count)
    edge = torch.linspace(low, high, count + 1)
    return (edge[1:] + edge[:-1]) / 2
