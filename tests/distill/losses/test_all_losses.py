"""What holds for every loss: a teacher that stays as it is, a student that learns, and errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from geodistill.checks import UsageError
from geodistill.distill.detectors import Teaching
from geodistill.distill.losses import LOSSES, build_loss
from geodistill.fit.detector.batches import Batch
from tests.distill.losses.seen_scans import BOXES, LABELS, clouds, detector, heads, maps, seen

SMALL = {"point_distiller": {"samples": 60, "neighbours": 5}, "vcd": {"trails": False}}
EXACT = [
    *("hint", "attention", "similarity", "ofd", "channels", "logits", "nst", "fsp", "kd", "gid"),
    *("clock", "fgd", "point_distiller"),
]


def batch_for(student: Any) -> Batch:
    voxels = student.prepare(clouds())
    targets = student.targets(BOXES, LABELS)
    return Batch(voxels, list(BOXES), list(LABELS), targets, None)


@pytest.mark.parametrize("name", LOSSES)
def test_the_student_and_what_adapts_it_learn_and_the_teacher_does_not(name: str) -> None:
    teacher, student = detector(4, 0), detector(16, 1)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    teaching = Teaching(student, [teacher], [{"loss": name, **SMALL.get(name, {})}])
    batch = teaching.labels(batch_for(student))
    predictions = student(batch.inputs)
    total, said = teaching.loss(batch, predictions, 0.3)
    total.backward()
    assert total.dim() == 0 and total.item() > 0 and said[name] > 0
    learnt = [p.grad for p in student.parameters() if p.grad is not None]
    assert learnt and any(float(g.abs().sum()) > 0 for g in learnt)
    for key, parameter in teaching.module.named_parameters():
        if not parameter.requires_grad:
            assert "of_teacher" in key
            continue
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    for key, value in teacher.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_same_when_it_is_asked_again(name: str) -> None:
    teacher, student = detector(4, 0), detector(16, 1).eval()
    teaching = Teaching(student, [teacher], [{"loss": name, **SMALL.get(name, {})}])
    batch = teaching.labels(batch_for(student))
    first, second = (teaching.loss(batch, student(batch.inputs), 0.3)[0] for _ in range(2))
    assert first.item() == second.item()


def outputs(name: str, seed: int) -> Any:
    kind, several = maps(8, seed=seed), {"fsp": (maps(8, 16, seed), maps(6, 8, seed))}
    if name in ("logits", "kd"):
        return heads(seed)
    if name == "gid":
        return (kind, heads(seed))
    return several.get(name, kind)


@pytest.mark.parametrize("name", EXACT)
def test_nothing_is_lost_where_student_and_teacher_are_the_same(name: str) -> None:
    """Where channels are as many, what adapts them is the identity."""
    of = detector(16, 0)
    options: dict[str, Any] = {"loss": name, **SMALL.get(name, {})}
    teacher, other = outputs(name, 1), outputs(name, 2)
    if name == "point_distiller":
        options["projection"] = "unit"
    loss = build_loss(options, teacher, teacher)
    if name == "point_distiller":
        loss.of_student.load_state_dict(loss.of_teacher.state_dict())  # type: ignore[union-attr]
    assert loss(teacher, teacher, seen(of), 0.0).item() == pytest.approx(0, abs=1e-9)
    assert loss(teacher, other, seen(of), 0.0).item() > 1e-6


@pytest.mark.parametrize("name", EXACT)
def test_gradients_are_finite_where_nothing_is_lost(name: str) -> None:
    of, teacher = detector(16, 0), outputs(name, 1)
    loss = build_loss({"loss": name, **SMALL.get(name, {})}, teacher, teacher)

    def learning(x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(map(learning, x))
        if isinstance(x, Tensor):
            return x.clone().requires_grad_()
        return type(x)(*(learning(getattr(x, part)) for part in ("logits", "codes", "halves")))

    student = learning(teacher)
    loss(teacher, student, seen(of), 0.0).backward()
    flat = student if isinstance(student, tuple) else (student,)
    leaves = [x if isinstance(x, Tensor) else x.logits for x in flat]
    learnt = [x.grad for x in leaves if x.grad is not None]
    assert learnt and all(x.isfinite().all() for x in learnt)


@pytest.mark.parametrize("name", ["attention", "nst", "similarity"])
def test_how_strong_features_are_does_not_matter(name: str) -> None:
    of, teacher, student = detector(16, 0), maps(8, seed=1), maps(8, seed=2)
    loss = build_loss({"loss": name}, teacher, student)
    value = float(loss(teacher, student, seen(of), 0.0))
    assert float(loss(3 * teacher, 0.2 * student, seen(of), 0.0)) == pytest.approx(value, rel=1e-5)


def test_channels_are_compared_without_their_means() -> None:
    of, teacher, student = detector(16, 0), maps(8, seed=1), maps(8, seed=2)
    loss = build_loss({"loss": "channels"}, teacher, student)
    shift = torch.arange(8.0)[:, None, None]
    value = float(loss(teacher, student, seen(of), 0.0))
    assert float(loss(teacher + shift, student - shift, seen(of), 0.0)) == pytest.approx(
        value, rel=1e-4
    )


def test_directions_and_lengths_count_against_each_other_alone() -> None:
    of, teacher, student = detector(16, 0), maps(8, seed=1), maps(8, seed=2)
    loss = build_loss({"loss": "nd"}, teacher, student)
    value = float(loss(teacher, student, seen(of), 0.0))
    assert float(loss(3 * teacher, 3 * student, seen(of), 0.0)) == pytest.approx(value, rel=1e-5)
    shorter = float(loss(teacher, 0.1 * student, seen(of), 0.0))
    assert shorter != pytest.approx(value, rel=1e-2)


def test_errors_say_what_does_not_fit() -> None:
    teacher, other = maps(8), maps(8, size=8)
    with pytest.raises(UsageError, match=r"loss ofd: .*'margin'"):
        build_loss({"loss": "ofd", "margin": 1}, teacher, teacher)
    with pytest.raises(UsageError, match=r"unknown loss 'simalarity' .did you mean 'similarity'"):
        build_loss({"loss": "simalarity"}, teacher, teacher)
    with pytest.raises(UsageError, match=r"nothing at 'backbone.stages.1.16' is negative"):
        build_loss({"loss": "ab"}, teacher.relu(), teacher)
    with pytest.raises(UsageError, match=r"teacher gives \(2, 8, 16, 16\) and the student \(2, 8"):
        build_loss({"loss": "mgd"}, teacher, other)
    with pytest.raises(UsageError, match="heads of the same anchors: the teacher gives"):
        build_loss({"loss": "kd"}, heads(0), teacher)
    one = replace(heads(0), logits=heads(0).logits[..., :1])
    for name, given in (("pld", one), ("ofa", (one, teacher))):
        with pytest.raises(UsageError, match=f"{name} compares classes with one another"):
            build_loss({"loss": name}, one, given)
    with pytest.raises(UsageError, match="'tap' and 'second' are both 'neck'"):
        build_loss({"loss": "fsp", "tap": "neck", "second": "neck"}, (teacher,), (teacher,))
    with pytest.raises(UsageError, match=r"map of 16 x 16 cells, and that at the tap has 8 x 8"):
        build_loss({"loss": "nd"}, other, other)(other, other, seen(detector(16, 0)), 0.0)
    with pytest.raises(UsageError, match=r"the scans have none: .* trails: false"):
        build_loss({"loss": "vcd"}, teacher, teacher)(teacher, teacher, seen(detector(16, 0)), 0.0)
    for name, key, value, words in (
        ("channels", "temperature", 0.0, "temperature must be above 0, got 0"),
        ("kd", "temperature", -1.0, "temperature must be above 0, got -1"),
        ("similarity", "samples", 1, "samples must be at least 2, got 1"),
        ("crd", "samples", 0, "samples must be at least 2, got 0"),
        ("gid", "overlap", -1.0, "overlap must be from 0 to 1, got -1"),
        ("acam", "diversity", -1.0, "diversity must be at least 0, got -1"),
        ("ab", "margin", -1.0, "margin must be at least 0, got -1"),
        ("fgd", "whole", -1.0, "whole must be at least 0, got -1"),
        ("clock", "background", -1.0, "background must be at least 0, got -1"),
        ("logits", "codes", -1.0, "codes must be at least 0, got -1"),
    ):
        with pytest.raises(UsageError, match=words):
            build_loss({"loss": name, key: value}, teacher, teacher)
    rows = torch.zeros(5, 3)
    with pytest.raises(UsageError, match="features at the tap belong to 5 places"):
        build_loss({"loss": "crd"}, rows, rows)(rows, rows, seen(detector(16, 0)), 0.0)
