"""Students taught by recipes' losses, end to end on a small data set."""

from __future__ import annotations

import io
import json
import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from geodistill import config
from geodistill.checks import InputError, UsageError
from geodistill.cli.train import recipe_file
from geodistill.detect.datasets import open_dataset
from geodistill.distill.detectors import Teaching, expect_same_input
from geodistill.distill.losses import LOSSES
from geodistill.fit.detector.batches import batch_of
from geodistill.fit.detector.recipe import Recipe
from geodistill.fit.detector.stored import store_key
from geodistill.fit.detector.training import (
    cache_batches,
    make_feed,
    start_detector,
    train_detector,
    with_objects,
)
from geodistill.nn.anchor_detector import AnchorDetector
from geodistill.nn.detector import Detector
from geodistill.nn.detector_kinds import new_detector
from geodistill.nn.toolboxes.settings import published
from tests.detect.small_kitti import write_kitti
from tests.fit.small_recipe import GRID
from tests.fit.small_recipe import POINTS as SMALL_POINTS
from tests.fit.small_recipe import RECIPE as SMALL

RECIPE = replace(SMALL, epochs=1)
POINTS = replace(SMALL_POINTS, epochs=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("kitti"), 4, 2, reach_m=28)


@pytest.fixture(scope="module")
def teacher() -> AnchorDetector:
    torch.manual_seed(5)
    return AnchorDetector(replace(RECIPE.detector, compression=4))


@pytest.mark.parametrize("name", [*(name for name in LOSSES if name != "vcd"), "assignment"])
def test_a_step_with_each_loss(root: Path, teacher: AnchorDetector, name: str) -> None:
    student = start_detector(RECIPE, "cpu").train()
    teaching = Teaching(student, [teacher], [{"loss": name}])
    feed = with_objects(make_feed(RECIPE, open_dataset(root), student))
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    batch = teaching.labels(batch_of(student, feed, 0, feed.examples(0)))
    predictions = student(batch.inputs)
    parts = list(student.losses(predictions, batch.targets).values())
    more, said = teaching.loss(batch, predictions, 0.3)
    total = torch.stack([*parts, more]).sum()
    total.backward()
    assert total.isfinite()
    assert (name in said and said[name] >= 0) or name == "assignment"
    assert all(p.grad is not None for p in student.parameters())
    assert not any(p.grad is not None for p in teacher.parameters())
    after = teacher.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "vcd"])
def test_points_are_compared_or_refused(root: Path, name: str) -> None:
    student = start_detector(POINTS, "cpu").train()
    teacher = new_detector(replace(POINTS.detector, compression=4))
    if name not in ("hint", "attention", "similarity", "crd", "point_distiller"):
        with pytest.raises(UsageError, match=r"compares|no part"):
            Teaching(student, [teacher], [{"loss": name}])
        return
    teaching = Teaching(student, [teacher], [{"loss": name, "tap": "neck"}])
    feed = with_objects(make_feed(POINTS, open_dataset(root), student))
    batch = teaching.labels(batch_of(student, feed, 0, feed.examples(0)))
    loss, said = teaching.loss(batch, student(batch.inputs), 0.3)
    loss.backward()
    assert loss.isfinite() and said[name] > 0
    assert all(p.grad is not None for p in student.network.neck.parameters())


@pytest.mark.parametrize(
    ("recipe", "losses"),
    [
        (RECIPE, [{"loss": "point_distiller", "samples": 50}, {"loss": "logits"}]),
        (POINTS, [{"loss": "point_distiller", "samples": 50, "tap": "neck", "pool": "max"}]),
    ],
    ids=["pillars", "points"],
)
def test_a_cached_teacher_teaches_the_same(
    root: Path, tmp_path: Path, recipe: Recipe, losses: list[dict]
) -> None:
    recipe = replace(recipe, losses=tuple(losses))
    dataset = open_dataset(root)
    torch.manual_seed(5)
    teacher = new_detector(replace(recipe.detector, compression=4))

    def guide(student: Detector) -> Teaching:
        return Teaching(student, [teacher], losses)

    cache_batches(recipe, dataset, tmp_path / "cache", guide_of=guide)
    one, _ = train_detector(recipe, dataset, guide_of=guide)
    two, _ = train_detector(recipe, dataset, guide_of=guide, cache=tmp_path / "cache")
    alone, _ = train_detector(recipe, dataset)
    a, b, c = (next(d.network.backbone.parameters()).detach() for d in (one, two, alone))
    assert (a - c).abs().mean() > 10 * (a - b).abs().mean()  # stored in half precision
    torch.manual_seed(9)
    other = new_detector(teacher.settings)

    def wrong(student: Detector) -> Teaching:
        return Teaching(student, [other], losses)

    with pytest.raises(UsageError, match="holds the outputs of another teacher"):
        train_detector(recipe, dataset, guide_of=wrong, cache=tmp_path / "cache")


def test_caches_of_other_teachers_and_parts(
    root: Path, tmp_path: Path, teacher: AnchorDetector, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, cache = open_dataset(root), tmp_path / "cache"

    def guide(tap: str) -> Callable[[Detector], Teaching]:
        return lambda student: Teaching(student, [teacher], [{"loss": "hint", "tap": tap}])

    assert cache_batches(RECIPE, dataset, cache) == (2, 2)
    with pytest.raises(UsageError, match=r"holds the outputs of another teacher \(none\) than"):
        cache_batches(RECIPE, dataset, cache, guide_of=guide("neck"))
    train_detector(RECIPE, dataset, guide_of=guide("neck"), cache=cache)
    assert "has no outputs at neck: teachers compute them" in capsys.readouterr().err
    cache = tmp_path / "taught"
    assert cache_batches(RECIPE, dataset, cache, guide_of=guide("neck")) == (2, 2)
    for other, words in ((guide("encoder"), "at neck, not at encoder"), (None, "than none")):
        with pytest.raises(UsageError, match=words):
            cache_batches(replace(RECIPE, epochs=2), dataset, cache, guide_of=other)
    train_detector(RECIPE, dataset, cache=cache)
    train_detector(RECIPE, dataset, guide_of=guide("neck"), cache=cache)
    assert "teachers compute them" not in capsys.readouterr().err
    key = cache / "cache.json"
    key.write_text(
        json.dumps({k: v for k, v in json.loads(key.read_text()).items() if k != "taps"})
    )
    with pytest.raises(InputError, match="as of an older version: make the cache again"):
        train_detector(RECIPE, dataset, cache=cache)


def test_each_loss_of_each_teacher_is_reported(root: Path, teacher: AnchorDetector) -> None:
    student = start_detector(RECIPE, "cpu").train()
    feed = with_objects(make_feed(RECIPE, open_dataset(root), student))
    batch = batch_of(student, feed, 0, feed.examples(0))
    other = AnchorDetector(teacher.settings)
    stage, neck, again = (
        {"loss": "hint", "tap": tap, "teacher": number}
        for tap, number in (("backbone.stages.0", 0), ("neck", 0), ("neck", 1))
    )
    with pytest.raises(UsageError, match="no loss is from teacher 1: give one 'teacher: 1'"):
        Teaching(student, [teacher, other], [stage, neck])
    twice = [{"loss": "channels", "temperature": value} for value in (1.0, 4.0)]
    losses = [stage, neck, again, {"loss": "nst"}, *twice]
    teaching = Teaching(student, [teacher, other], losses)
    said = teaching.loss(batch, student(batch.inputs), 0.0)[1]
    hints = ["hint backbone.stages.0", "hint neck 0", "hint neck 1"]
    assert [*said] == [*hints, "nst", "channels neck 0 #1", "channels neck 0 #2"]
    assert len(set(said.values())) == len(said)


def test_nothing_of_a_batch_is_kept_for_the_next(root: Path, teacher: AnchorDetector) -> None:
    student = start_detector(RECIPE, "cpu").train()
    feed = with_objects(make_feed(RECIPE, open_dataset(root), student))
    losses = [{"loss": "assignment"}, {"loss": "logits"}]
    teaching = Teaching(student, [teacher], losses)
    batch = teaching.labels(batch_of(student, feed, 0, feed.examples(0)))
    teaching.loss(batch, student(batch.inputs), 0.0)
    seen = weakref.ref(batch.inputs)
    del batch
    assert seen() is None
    assert not teaching._taps.outputs


def test_a_student_is_let_go_of_at_the_end(root: Path, teacher: AnchorDetector) -> None:
    losses = [{"loss": "hint"}]
    student, _ = train_detector(
        *(replace(RECIPE, mean=0.0), open_dataset(root)),
        guide_of=lambda student: Teaching(student, [teacher], losses),
    )
    torch.save(student, saved := io.BytesIO())  # hooks cannot be saved
    assert saved.tell() > 0
    assert not any(part._forward_hooks for part in student.network.modules())


def test_no_more_of_a_teacher_is_asked_than_is_compared(teacher: AnchorDetector) -> None:
    student = AnchorDetector(RECIPE.detector)
    assert Teaching(student, [teacher], [{"loss": "ofa"}]).taps_seen() == (("head",),)


def test_detections_of_a_teacher_become_labels(root: Path, teacher: AnchorDetector) -> None:
    student = start_detector(RECIPE, "cpu").train()
    teaching = Teaching(student, [teacher], [{"loss": "assignment", "least_score": 0.0}])
    feed = with_objects(make_feed(RECIPE, open_dataset(root), student))
    plain = batch_of(student, feed, 0, feed.examples(0))
    taught = teaching.labels(plain)
    more = [int((one.label >= 0).sum()) for one in taught.targets]
    own = [int((one.label >= 0).sum()) for one in plain.targets]
    with torch.no_grad():
        found = teacher.detections(teacher.eval()(plain.inputs))
    assert [m > o for m, o in zip(more, own, strict=True)] == [len(one) > 0 for one in found]


def test_a_loss_fades(root: Path, teacher: AnchorDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    student = start_detector(RECIPE, "cpu").train()
    losses = [{"loss": "hint", "weight": 8.0, **more} for more in ({}, {"until": 0.5})]
    feed = with_objects(make_feed(RECIPE, open_dataset(root), student))

    def taught(options: dict[str, float], progress: float) -> float:
        torch.manual_seed(0)  # of what the loss trains
        teaching = Teaching(student, [teacher], [options])
        batch = batch_of(student, feed, 0, feed.examples(0))
        predictions = student(batch.inputs)
        return float(teaching.loss(batch, predictions, progress)[0].detach())

    whole = taught(losses[0], 0.4)
    assert whole > 0
    assert taught(losses[1], 0.0) == pytest.approx(whole)
    assert taught(losses[1], 0.4) == pytest.approx(0.2 * whole)
    monkeypatch.setattr(Teaching, "outputs", None)  # the teacher is not asked for what counts 0
    assert taught(losses[1], 0.5) == taught(losses[1], 0.9) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hints"}, r"unknown loss 'hints' \(did you mean 'hint'"),
        ({"loss": "assignments"}, r"unknown loss 'assignments' \(did you mean 'assignment'"),
        ({"loss": "hint", "tap": "nek"}, r"no part 'nek' \(did you mean 'neck'"),
        ({"loss": "hint", "wait": 1}, "loss hint: unknown key 'wait'"),
        ({"loss": "hint", "until": 2}, "loss hint: until must be from 0 to 1"),
        ({"loss": "ofa", "gamma": math.nan}, "loss ofa: gamma must be at least 0"),
        ({"loss": "hint", "teacher": 2}, "must be from 0 to 0, got 2"),
        ({"loss": "assignment", "score": 1}, "loss assignment: unknown key 'score'"),
        ("hint", "is a mapping with 'loss', its name, got 'hint'"),
        ({"loss": "channels", "tap": "encoder"}, "channels compares maps of one height and width"),
    ],
)
def test_losses_that_cannot_be(teacher: AnchorDetector, options, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Teaching(start_detector(RECIPE, "cpu"), [teacher], [options])


def test_teachers_that_see_something_else(teacher: AnchorDetector) -> None:
    finer = replace(RECIPE, detector=replace(RECIPE.detector, grid=replace(GRID, most_points=16)))
    with pytest.raises(UsageError, match="teacher and student differ in grid: VoxelGrid"):
        Teaching(start_detector(finer, "cpu"), [teacher], [{"loss": "hint"}])
    with pytest.raises(UsageError, match="differ in architecture: pointpillars"):
        Teaching(start_detector(POINTS, "cpu"), [teacher], [{"loss": "hint"}])


def test_anchors_of_another_area(teacher: AnchorDetector) -> None:
    student = start_detector(RECIPE, "cpu")
    moved = AnchorDetector(replace(teacher.settings, area=(0.0, -15.0, 30.0, 15.0)))
    for pair in ((student, moved), (moved, student)):
        with pytest.raises(UsageError, match="differ in area of anchors"):
            expect_same_input(*pair)
    expect_same_input(student, AnchorDetector(replace(teacher.settings, area=student.area)))


def test_which_anchors_are_the_same(teacher: AnchorDetector) -> None:
    def changed(**change: Any) -> AnchorDetector:
        anchors = tuple(replace(one, **change) for one in teacher.settings.anchors)
        return AnchorDetector(replace(teacher.settings, anchors=anchors))

    for change in ({"positive": 0.45, "negative": 0.1}, {"yaws": (0.0008, 1.5708)}):
        expect_same_input(changed(**change), teacher)
    for change, words in (
        ({"size": (4.0, 2.0, 2.0)}, r"sizes of anchors: \(\(0\.8, 0\.6, 1\.73\)"),
        ({"bottom": -1.0}, r"bottoms of anchors: \(-0\.6, -0\.6, -1\.78\) instead of \(-1\.0"),
        ({"yaws": (0.0, 1.2)}, "yaws of anchors"),
        ({"yaws": (0.0,)}, "yaws of anchors"),
    ):
        with pytest.raises(UsageError, match=f"differ in {words}"):
            expect_same_input(changed(**change), teacher)
    other = replace(teacher.settings, anchors=teacher.settings.anchors[::-1])
    with pytest.raises(UsageError, match="differ in classes"):
        expect_same_input(AnchorDetector(other), teacher)


@pytest.mark.parametrize("toolbox", ["mmdet3d", "openpcdet"])
def test_toolboxes_second_teaches_a_shipped_student(toolbox: Any) -> None:
    recipe = config.load(Recipe, recipe_file(Path("detector/second_16x")))
    student = start_detector(recipe, "cpu")
    teacher = AnchorDetector(replace(published("second", toolbox), compression=16))
    expect_same_input(student, teacher)
    assert student.learnt != teacher.learnt


def test_caches_are_of_thresholds(root: Path) -> None:
    dataset, keys = open_dataset(root), set()
    for least in (0.45, 0.3):
        anchors = tuple(replace(one, negative=least) for one in RECIPE.detector.anchors)
        recipe = replace(RECIPE, detector=replace(RECIPE.detector, anchors=anchors))
        detector = start_detector(recipe, "cpu")
        keys.add(store_key(make_feed(recipe, dataset, detector), detector))
    assert len(keys) == 2


def test_parts_that_do_not_run(teacher: AnchorDetector) -> None:
    student = start_detector(POINTS, "cpu")
    options = {"loss": "hint", "tap": "refiner"}
    with pytest.raises(UsageError, match="nothing can be compared at 'refiner'"):
        Teaching(student, [new_detector(POINTS.detector)], [options])
