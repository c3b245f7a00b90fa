"""Overlaps of oriented boxes against clipping in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from geodistill.checks import ShapeError
from geodistill.detect.boxes import corners_bev
from geodistill.detect.overlap import (
    intersection_area,
    iou_3d,
    iou_bev,
    iou_nearest,
    overlapping,
)
from geodistill.detect.suppress import suppress
from tests.detect.made import random_boxes

Point = tuple[Fraction, Fraction]


def clipped(subject: list[Point], clip: list[Point]) -> Fraction:
    """The area that two counter-clockwise convex polygons share, by Sutherland and Hodgman."""
    for k in range(len(clip)):
        (ax, ay), (bx, by) = clip[k - 1], clip[k]

        def side(
            p: Point, ax: Fraction = ax, ay: Fraction = ay, bx: Fraction = bx, by: Fraction = by
        ) -> Fraction:
            return (bx - ax) * (p[1] - ay) - (by - ay) * (p[0] - ax)

        kept: list[Point] = []
        for i in range(len(subject)):
            one, two = subject[i - 1], subject[i]
            s, t = side(one), side(two)
            if (s < 0) != (t < 0):
                u = s / (s - t)
                kept.append((one[0] + u * (two[0] - one[0]), one[1] + u * (two[1] - one[1])))
            if t >= 0:
                kept.append(two)
        subject = kept
    twice = sum(
        (
            subject[i - 1][0] * subject[i][1] - subject[i][0] * subject[i - 1][1]
            for i in range(len(subject))
        ),
        Fraction(0),
    )
    return twice / 2


def exact(a: Tensor, b: Tensor) -> float:
    outlines = [
        [(Fraction(x), Fraction(y)) for x, y in corners_bev(box.double()).tolist()]
        for box in (a, b)
    ]
    return float(clipped(*outlines))


def test_areas_are_those_of_exact_clipping() -> None:
    a, b = random_boxes(400, 0), random_boxes(400, 1)
    wanted = torch.tensor([exact(*pair) for pair in zip(a, b, strict=True)], dtype=torch.float64)
    assert (wanted > 0).sum() > 200
    torch.testing.assert_close(intersection_area(a, b), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("yaw", [0.0, math.pi / 2, 0.3, math.pi / 4, -3.0])
def test_boxes_that_touch_or_are_one(yaw: float) -> None:
    box = torch.tensor([[5.0, -3.0, 1.0, 4.0, 2.0, 1.5, yaw]], dtype=torch.float64)
    along = torch.tensor([math.cos(yaw), math.sin(yaw)], dtype=torch.float64)

    def shifted(by: float) -> Tensor:
        moved = box.clone()
        moved[0, :2] += by * along
        return moved

    assert iou_3d(box, box).item() == pytest.approx(1, abs=1e-12)
    turned = box.clone()
    turned[0, 6] += math.pi
    assert iou_bev(box, turned).item() == pytest.approx(1, abs=1e-12)
    assert iou_bev(box, shifted(2)).item() == pytest.approx(1 / 3, abs=1e-12)
    assert iou_bev(box, shifted(4)).item() == pytest.approx(0, abs=1e-12)
    assert iou_bev(box, shifted(4.001)).item() == 0
    inner = box.clone()
    inner[0, 3:6] /= 2
    assert iou_3d(box, inner).item() == pytest.approx(1 / 8, abs=1e-12)


def test_boxes_whose_sides_lie_on_one_line() -> None:
    """As wide, with the same heading, moved along it: what they share is a matter of lengths."""
    made = torch.Generator().manual_seed(0)
    yaw, length, share, move = torch.rand(4, 2000, generator=made, dtype=torch.float64)
    long = random_boxes(2000, 11)
    long[:, 6], long[:, 3] = (yaw - 0.5) * 4 * math.pi, 0.5 + 4 * length
    short = long.clone()
    short[:, 3] *= 0.05 + 0.9 * share
    moved = short.clone()
    by = (move * 2 - 1) * long[:, 3]
    moved[:, 0] += by * long[:, 6].cos()
    moved[:, 1] += by * long[:, 6].sin()
    reach = (long[:, 3] + short[:, 3]) / 2 - by.abs()
    shared = torch.minimum(reach.clamp(min=0), short[:, 3]) * long[:, 4]
    for other, wanted in ((short, short[:, 3] * short[:, 4]), (moved, shared)):
        turned = other.clone()
        turned[:, 6] += math.pi
        for pair in ((long, other), (other, long), (long, turned), (turned, long)):
            found = intersection_area(*pair)
            torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)
    assert (shared == 0).any() and (iou_3d(long[:9], short[:9]).diagonal() < 1).all()


def test_nothing_depends_on_where_the_boxes_are() -> None:
    a, b = random_boxes(40, 2), random_boxes(30, 3)
    before = iou_3d(a, b)
    far = torch.tensor([4e6, -5e6, 300.0, 0, 0, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(iou_3d(a + far, b + far), before, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(iou_3d(b, a), before.T, rtol=1e-12, atol=1e-12)


def test_volumes_share_what_their_heights_do() -> None:
    a = torch.tensor([[0.0, 0, 0, 2, 2, 2, 0.7]])
    b = torch.tensor([[0.0, 0, 1.5, 2, 2, 2, 0.7], [0.0, 0, 2.5, 2, 2, 2, 0.7]])
    torch.testing.assert_close(
        iou_3d(a, b), torch.tensor([[0.5 / 3.5, 0.0]], dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_boxes_without_extent_overlap_nothing() -> None:
    flat = torch.tensor([[0.0, 0, 0, 0, 0, 0, 0]])
    assert iou_bev(flat, flat).item() == 0
    assert iou_3d(flat, flat).item() == 0


def test_none_at_all() -> None:
    none, some = torch.zeros(0, 7), random_boxes(3, 4)
    assert iou_bev(none, some).shape == (0, 3)
    assert iou_3d(some, none).shape == (3, 0)
    assert suppress(none, torch.zeros(0), 0.5).tolist() == []


@pytest.mark.parametrize(
    ("yaw", "swapped"), [(0.1, False), (-0.7, False), (0.8, True), (2.0, True), (3.0, False)]
)
def test_anchors_match_the_nearest_upright_box(yaw: float, swapped: bool) -> None:
    box = torch.tensor([[1.0, 2.0, 0.0, 4.0, 2.0, 1.0, yaw]])
    upright = torch.tensor(
        [[1.0, 2.0, 5.0, 2.0 if swapped else 4.0, 4.0 if swapped else 2.0, 1.0, 0]]
    )
    assert iou_nearest(box, upright).item() == pytest.approx(1)


def test_suppression_keeps_what_a_plain_loop_keeps() -> None:
    boxes = random_boxes(120, 5)
    scores = (torch.rand(120, generator=torch.Generator().manual_seed(6)) * 10).round() / 10  # ties
    overlaps = iou_bev(boxes, boxes)
    kept: list[int] = []
    for k in sorted(range(120), key=lambda k: (-scores[k].item(), k)):
        if all(overlaps[k, other] <= 0.2 for other in kept):
            kept.append(k)
    assert suppress(boxes, scores, 0.2).tolist() == kept
    assert suppress(boxes, scores, 0.2, most=4).tolist() == kept[:4]
    assert len(kept) < 120


def test_suppression_drops_what_is_not_finite() -> None:
    boxes = random_boxes(6, 5)
    boxes[:, 0] = torch.arange(6) * 100
    boxes[1, 4], boxes[3, 0] = math.inf, math.nan
    assert suppress(boxes, torch.arange(6.0), 0.2).tolist() == [5, 4, 2, 0]


@pytest.mark.parametrize("size", [(0.0, 0.0), (0.0, 2.0), (3.0, 0.0)])
def test_boxes_of_no_size_share_nothing(size: tuple[float, float]) -> None:
    flat = torch.tensor([[0.5, 0.2, 0.0, *size, 1.5, 0.3]])
    box = torch.tensor([[0.0, 0.0, 0.0, 4.0, 2.0, 1.5, 0.0]])
    for pair in ((flat, box), (box, flat), (flat, flat)):
        assert intersection_area(*pair) == 0 and iou_bev(*pair) == 0 and iou_3d(*pair) == 0
        assert not overlapping(*pair, 0.0)


def test_suppression_goes_on_from_block_to_block(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, scores = random_boxes(300, 7), torch.arange(300.0).remainder(17)
    whole = suppress(boxes, scores, 0.3).tolist()
    monkeypatch.setattr("geodistill.detect.suppress._BLOCK", 7)
    assert suppress(boxes, scores, 0.3).tolist() == whole
    assert suppress(boxes, scores, 0.3, most=20).tolist() == whole[:20]


@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.3, 0.7, 0.95])
def test_what_overlaps_more_than_a_threshold(threshold: float) -> None:
    a = random_boxes(60, 8)
    b = torch.cat([random_boxes(60, 9), a + 0.02 * random_boxes(60, 10), a])
    found = overlapping(a, b, threshold)
    overlaps = iou_bev(a, b)
    clear = (overlaps - threshold).abs() > 1e-12
    assert torch.equal(found[clear], overlaps[clear] > threshold)
    assert found.any() and not found.all()


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="a must have shape"):
        iou_bev(torch.zeros(3, 5), torch.zeros(3, 7))
    with pytest.raises(ShapeError, match="scores"):
        suppress(torch.zeros(3, 7), torch.zeros(4), 0.5)
