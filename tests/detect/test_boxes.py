"""Conventions of boxes, against the corners that they mean."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geodistill.checks import UsageError
from geodistill.detect.boxes import (
    CONVENTIONS,
    corners,
    corners_bev,
    from_convention,
    inside,
    to_convention,
    wrap,
)
from tests.detect.made import random_boxes


def old_corners(box: Tensor) -> Tensor:
    """What mmdet3d before 1.0 means: at a yaw of 0 length lies along y; it turns clockwise."""
    x, y, z, width, length, height, yaw = box.tolist()
    around = []
    for u, v in ((0.5, -0.5), (0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5)):
        dx, dy = u * width, v * length
        cos, sin = math.cos(yaw), math.sin(yaw)
        around += [(x + dx * cos + dy * sin, y - dx * sin + dy * cos)]
    return torch.tensor([(*p, h) for h in (z, z + height) for p in around], dtype=torch.float64)


def test_old_boxes_have_the_same_corners() -> None:
    boxes = random_boxes(50, 0)
    for box, old in zip(boxes, to_convention(boxes, "mmdet3d-0"), strict=True):
        gap = torch.cdist(corners(box), old_corners(old))
        assert gap.amin(0).max() < 1e-9 and gap.amin(1).max() < 1e-9
    front = corners_bev(boxes)[:, :2].mean(1) - boxes[:, :2]
    yaw = torch.atan2(front[:, 1], front[:, 0])
    torch.testing.assert_close(wrap(yaw - boxes[:, 6]).abs().max().item(), 0.0, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_conventions_go_back_and_forth(name: str) -> None:
    boxes = random_boxes(50, 1)
    boxes[:, 6] = wrap(boxes[:, 6])
    there = to_convention(boxes, name)
    torch.testing.assert_close(from_convention(there, name), boxes, atol=1e-12, rtol=0)
    assert (there is not boxes) and (name == "openpcdet" or not there.equal(boxes))


def test_an_unknown_convention_is_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'mmdet3d'"):
        to_convention(torch.zeros(1, 7), "mmdet3")


def test_points_inside() -> None:
    boxes = random_boxes(20, 2)
    shares = torch.tensor(
        [[0.0, 0, 0], [0.49, 0.49, 0.49], [-0.49, 0.49, -0.49], [0.51, 0, 0], [0, 0, -0.51]]
    )
    local = shares.double()[None] * boxes[:, None, 3:6]
    cos, sin = boxes[:, 6:].cos(), boxes[:, 6:].sin()
    x, y = local[..., 0], local[..., 1]
    points = (
        torch.stack([x * cos - y * sin, x * sin + y * cos, local[..., 2]], -1) + boxes[:, None, :3]
    )
    for k, own in enumerate(points):
        assert inside(own, boxes[k : k + 1])[:, 0].tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("angle", [0.0, 3.0, -3.0, 7.0, -100.0, math.pi])
def test_angles_are_wrapped(angle: float) -> None:
    found = wrap(torch.tensor(angle, dtype=torch.float64)).item()
    assert -math.pi <= found < math.pi
    assert math.cos(found) == pytest.approx(math.cos(angle)) and math.sin(found) == pytest.approx(
        math.sin(angle), abs=1e-9
    )
