"""A detector taught by others while it is trained: what a recipe's losses add to its own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from geodistill import dist
from geodistill.checks import UsageError, choose
from geodistill.distill.losses import (
    LOSSES,
    Loss,
    LossSettings,
    Seen,
    build_loss,
    loss_settings,
    read_options,
)
from geodistill.distill.losses.assignment import AssignmentSettings, with_detections
from geodistill.distill.losses.taps import Taps, run_until
from geodistill.fit.detector.batches import Batch
from geodistill.nn.anchor_detector import YAWS, AnchorDetector
from geodistill.nn.detector import Detector
from geodistill.nn.detector_files import fingerprint
from geodistill.nn.precision import Precision, computing
from geodistill.nn.synced import synced

YAW_TOLERANCE = 0.01  # radians
ASSIGNMENT, HEAD = "assignment", "head"


class Teaching:
    """What a student learns from teachers; a `Guide` of `fit.detector`.

    Teachers are frozen and in eval mode, and of each only so much is run as is compared.

    Attributes:
        losses: in the order of the recipe; their parameters are trained with the student.
    """

    def __init__(
        self,
        student: Detector,
        teachers: Sequence[Detector],
        losses: Sequence[Any],
        precision: Precision = "float32",
    ) -> None:
        """
        Args:
            losses: mappings as recipes have them; `teacher` is the number of the teacher, the
                first being 0.
            precision: of teachers' maps.

        Raises UsageError for an unknown loss, option, part or teacher, and for a teacher that sees
        other voxels or has other anchors.
        """
        if not teachers or not losses:
            raise UsageError("to be taught, a student needs a teacher and losses")
        self.student, self.teachers = student, list(teachers)
        self.precision: Precision = precision
        for teacher in teachers:
            expect_same_input(student, teacher)
            teacher.requires_grad_(False).eval()
            teacher.to(student.device)
        numbers = _numbers(losses, len(teachers))
        self._teacher_taps: list[list[str]] = [[] for _ in teachers]
        self._assigned: list[tuple[int, float]] = []  # teachers whose detections are labels
        given: list[tuple[int, Any, LossSettings]] = []
        for number, options in zip(numbers, losses, strict=True):
            if options["loss"] == ASSIGNMENT:
                if not isinstance(student, AnchorDetector):
                    raise UsageError("assignment is of detectors with anchors: leave it out")
                self._assigned.append(
                    (number, read_options(options, AssignmentSettings).least_score)
                )
                self._teacher_taps[number].append(HEAD)
            else:
                settings = loss_settings(options)[1]
                given.append((number, options, settings))
                self._teacher_taps[number] += settings.teacher_taps
        tapped = list(dict.fromkeys(tap for _, _, settings in given for tap in settings.taps))
        example = _example(student)
        shown = [
            run_until(t.network, example, w)
            for t, w in zip(teachers, self._teacher_taps, strict=True)
        ]
        seen = _eval_outputs(student, example, tapped)
        built: list[Loss] = [
            build_loss(options, _picked(shown[number], own.teacher_taps), _picked(seen, own.taps))
            for number, options, own in given
        ]
        self.losses = nn.ModuleList(built).to(student.device)
        synced(self.losses)
        self._teacher_of = [number for number, _, _ in given]
        self._names = _distinct([(options["loss"], own.tap, n) for n, options, own in given])
        self._taps = Taps(student.network, tapped)
        self._outputs: tuple[Any, list[dict[str, Any]]] | None = None

    @property
    def module(self) -> nn.Module:
        return self.losses

    def teachers_seen(self) -> tuple[str, ...]:
        return tuple(fingerprint(teacher) for teacher in self.teachers)

    def taps_seen(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(sorted({*own})) for own in self._teacher_taps)

    def labels(self, batch: Batch) -> Batch:
        """The batch with the targets that teachers' detections add to its labels."""
        if not self._assigned:
            return batch
        shown = self._outputs_of(batch)
        boxes, labels = batch.boxes, batch.labels
        for number, least in self._assigned:
            found = self.teachers[number].detections(shown[number][HEAD])
            boxes, labels = with_detections(boxes, labels, found, least)
        return replace(batch, targets=self.student.targets(boxes, labels))

    def loss(
        self, batch: Batch, predictions: Any, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        anchors = self.student.anchors if isinstance(self.student, AnchorDetector) else None
        seen = Seen(
            *(batch.inputs, batch.boxes, batch.targets),
            *(anchors, self.student.area, batch.trails),
        )
        total = torch.zeros((), device=self.student.device)
        said: dict[str, float] = {}
        for name, own, loss in zip(self._names, self._teacher_of, self.losses, strict=True):
            assert isinstance(loss, Loss)
            settings, weight = loss.settings, loss.settings.weight_at(progress)
            if not weight:
                continue  # and where none has one, no teacher runs
            shown = self._outputs_of(batch)
            theirs = _picked(shown[own], settings.teacher_taps)
            found = loss(theirs, _picked(self._taps.outputs, settings.taps), seen, progress)
            total = total + weight * found / dist.world()  # each rank has as many scans
            said[name] = float(found.detach())
            said |= {f"{name} {key}": value for key, value in loss.report().items()}
        self._outputs = None  # and with it the batch and what networks share of it
        self._taps.outputs.clear()
        return total, said

    def close(self) -> None:
        self._taps.remove()

    def outputs(self, batch: Batch) -> list[dict[str, Any]]:
        """What each teacher puts out at the taps that are compared with it."""
        found = []
        for number, (teacher, names) in enumerate(
            zip(self.teachers, self._teacher_taps, strict=True)
        ):
            known = {tap: value for (who, tap), value in batch.taught.items() if who == number}
            missing = [tap for tap in names if tap not in known]
            with computing(self.precision, self.student.device):
                found.append(known | run_until(teacher.network, batch.inputs, missing, known))
        return found

    def _outputs_of(self, batch: Batch) -> list[dict[str, Any]]:
        """Outputs for a batch, computed once whoever asks first."""
        if self._outputs is None or self._outputs[0] is not batch.inputs:
            self._outputs = batch.inputs, self.outputs(batch)
        return self._outputs[1]


def expect_same_input(student: Detector, teacher: Detector) -> None:
    """Raise UsageError where a teacher sees other voxels, classes or anchors than a student. By
    which overlaps either learns does not matter."""
    ours, theirs = student.places, teacher.places
    for what in {**ours, **theirs}:
        own, other = ours.get(what), theirs.get(what)
        if own != other and not (what == YAWS and _near(own, other)):
            raise UsageError(
                f"teacher and student differ in {what}: {other} instead of {own}; their features "
                "belong to other places"
            )


def _near(own: Any, other: Any) -> bool:
    """Whether yaws of each class are the same but for rounding."""
    if own is None or other is None or [*map(len, own)] != [*map(len, other)]:
        return False
    pairs = zip(itertools.chain(*own), itertools.chain(*other), strict=True)
    return all(abs(a - b) < YAW_TOLERANCE for a, b in pairs)


def _numbers(losses: Sequence[Any], count: int) -> list[int]:
    """Of the losses' teachers. Raises UsageError for a teacher of none."""
    numbers = [_number(options, count) for options in losses]
    if idle := sorted({*range(count)} - {*numbers}):
        raise UsageError(
            f"no loss is from teacher {idle[0]}: give one 'teacher: {idle[0]}', or leave that "
            "teacher out"
        )
    return numbers


def _number(options: Any, count: int) -> int:
    if not isinstance(options, Mapping) or "loss" not in options:
        loss_settings(options)  # says what is wrong with it
    choose("loss", str(options["loss"]), {**LOSSES, ASSIGNMENT: ""})
    number = options.get("teacher", 0)
    if type(number) is not int or not 0 <= number < count:
        raise UsageError(f"'teacher' of a loss must be from 0 to {count - 1}, got {number!r}")
    return number


def _distinct(losses: Sequence[tuple[str, str, int]]) -> list[str]:
    """Names of losses, with their taps where a name comes twice, with the numbers of their teachers
    where both do, and where all three do numbered."""
    names = [name for name, _, _ in losses]
    places = [(name, tap) for name, tap, _ in losses]
    found = []
    for k, (name, tap, number) in enumerate(losses):
        known = f"{name} {tap}" if names.count(name) > 1 else name
        known = f"{known} {number}" if places.count((name, tap)) > 1 else known
        before = losses[:k].count(losses[k])
        found.append(f"{known} #{before + 1}" if losses.count(losses[k]) > 1 else known)
    return found


def _picked(outputs: dict[str, Any], taps: Sequence[str]) -> Any:
    """What a loss is given: of one tap its output, of several a tuple."""
    return outputs[taps[0]] if len(taps) == 1 else tuple(outputs[tap] for tap in taps)


def _example(student: Detector) -> Any:
    """Of two points around the middle of what is seen."""
    low, high = (torch.tensor(corner) for corner in student.bounds)
    points = torch.zeros(2, student.settings.values)
    points[0, :3], points[1, :3] = low.lerp(high, 0.5), low.lerp(high, 0.6)
    return student.prepare([points])


def _eval_outputs(student: Detector, example: Any, names: Sequence[str]) -> dict[str, Any]:
    """Outputs of a network whose statistics stay as they are."""
    training = student.training
    student.eval()
    found = run_until(student.network, example, names)
    student.train(training)
    return found
