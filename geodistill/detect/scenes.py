"""A scan and the boxes in it, and what a detector says of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.checks import check


@dataclass(frozen=True, eq=False)
class Scene:
    """One scan.

    Attributes:
        frame: its name in the data set.
        points: float32 [N, F], x, y and z in metres with z up, reflectance 0 to 1, and what else
            the data set has.
        boxes: float32 [M, 7], see `detect.boxes`.
        names: of the boxes' classes, as the data set has them.
        pastable: bool [M], boxes that are good examples: only they are pasted into other scans.
        trails: float32 [M, T, 7], the same objects in neighbouring frames, in this frame's
            coordinates; None where they are unknown.
    """

    frame: str
    points: Tensor
    boxes: Tensor
    names: tuple[str, ...]
    pastable: Tensor
    trails: Tensor | None = None

    def __post_init__(self) -> None:
        check(points=(self.points, "N F"), boxes=(self.boxes, "M 7"), pastable=(self.pastable, "M"))

    def labels(self, classes: tuple[str, ...]) -> Tensor:
        """Numbers of the boxes' classes among `classes`, -1 for others: int64 [M]."""
        numbers = {name: number for number, name in enumerate(classes)}
        return torch.tensor([numbers.get(name, -1) for name in self.names], dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector found in one scan, best first.

    Attributes:
        boxes: float32 [K, 7].
        scores: float32 [K], 0 to 1.
        labels: int64 [K], numbers of the detector's classes.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        check(boxes=(self.boxes, "K 7"), scores=(self.scores, "K"), labels=(self.labels, "K"))

    def __len__(self) -> int:
        return len(self.scores)

    def names(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Of the boxes' classes."""
        return tuple(str(classes[number]) for number in self.labels.tolist())
