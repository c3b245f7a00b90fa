"""A detector taught by others while it is trained: what a recipe's losses add to its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geodistill.checks import UsageError
from geodistill.distill.losses import Loss, Seen, build_loss, loss_settings
from geodistill.distill.losses.taps import Taps, run_until
from geodistill.fit.detector.batches import Batch
from geodistill.nn.bev import Predictions
from geodistill.nn.detector import Detector
from geodistill.nn.detector_files import fingerprint
from geodistill.nn.synced import synced


class Teaching:
    """What a student learns from teachers; a `Guide` of `fit.detector`.

    Teachers are frozen and in eval mode, and of each only so much is run as is compared.

    Attributes:
        losses: in the order of the recipe; their parameters are trained with the student.
    """

    def __init__(
        self, student: Detector, teachers: Sequence[Detector], losses: Sequence[Any]
    ) -> None:
        """
        Args:
            losses: mappings as recipes have them; `teacher` is the number of the teacher, the
                first being 0.

        Raises UsageError for an unknown loss, option, part or teacher, and for a teacher that sees
        other voxels or other anchors.
        """
        if not teachers or not losses:
            raise UsageError("to be taught, a student needs a teacher and losses")
        self.student, self.teachers = student, list(teachers)
        self.of = [_number(options, len(teachers)) for options in losses]
        for teacher in teachers:
            expect_same_input(student, teacher)
            teacher.requires_grad_(False).eval()
            teacher.to(student.anchors.device)
        taps = [loss_settings(options)[1].tap for options in losses]
        self.names = list(dict.fromkeys(taps))
        self._wanted = [
            [tap for tap, own in zip(taps, self.of, strict=True) if own == number]
            for number in range(len(teachers))
        ]
        example = _example(student)
        shown = [
            run_until(t.network, example, w) for t, w in zip(teachers, self._wanted, strict=True)
        ]
        seen = _eval_outputs(student, example, self.names)
        losses_built: list[Loss] = [
            build_loss(options, shown[own][tap], seen[tap])
            for options, own, tap in zip(losses, self.of, taps, strict=True)
        ]
        self.losses = nn.ModuleList(losses_built).to(student.anchors.device)
        synced(self.losses)
        self._names = [str(options["loss"]) for options in losses]
        self._taps = Taps(student.network, self.names)
        low, high = student.settings.grid.low, student.settings.grid.high
        self._area = (low[0], low[1], high[0], high[1])

    @property
    def module(self) -> nn.Module:
        return self.losses

    def teachers_seen(self) -> tuple[str, ...]:
        return tuple(fingerprint(teacher) for teacher in self.teachers)

    def labels(self, batch: Batch, student: Detector) -> Batch:
        return batch

    def loss(
        self, batch: Batch, predictions: Predictions, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        shown = self.outputs(batch)
        seen = Seen(
            *(batch.voxels, batch.boxes, batch.labels, batch.targets),
            *(self.student.anchors, self._area, batch.trails),
        )
        total = torch.zeros((), device=self.student.anchors.device)
        said: dict[str, float] = {}
        for name, own, loss in zip(self._names, self.of, self.losses, strict=True):
            assert isinstance(loss, Loss)
            tap, weight = loss.settings.tap, loss.settings.weight
            found = loss(shown[own][tap], self._taps.outputs[tap], seen, progress)
            total = total + weight * found * self._share(batch)
            said[name] = float(found.detach())
            said |= {f"{name} {key}": value for key, value in loss.report().items()}
        return total, said

    def outputs(self, batch: Batch) -> list[dict[str, Any]]:
        """What each teacher puts out at the taps that are compared with it."""
        found = []
        for number, (teacher, names) in enumerate(zip(self.teachers, self._wanted, strict=True)):
            held = {
                tap: batch.taught[number, tap] for tap in names if (number, tap) in batch.taught
            }
            missing = [tap for tap in names if tap not in held]
            found.append(held | run_until(teacher.network, batch.voxels, missing))
        return found

    def _share(self, batch: Batch) -> float:
        """This rank's part of the scans, as a loss is a mean over them."""
        return batch.voxels.scans / batch.frames


def expect_same_input(student: Detector, teacher: Detector) -> None:
    """Raise UsageError where a teacher sees other voxels, classes or anchors than a student."""
    one, two = student.settings, teacher.settings
    for what, own, other in (
        ("architecture", one.architecture, two.architecture),
        ("grid", one.grid, two.grid),
        ("values of a point", one.values, two.values),
        ("anchors", one.anchors, two.anchors),
        ("placing of anchors", one.placing, two.placing),
    ):
        if own != other:
            raise UsageError(
                f"the teacher has another {what} than the student: {other} instead of {own}; their "
                "features belong to other places"
            )


def _number(options: Any, count: int) -> int:
    number = options.get("teacher", 0) if isinstance(options, dict) else 0
    if not isinstance(number, int) or not 0 <= number < count:
        raise UsageError(f"'teacher' of a loss must be from 0 to {count - 1}, got {number!r}")
    return number


def _example(student: Detector) -> Any:
    """Voxels of two points in the middle of a grid."""
    grid = student.settings.grid
    low, high, size = (torch.tensor(x) for x in (grid.low, grid.high, grid.size))
    middle = (low + high) / 2
    points = torch.zeros(2, student.settings.values)
    points[0, :3], points[1, :3] = middle, middle + 1.5 * size * torch.tensor([1.0, 1.0, 0.0])
    return student.prepare([points])


def _eval_outputs(student: Detector, example: Any, names: Sequence[str]) -> dict[str, Any]:
    """Outputs of a network whose statistics stay as they are."""
    training = student.training
    student.eval()
    found = run_until(student.network, example, names)
    student.train(training)
    return found
