"""Anchors, their code, and what they learn."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from geodistill.checks import UsageError
from geodistill.detect.anchors import (
    KITTI,
    ClassAnchors,
    anchor_grid,
    decode,
    directed,
    direction,
    encode,
)
from geodistill.detect.boxes import wrap
from geodistill.detect.losses import code_loss, focal_loss
from geodistill.detect.overlap import iou_nearest
from geodistill.detect.targets import assign
from tests.detect.made import random_boxes

AREA = (0.0, -39.68, 69.12, 39.68)


def test_the_grid_of_pointpillars() -> None:
    grid = anchor_grid(KITTI, AREA, (248, 216))
    assert grid.shape == (248, 216, 3, 2, 7) and grid[..., 0].numel() == 321_408
    torch.testing.assert_close(
        grid[0, 0, 2, 1], torch.tensor([0.16, -39.52, -1.0, 3.9, 1.6, 1.56, 1.57])
    )
    step = grid[1, 1] - grid[0, 0]
    torch.testing.assert_close(step[..., :2], torch.full((3, 2, 2), 0.32), atol=1e-5, rtol=0)
    bottom = grid[..., 2] - grid[..., 5] / 2
    torch.testing.assert_close(bottom[5, 5, :, 0], torch.tensor([-0.6, -0.6, -1.78]))


def test_the_grid_of_second_reaches_both_ends() -> None:
    grid = anchor_grid(KITTI, (0.0, -40.0, 70.4, 40.0), (200, 176), "ends")
    assert grid[..., 0].numel() == 211_200
    corners = grid[[0, -1]][:, [0, -1], 0, 0, :2]
    torch.testing.assert_close(corners[0, 0], torch.tensor([0.0, -40.0]))
    torch.testing.assert_close(corners[1, 1], torch.tensor([70.4, 40.0]))


def test_classes_need_as_many_yaws() -> None:
    odd = ClassAnchors("Van", (5, 2, 2), -1.7, 0.6, 0.45, yaws=(0.0,))
    with pytest.raises(UsageError, match="as many yaws"):
        anchor_grid((*KITTI, odd), AREA, (2, 2))


def test_codes_go_back_and_forth() -> None:
    boxes, anchors = random_boxes(50, 0), random_boxes(50, 1)
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes)
    assert encode(anchors, anchors).abs().max() == 0
    code = encode(
        torch.tensor([[4.0, 2, 3, 8, 2, 3, 0.5]]), torch.tensor([[1.0, -2, 1, 4, 3, 2, 0.2]])
    )
    wanted = [3 / 5, 4 / 5, 1.0, math.log(2), math.log(2 / 3), math.log(1.5), 0.3]
    torch.testing.assert_close(code[0], torch.tensor(wanted))


@pytest.mark.parametrize("offset", [math.pi / 4, -math.pi / 2, 0.0])
def test_directions_undo_half_turns(offset: float) -> None:
    yaw = 5 * torch.randn(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    half = direction(yaw, offset)
    assert set(half.tolist()) == {0, 1}
    for turns in (-1, 0, 2, 3):
        found = directed(yaw + turns * math.pi, half, offset)
        assert wrap(found - yaw).abs().max() < 1e-9
    assert (direction(yaw + math.pi, offset) != half).all()


def test_anchors_learn_what_they_overlap() -> None:
    grid = anchor_grid(KITTI, (0.0, -8.0, 16.0, 8.0), (20, 20))
    boxes = torch.tensor(
        [
            [6.0, 1.0, -1.0, 3.9, 1.6, 1.56, 0.05],
            [9.0, -3.0, 0.2, 0.8, 0.6, 1.73, 2.0],
            [12.3, 5.1, -1.0, 2.0, 0.8, 1.4, 0.7],  # too small to be a positive of any
        ]
    )
    labels = torch.tensor([2, 0, 2])
    found = assign(grid, boxes, labels, KITTI, 0.0)
    flat = grid.reshape(-1, 7)
    kind = torch.arange(3).repeat_interleave(2).repeat(400)
    for number, one in enumerate(KITTI):
        own = (labels == number).nonzero()[:, 0]
        if not len(own):
            assert (found.object[kind == number] == -1).all()
            continue
        overlap = iou_nearest(flat[kind == number], boxes[own])
        got = found.object[kind == number]
        for row, which in zip(overlap.tolist(), got.tolist(), strict=True):
            claims = [m for m in range(len(own)) if row[m] == overlap[:, m].max() and row[m] > 0]
            if claims:
                assert which in [int(own[m]) for m in claims]
            elif max(row) >= one.positive:
                assert which == int(own[row.index(max(row))])
            else:
                assert which == (-1 if max(row) < one.negative else -2)
    assert {0, 1, 2, -1, -2} == set(found.object.tolist())
    learnt = found.object >= 0
    again = decode(found.code[learnt], flat[learnt])
    torch.testing.assert_close(again, boxes[found.object[learnt]])
    assert (found.label[learnt] == labels[found.object[learnt]]).all()
    assert (found.label[learnt] == kind[learnt]).all()
    strict = assign(grid, boxes, labels, KITTI, 0.0, [one.negative for one in KITTI])
    assert 2 not in strict.object.tolist() and 0 in strict.object.tolist()


def test_no_objects_are_all_background() -> None:
    grid = anchor_grid(KITTI, AREA, (4, 4))
    found = assign(grid, torch.zeros(0, 7), torch.zeros(0, dtype=torch.int64), KITTI, 0.0)
    assert set(found.object.tolist()) == {-1} and found.code.abs().max() == 0
    far = torch.tensor([[500.0, 0.0, -1.0, 3.9, 1.6, 1.56, 0.0]])
    found = assign(grid, far, torch.tensor([2]), KITTI, 0.0)
    assert set(found.object.tolist()) == {-1} and found.code.abs().max() == 0


def test_the_focal_loss_is_its_formula() -> None:
    logits = torch.linspace(-6, 6, 25, dtype=torch.float64)[:, None]
    for target in (0.0, 1.0):
        p = torch.sigmoid(logits) if target else 1 - torch.sigmoid(logits)
        wanted = -(0.25 if target else 0.75) * (1 - p) ** 2 * p.log()
        torch.testing.assert_close(focal_loss(logits, torch.full_like(logits, target)), wanted)
    extreme = torch.tensor([[-200.0, 200.0]])
    assert focal_loss(extreme, torch.tensor([[1.0, 0.0]])).isfinite().all()


def test_the_code_loss_forgives_half_turns_only() -> None:
    code = torch.randn(20, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turned = code.clone()
    turned[:, 6] += math.pi
    assert code_loss(turned, code).abs().max() < 1e-12
    away = code + 0.3
    wanted = F.smooth_l1_loss(away, code, beta=1 / 9, reduction="none")
    found = code_loss(away, code)
    torch.testing.assert_close(found[:, :6], wanted[:, :6])
    # As the published heads write it: sin a cos b and cos a sin b.
    a, b = away[:, 6], code[:, 6]
    torch.testing.assert_close(
        found[:, 6],
        F.smooth_l1_loss(a.sin() * b.cos(), a.cos() * b.sin(), beta=1 / 9, reduction="none"),
    )
