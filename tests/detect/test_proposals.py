"""What points and proposals learn, against plain loops, and codes against their inverses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geodistill.checks import ShapeError
from geodistill.detect import point_codes
from geodistill.detect.boxes import corners, inside, wrap
from geodistill.detect.losses import corner_loss
from geodistill.detect.overlap import iou_3d
from geodistill.detect.proposals import (
    Draw,
    certainty,
    draw,
    match,
    point_objects,
    refined,
    refinement,
)
from tests.detect.made import random_boxes


def random_points(count: int, seed: int, size: float = 4.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, generator=generator, dtype=torch.float64) * size


def test_codes_of_points_are_undone() -> None:
    boxes, points, sizes = random_boxes(40, 0), random_points(40, 1), 0.3 + random_points(40, 2)
    codes = point_codes.encode(boxes, points, sizes)
    found = point_codes.decode(codes, points, sizes)
    torch.testing.assert_close(found[:, :6], boxes[:, :6])
    torch.testing.assert_close(wrap(found[:, 6] - boxes[:, 6]), torch.zeros(40).double())
    codes[:, 6:] *= 3  # of a direction the length says nothing
    torch.testing.assert_close(point_codes.decode(codes, points, sizes), found)


def test_a_code_of_a_point_as_published() -> None:
    box = torch.tensor([[3.0, 5, 1, 4, 2, 1.5, math.pi / 6]])
    point, size = torch.tensor([[1.0, 4, 0.5]]), torch.tensor([[4.0, 3, 2]])
    wanted = [2 / 5, 1 / 5, 0.25, 0, math.log(2 / 3), math.log(0.75), math.sqrt(3) / 2, 0.5]
    assert point_codes.encode(box, point, size)[0].tolist() == pytest.approx(wanted, abs=1e-6)


def test_own_frames_are_those_of_the_boxes() -> None:
    boxes, frames = random_boxes(30, 3), random_boxes(30, 4)
    local = point_codes.to_own_frame(boxes, frames)
    torch.testing.assert_close(point_codes.from_own_frame(local, frames), boxes)
    itself = point_codes.to_own_frame(frames, frames)
    torch.testing.assert_close(itself[:, [0, 1, 2, 6]], torch.zeros(30, 4).double())
    # Overlaps do not depend on the frame.
    others = point_codes.to_own_frame(random_boxes(30, 5), frames)
    before = iou_3d(boxes, random_boxes(30, 5)).diagonal()
    torch.testing.assert_close(iou_3d(local, others).diagonal(), before)


def test_points_learn_the_first_box_that_they_are_in() -> None:
    points, boxes, rim = random_points(500, 6), random_boxes(6, 7), 0.15
    found = point_objects(points, boxes, rim)
    wider = boxes.clone()
    wider[:, 3:6] += 2 * rim
    for point, own in zip(points, found.tolist(), strict=True):
        within = [k for k in range(6) if inside(point[None], boxes[k : k + 1])]
        about = any(inside(point[None], wider[k : k + 1]) for k in range(6))
        assert own == (within[0] if within else -2 if about else -1)
    assert {-2, -1} < set(found.tolist())
    assert point_objects(points, boxes[:0], rim).eq(-1).all()
    assert point_objects(points[:0], boxes, rim).shape == (0,)


def test_proposals_match_boxes_of_their_class() -> None:
    proposals, boxes = random_boxes(50, 8), random_boxes(9, 9)
    labels, box_labels = torch.arange(50) % 3, torch.arange(9) % 3
    found = match(proposals, labels, boxes, box_labels)
    for k in range(50):
        overlaps = iou_3d(proposals[k : k + 1], boxes)[0]
        overlaps[box_labels != labels[k]] = 0
        assert found.overlap[k].item() == pytest.approx(overlaps.max().item())
        assert found.object[k].item() == (overlaps.argmax().item() if overlaps.max() > 0 else -1)
    assert (found.object >= 0).any() and (found.object < 0).any()
    none = match(proposals, labels, boxes[:0], box_labels[:0])
    assert none.object.eq(-1).all() and none.overlap.eq(0).all()


@pytest.mark.parametrize(
    ("objects", "hard", "easy", "wanted"),
    [
        (100, 500, 500, (64, 51, 13)),  # 0.8 of 64 is 51
        (10, 500, 500, (10, 94, 24)),
        (100, 20, 500, (64, 20, 44)),
        (100, 500, 5, (64, 59, 5)),
        (5, 6, 7, (5, 6, 7)),
        (0, 0, 0, (0, 0, 0)),
    ],
)
def test_proposals_are_drawn_by_kind(
    objects: int, hard: int, easy: int, wanted: tuple[int, int, int]
) -> None:
    overlap = torch.tensor([0.9] * objects + [0.3] * hard + [0.0] * easy, dtype=torch.float64)
    order = torch.randperm(len(overlap), generator=torch.Generator().manual_seed(3))
    overlap = overlap[order]
    found = draw(overlap, Draw(), torch.Generator().manual_seed(0))
    kinds = overlap[found].tolist()
    assert tuple(kinds.count(value) for value in (0.9, 0.3, 0.0)) == wanted
    assert kinds == sorted(kinds, reverse=True) and len(found.unique()) == len(found)
    again = draw(overlap, Draw(), torch.Generator().manual_seed(0))
    assert torch.equal(found, again)
    if objects == hard == 500:
        other = draw(overlap, Draw(), torch.Generator().manual_seed(1))
        assert not torch.equal(found, other)


def test_certainty_rises_between_two_overlaps() -> None:
    found = certainty(torch.tensor([0.0, 0.25, 0.475, 0.7, 1.0]), 0.25, 0.7)
    torch.testing.assert_close(found, torch.tensor([0.0, 0, 0.5, 1, 1]))


def test_refinements_are_undone() -> None:
    boxes, proposals = random_boxes(60, 10), random_boxes(60, 11)
    codes = refinement(boxes, proposals)
    assert codes[:, 6].abs().max() <= math.pi / 2 and codes[:, 6].abs().max() > 1
    found = refined(codes, proposals)
    torch.testing.assert_close(found[:, :6], boxes[:, :6])
    # The yaw comes back but for half turns, which are the proposal's.
    away = torch.remainder(found[:, 6] - boxes[:, 6] + 1, math.pi) - 1
    torch.testing.assert_close(away, torch.zeros(60).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(refined(torch.zeros(60, 7).double(), proposals), proposals)


def test_codes_of_refinements_move_with_the_scene() -> None:
    boxes, proposals = random_boxes(20, 12), random_boxes(20, 13)
    turned = []
    for given in (boxes, proposals):
        xyz = point_codes.turned(given[:, :3], torch.full((20,), 0.7).double())
        moved = xyz + torch.tensor([3.0, -2, 1])
        turned.append(torch.cat([moved, given[:, 3:6], given[:, 6:] + 0.7], 1))
    torch.testing.assert_close(refinement(*turned), refinement(boxes, proposals))


def test_corners_are_compared_one_by_one() -> None:
    boxes, targets = random_boxes(25, 14), random_boxes(25, 15)
    found = corner_loss(boxes, targets)
    opposite = targets.clone()
    opposite[:, 6] += math.pi
    own, one, two = corners(boxes), corners(targets), corners(opposite)
    for k in range(25):
        total = 0.0
        for corner in range(8):
            d = min(float((own[k] - side[k])[corner].norm()) for side in (one, two))
            total += 0.5 * d * d if d < 1 else d - 0.5
        assert found[k].item() == pytest.approx(total / 8, rel=1e-6)


def test_corners_of_the_same_box_lose_nothing_and_have_a_derivative() -> None:
    box = random_boxes(3, 16).requires_grad_()
    turned = torch.cat([box[:, :6], box[:, 6:] + math.pi], 1).detach()
    loss = corner_loss(box, turned).sum()
    (grad,) = torch.autograd.grad(loss, box)
    assert loss.item() < 1e-9 and grad.isfinite().all()
    near = (box.detach() + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(lambda b: corner_loss(b, box.detach()), near)


def test_other_shapes_of_proposals_are_refused() -> None:
    with pytest.raises(ShapeError, match="boxes"):
        point_objects(torch.zeros(3, 3), torch.zeros(3, 5), 0.1)
    with pytest.raises(ShapeError, match="labels"):
        match(torch.zeros(3, 7), torch.zeros(2), torch.zeros(1, 7), torch.zeros(1))
    with pytest.raises(ShapeError, match="sizes"):
        point_codes.encode(torch.zeros(3, 7), torch.zeros(3, 3), torch.zeros(2, 3))
