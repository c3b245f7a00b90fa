"""Where objects are on a map seen from above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.detect.boxes import turn

Area = tuple[float, float, float, float]
LEAST_RADIUS, LEAST_OVERLAP = 2, 0.1  # CenterPoint's


def centers(area: Area, size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """x [W] and y [H] of the middles of the cells of a map of so many rows and columns."""
    height, width = size
    x = area[0] + (torch.arange(width).to(like) + 0.5) * (area[2] - area[0]) / width
    y = area[1] + (torch.arange(height).to(like) + 0.5) * (area[3] - area[1]) / height
    return x, y


def footprints(boxes: Tensor, area: Area, size: tuple[int, int]) -> Tensor:
    """The cells of a map whose middle is in each box seen from above, and in any case that in which
    the box's own middle is: bool [M, H, W] of boxes [M, 7]."""
    x, y = centers(area, size, boxes)
    away_x = x - boxes[:, None, None, 0]
    away_y = y[:, None] - boxes[:, None, None, 1]
    half = boxes[:, 3:5, None, None] / 2
    along, across = turn(away_x, away_y, -boxes[:, 6, None, None])
    within = (along.abs() <= half[:, 0]) & (across.abs() <= half[:, 1])
    steps = (x[1] - x[0], y[1] - y[0]) if min(size) > 1 else (area[2] - area[0], area[3] - area[1])
    own = (away_x.abs() <= steps[0] / 2) & (away_y.abs() <= steps[1] / 2)
    return within | own


@dataclass(frozen=True, eq=False)
class Shares:
    """How much the cells of maps [B, H, W] count: each object as much as any other, and the
    background as much as an object.

    Attributes:
        objects: 1 / cells of the box that a cell is in, of the smallest of several; else 0.
        background: 1 / cells of the scan without an object where there is none; else 0.
    """

    objects: Tensor
    background: Tensor


def shares(boxes: Sequence[Tensor], area: Area, own: Tensor, like: Tensor) -> Shares:
    """Of each scan's boxes [M, 7], and of `own` cells alone, bool [B, H, W].

    Source: Yang et al., "Focal and Global Knowledge Distillation for Detectors" (CVPR 2022),
    with boxes that are turned.
    """
    size = (own.shape[1], own.shape[2])
    found = like.new_zeros(own.shape)
    for k, several in enumerate(boxes):
        if len(several):
            masks = footprints(several.to(like), area, size) & own[k]
            cells = masks.sum((1, 2)).clamp(min=1)  # a box may be outside of the map
            found[k] = (masks / cells[:, None, None]).amax(0)
    empty = ((found == 0) & own).to(like)
    return Shares(found, empty / empty.sum((1, 2), keepdim=True).clamp(min=1))


def heat(boxes: Tensor, area: Area, size: tuple[int, int]) -> Tensor:
    """Gaussians about the middles of boxes [M, 7], 1 there, and the larger where two meet: [H, W].

    Source: Yin et al., "Center-based 3D Object Detection and Tracking" (CVPR 2021): a radius in
    cells from `radius`, three standard deviations, and cut off there.
    """
    height, width = size
    found = boxes.new_zeros(height, width)
    if len(boxes) == 0:
        return found
    step_x, step_y = (area[2] - area[0]) / width, (area[3] - area[1]) / height
    column = ((boxes[:, 0] - area[0]) / step_x).floor()
    row = ((boxes[:, 1] - area[1]) / step_y).floor()
    reach = radius(boxes[:, 3] / step_x, boxes[:, 4] / step_y).floor().clamp(min=LEAST_RADIUS)
    away_x = torch.arange(width).to(boxes) - column[:, None]  # [M, W]
    away_y = torch.arange(height).to(boxes) - row[:, None]
    square = away_x.square()[:, None] + away_y.square()[:, :, None]
    deviation = (2 * reach + 1) / 6
    value = (-square / (2 * deviation.square()[:, None, None])).exp()
    near = (away_x.abs() <= reach[:, None])[:, None] & (away_y.abs() <= reach[:, None])[:, :, None]
    within = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return (value * (near & within[:, None, None])).amax(0)


def radius(length: Tensor, width: Tensor, overlap: float = LEAST_OVERLAP) -> Tensor:
    """By how many cells a box's corners may be off, so that it still overlaps itself by `overlap`.

    Source: Law and Deng, "CornerNet" (ECCV 2018), section 3.2, with the released code's roots,
    which CenterPoint's keeps.
    """
    both, product = length + width, length * width
    one = (both + (both.square() - 4 * product * (1 - overlap) / (1 + overlap)).sqrt()) / 2
    two = (2 * both + (4 * both.square() - 16 * (1 - overlap) * product).sqrt()) / 2
    bent = 2 * overlap * both
    three = (-bent + (bent.square() + 16 * overlap * (1 - overlap) * product).sqrt()) / 2
    return torch.minimum(torch.minimum(one, two), three)
