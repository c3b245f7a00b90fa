"""What every loss between a teacher's and a student's features has in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from geodistill import dist
from geodistill.checks import UsageError, expect_within
from geodistill.nn.bev import Predictions
from geodistill.nn.point_clouds import PointBatch
from geodistill.nn.voxels import Voxels


@dataclass(frozen=True, eq=False)
class Seen:
    """A batch of B scans that teacher and student both saw.

    Attributes:
        inputs: what both networks are given.
        boxes: [M, 7] of each scan.
        targets: of each, as the detector has them.
        anchors: [H, W, C, R, 7]; None for a detector without.
        area: least x and y, largest x and y of the maps, in metres.
        trails: [M, T, 7] of each, the same objects in neighbouring frames, in this one's
            coordinates; None where they are unknown.
    """

    inputs: Voxels | PointBatch
    boxes: Sequence[Tensor]
    targets: Sequence[Any]
    anchors: Any
    area: tuple[float, float, float, float]
    trails: Sequence[Tensor] | None = None

    @property
    def anchor_labels(self) -> Tensor:
        """int64 [B, A], see `Targets.label`."""
        return torch.stack([one.label for one in self.targets])


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Attributes:
    tap: the part of both networks whose outputs are compared, by its dotted name.
    weight: of the loss.
    until: share of the training over which the weight falls to 0, in a straight line: the student
        learns from the teacher first and from the labels then. 0 keeps the weight.
    """

    tap: str = "neck"
    weight: float = 1.0
    until: float = 0.0

    def __post_init__(self) -> None:
        expect_within(self, weight=(0, math.inf), until=(0, 1))

    @property
    def taps(self) -> tuple[str, ...]:
        """All parts that the loss is given; of several, their outputs come as a tuple."""
        return (self.tap,)

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """Those of them that the teacher gives."""
        return self.taps

    def weight_at(self, progress: float) -> float:
        """The weight when that share of the training is done."""
        return self.weight * max(0.0, 1 - progress / self.until) if self.until else self.weight


@dataclass(frozen=True, kw_only=True)
class PlaceSettings(LossSettings):
    """Attributes:
    reach: cells of a map that are farther from every point of the scan, in metres along x or y, are
        not compared; None compares all. Nothing limits what networks put there, which can be most
        of a map's energy.
    """

    reach: float | None = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_within(self, reach=(0, math.inf))


class Loss(nn.Module, ABC):
    """A loss at one tap; its parameters, if it has any, are trained with the student and not kept.

    Made with its settings, and with what teacher and student put out at the tap for one example.
    """

    Settings: ClassVar[type[LossSettings]] = LossSettings
    settings: Any

    def __init__(self, settings: Any) -> None:
        super().__init__()
        self.settings = settings

    @abstractmethod
    def forward(self, teacher: Any, student: Any, seen: Seen, progress: float) -> Tensor:
        """The loss, without its weight, of outputs at the tap.

        Args:
            teacher, student: [V, C] of voxels or points, maps [B, C, H, W], or predictions; of
                several taps a tuple of these.
            seen: what they are outputs for.
            progress: share of the training that is done.
        """

    def report(self) -> dict[str, float]:
        """Numbers of the last call that are worth a line in metrics.jsonl."""
        return {}


def over_ranks(count: Tensor) -> Tensor:
    """How many of something a rank's scans have, as the mean over the ranks, and at least 1 in all:
    sums that are divided by it have the mean, over the ranks, that one rank with all scans has."""
    return dist.count(count) / dist.world()


def adapter(student: Tensor, teacher: Tensor) -> nn.Module:
    """A linear map of the student's channels to the teacher's, of features like these examples:
    [V, C] or [B, C, H, W]. The identity where they are as many."""
    wide, narrow = teacher.shape[1], student.shape[1]
    if wide == narrow:
        return nn.Identity()
    return nn.Linear(narrow, wide) if student.dim() == 2 else nn.Conv2d(narrow, wide, 1)


def drawn(progress: float) -> torch.Generator:
    """Random numbers that are those of a step alone, whatever the seed, so that a resumed run has
    the same."""
    return torch.Generator().manual_seed(int(progress * (1 << 48)))


def expect_maps(name: str, teacher: Any, student: Any) -> None:
    """Raise UsageError where outputs are not maps [B, C, H, W] of one size."""
    kinds = [_kind(x) for x in (teacher, student)]
    maps = all(isinstance(x, Tensor) and x.dim() == 4 for x in (teacher, student))
    if not maps or teacher.shape[2:] != student.shape[2:]:
        raise UsageError(
            f"{name} compares maps of one height and width: at its tap the teacher gives {kinds[0]}"
            f" and the student {kinds[1]}"
        )


def expect_alike(name: str, teacher: Any, student: Any) -> None:
    """Raise UsageError where outputs are not tensors alike but for their channels, dimension 1."""
    kinds = [_kind(x) for x in (teacher, student)]
    tensors = isinstance(teacher, Tensor) and isinstance(student, Tensor)
    if not tensors or len(teacher) != len(student) or teacher.shape[2:] != student.shape[2:]:
        raise UsageError(
            f"{name} compares features of the same places: at its tap the teacher gives {kinds[0]} "
            f"and the student {kinds[1]}"
        )


def expect_heads(name: str, teacher: Any, student: Any, classes: int = 1) -> None:
    """Raise UsageError where outputs are not predictions of the same anchors and classes, or of
    fewer than so many."""
    shapes = [
        tuple(x.logits.shape) if isinstance(x, Predictions) else _kind(x)
        for x in (teacher, student)
    ]
    if not isinstance(teacher, Predictions) or shapes[0] != shapes[1]:
        raise UsageError(
            f"{name} compares heads of the same anchors: the teacher gives {shapes[0]} and the "
            f"student {shapes[1]}"
        )
    if teacher.logits.shape[-1] < classes:
        raise UsageError(
            f"{name} compares classes with one another, and these detectors have one: choose "
            "another loss, such as logits"
        )


def _kind(x: Any) -> Any:
    return tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
