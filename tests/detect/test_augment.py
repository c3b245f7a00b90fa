from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geodistill.detect.augment import (
    Augmentation,
    Cutout,
    Example,
    Paste,
    augmented,
    cut_out,
    example,
    flipped,
    jostled,
    pasted,
    scaled,
    turned,
)
from geodistill.detect.boxes import inside
from geodistill.detect.overlap import meet, shared_area
from geodistill.detect.scenes import Scene

CLASSES = ("Car", "Pedestrian")


def some_boxes(count: int, seed: int, spread: float = 30.0) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 7, generator=made)
    boxes[:, :2] = (boxes[:, :2] - 0.5) * spread
    boxes[:, 2] = -1
    boxes[:, 3:6] = boxes[:, 3:6] * 3 + 0.5
    boxes[:, 6] = (boxes[:, 6] - 0.5) * 2 * math.pi
    return boxes


def apart(boxes: torch.Tensor) -> torch.Tensor:
    """Those that meet none that comes before them."""
    kept: list[int] = []
    for k in range(len(boxes)):
        if not meet(boxes[k : k + 1], boxes[kept]).any():
            kept.append(k)
    return boxes[kept]


def some_scene(seed: int = 0) -> Scene:
    boxes = apart(some_boxes(6, seed))
    made = torch.Generator().manual_seed(seed + 1)
    points = (torch.rand(20_000, 4, generator=made) - 0.5) * torch.tensor([34, 34, 4, 1.0])
    names = tuple(CLASSES[k % 2] for k in range(len(boxes)))
    return Scene("a", points, boxes, names, torch.ones(len(boxes), dtype=torch.bool))


def test_meet_is_a_shared_area() -> None:
    a, b = some_boxes(40, 3, 12.0), some_boxes(50, 4, 12.0)
    assert torch.equal(meet(a, b), shared_area(a, b) > 1e-9)
    assert 0.1 < meet(a, b).float().mean() < 0.9


@pytest.mark.parametrize(
    "change",
    [
        lambda e: flipped(e, 0),
        lambda e: flipped(e, 1),
        lambda e: turned(e, 0.7),
        lambda e: scaled(e, 1.05),
    ],
    ids=["flipped x", "flipped y", "turned", "scaled"],
)
def test_points_stay_in_their_boxes(change) -> None:
    scene = some_scene()
    found = example(scene, CLASSES)
    trails = found.boxes[:, None].expand(-1, 3, -1)
    after = change(Example(found.points, found.boxes, found.labels, trails))
    grown = after.boxes * torch.tensor([1, 1, 1, 1.0001, 1.0001, 1.0001, 1])
    before = inside(found.points[:, :3], found.boxes)
    assert before.any(0).all()
    assert not (before & ~inside(after.points[:, :3], grown)).any()
    assert torch.allclose(after.trails, after.boxes[:, None].expand(-1, 3, -1))
    assert torch.equal(after.points[:, 3], found.points[:, 3])


def test_changes_and_their_inverses() -> None:
    found = example(some_scene(), CLASSES)
    for there, back in (
        (lambda e: flipped(e, 0), lambda e: flipped(e, 0)),
        (lambda e: flipped(e, 1), lambda e: flipped(e, 1)),
        (lambda e: flipped(flipped(e, 0), 1), lambda e: turned(e, math.pi)),
        (lambda e: turned(e, 0.4), lambda e: turned(e, -0.4)),
        (lambda e: scaled(e, 1.25), lambda e: scaled(e, 0.8)),
    ):
        again = back(there(found))
        assert torch.allclose(again.points, found.points, atol=1e-5)
        assert torch.allclose(again.boxes, found.boxes, atol=1e-5)


def test_a_turn_of_a_right_angle() -> None:
    found = turned(
        Example(
            torch.tensor([[2.0, 1, 0, 5]]),
            torch.tensor([[2.0, 1, 0, 3, 1, 1, 0.1]]),
            torch.tensor([0]),
        ),
        math.pi / 2,
    )
    assert torch.allclose(found.points, torch.tensor([[-1.0, 2, 0, 5]]), atol=1e-6)
    expected = torch.tensor([[-1.0, 2, 0, 3, 1, 1, 0.1 + math.pi / 2]])
    assert torch.allclose(found.boxes, expected, atol=1e-6)


def test_pasting_collides_with_nothing_and_clears_its_place() -> None:
    scene = some_scene()
    found = example(scene, CLASSES)
    objects = [
        Cutout(torch.cat([box[None, :3], torch.full((1, 1), 9.0)], 1), box)
        for box in some_boxes(40, 9)
    ]
    after = pasted(found, objects, 1)
    new = len(after.boxes) - len(found.boxes)
    assert 0 < new < 40
    assert not torch.triu(meet(after.boxes, after.boxes), 1).any()
    assert (after.labels[-new:] == 1).all()
    own = after.points[:, 3] == 9
    assert int(own.sum()) == new
    assert not inside(after.points[~own, :3], after.boxes[-new:]).any()
    gone = inside(found.points[:, :3], after.boxes[-new:]).any(1).sum()
    assert len(after.points) == len(found.points) - gone + new


def test_nothing_comes_into_objects_of_other_classes() -> None:
    """Nor into those of its own that have no point, and are not learnt from."""
    scene = some_scene()
    box = torch.tensor([[40.0, 0, -1, 4, 2, 2, 0]])  # where there are no points
    free = torch.tensor([[40.0, 9, -1, 4, 2, 2, 0]])
    names, boxes = ("Pedestrian", "Car"), torch.cat([scene.boxes[:1], box])
    pastable = torch.ones(2, dtype=torch.bool)
    found = example(Scene("a", scene.points, boxes, names, pastable), ("Car",))
    assert len(found.boxes) == 0
    objects = [Cutout(scene.points[:5], one) for one in torch.cat([boxes, free])]
    assert torch.equal(pasted(found, objects, 0).boxes, free)
    # Between two walls there is room along them, but not across.
    walls = torch.tensor([[0.0, 10.6, -1, 50, 20, 2, 0], [0.0, -10.6, -1, 50, 20, 2, 0]])
    own = torch.tensor([[0.0, 0, -1, 4, 1, 2, 0]])
    middle = Example(own[:, :4], own, torch.tensor([0]), None, walls)
    for seed in range(20):
        random = np.random.default_rng(seed)
        after = jostled(middle, Augmentation(shift_m=(1.0, 1.0, 0.0)), random)
        assert after.boxes[0, 1].abs() <= 0.1 and not meet(after.boxes, walls).any()
    after = flipped(turned(scaled(middle, 2.0), 0.3), 1)
    again = scaled(turned(flipped(after, 1), -0.3), 0.5)
    assert after.others is not None and again.others is not None
    assert not meet(after.boxes, after.others).any()
    assert torch.allclose(again.others, walls, atol=1e-5)


def test_jostled_objects_take_their_points_along() -> None:
    found = example(some_scene(), CLASSES)
    settings = Augmentation(shift_m=(0.5, 0.5, 0.1), spin_rad=0.5)
    after = jostled(found, settings, np.random.default_rng(0))
    assert (after.boxes[:, :2] - found.boxes[:, :2]).norm(dim=1).min() > 0.01
    grown = after.boxes * torch.tensor([1, 1, 1, 1.001, 1.001, 1.001, 1])
    before = inside(found.points[:, :3], found.boxes)
    assert not (before & ~inside(after.points[:, :3], grown)).any()
    free = ~before.any(1)
    assert torch.equal(after.points[free], found.points[free])
    assert not torch.triu(meet(after.boxes, after.boxes), 1).any()


def test_cut_out_objects_have_all_their_points() -> None:
    scene = some_scene()
    pastable = torch.ones(len(scene.boxes), dtype=torch.bool)
    pastable[0] = False
    scene = Scene(scene.frame, scene.points, scene.boxes, scene.names, pastable)
    found = cut_out(scene, CLASSES)
    flags = [one.pastable for own in found.values() for one in own]
    assert len(flags) == len(scene.boxes) and sum(flags) == len(flags) - 1
    for own in found.values():
        for one in own:
            within = inside(scene.points[:, :3], one.box[None])[:, 0]
            assert torch.equal(scene.points[within], one.points)


def test_augmentation_is_a_function_of_its_random_numbers() -> None:
    scene = some_scene()
    objects = cut_out(some_scene(5), CLASSES)
    settings = Augmentation((Paste("Car", 4, 1), Paste("Pedestrian", 4, 1)))
    found = example(scene, CLASSES)
    one, two, other = (
        augmented(found, settings, CLASSES, objects, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(one.points, two.points) and torch.equal(one.boxes, two.boxes)
    assert not torch.equal(one.boxes[:1], other.boxes[:1])
    assert len(one.boxes) > len(found.boxes)


def test_boxes_without_points_are_not_learnt() -> None:
    scene = some_scene()
    far = torch.tensor([[500.0, 0, 0, 2, 2, 2, 0]])
    scene = Scene(
        scene.frame,
        scene.points,
        torch.cat([scene.boxes, far]),
        (*scene.names, "Car"),
        torch.ones(len(scene.boxes) + 1, dtype=torch.bool),
    )
    assert len(example(scene, CLASSES).boxes) == len(scene.boxes) - 1
    assert len(example(scene, ("Pedestrian",)).boxes) == scene.names.count("Pedestrian")
