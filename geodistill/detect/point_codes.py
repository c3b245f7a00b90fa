"""Boxes as points see them: the way from a point to the centre, the size against that of the class,
and the yaw as a direction.

Source: Shi, Wang and Li, "PointRCNN" (CVPR 2019), section 3.2, with the residuals of its later
implementations in the place of bins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill.checks import check
from geodistill.detect import anchors
from geodistill.detect.boxes import turned

CODES = 8


def encode(boxes: Tensor, points: Tensor, sizes: Tensor) -> Tensor:
    """What points [N, 3] must learn to become boxes [N, 7], [N, 8]: the way to the centre in
    diagonals and heights of their classes' mean sizes [N, 3], logarithms of the sizes' ratios, and
    cosine and sine of the yaw."""
    check(boxes=(boxes, "N 7"), points=(points, "N 3"), sizes=(sizes, "N 3"))
    codes = anchors.encode(boxes, _upright(points, sizes))
    return torch.cat([codes[:, :6], boxes[:, 6:].cos(), boxes[:, 6:].sin()], 1)


def decode(codes: Tensor, points: Tensor, sizes: Tensor) -> Tensor:
    """The inverse of `encode`: the yaw is in [-pi, pi], and of a direction of any length."""
    check(codes=(codes, "N 8"), points=(points, "N 3"), sizes=(sizes, "N 3"))
    upright = anchors.decode(
        torch.cat([codes[:, :6], codes[:, 6:7] * 0], 1), _upright(points, sizes)
    )
    yaw = torch.atan2(codes[:, 7:], codes[:, 6:7])
    return torch.cat([upright[:, :6], yaw], 1)


def to_own_frame(boxes: Tensor, frames: Tensor) -> Tensor:
    """Boxes [N, 7] in the frames of other boxes [N, 7]: from their centres, along their axes."""
    check(boxes=(boxes, "N 7"), frames=(frames, "N 7"))
    xyz = turned(boxes[:, :3] - frames[:, :3], -frames[:, 6])
    return torch.cat([xyz, boxes[:, 3:6], boxes[:, 6:] - frames[:, 6:]], 1)


def from_own_frame(boxes: Tensor, frames: Tensor) -> Tensor:
    """The inverse of `to_own_frame`."""
    check(boxes=(boxes, "N 7"), frames=(frames, "N 7"))
    xyz = turned(boxes[:, :3], frames[:, 6]) + frames[:, :3]
    return torch.cat([xyz, boxes[:, 3:6], boxes[:, 6:] + frames[:, 6:]], 1)


def _upright(points: Tensor, sizes: Tensor) -> Tensor:
    """Boxes of these sizes about points, at a yaw of 0."""
    return torch.cat([points, sizes, torch.zeros_like(points[:, :1])], 1)
