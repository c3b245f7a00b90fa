"""Maps inside of objects and outside, each object with the same weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from geodistill.checks import expect_within
from geodistill.distill.losses.base import Loss, PlaceSettings, Seen, adapter, expect_maps
from geodistill.distill.losses.masks import shares
from geodistill.distill.losses.places import seen_cells


@dataclass(frozen=True, kw_only=True)
class ClockSettings(PlaceSettings):
    """Attributes:
    foreground, background: weights of the places of objects and of all others.
    """

    foreground: float = 1.0
    background: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_within(self, foreground=(0, math.inf), background=(0, math.inf))


class Clock(Loss):
    """The part of the memory of CLoCKDistill: squares of the features' differences, by 1 / cells of
    the box where an object is, and by 1 / cells of the background elsewhere; the mean over the
    channels and the scans. Its queries need a decoder, which detectors with anchors do not have.

    Source: Lan and Tian, "CLoCKDistill: Consistent Location-and-Context-aware Knowledge
    Distillation for DETRs" (2025).
    """

    Settings = ClockSettings

    def __init__(self, settings: ClockSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_maps("clock", teacher, student)
        self.adapter = adapter(student, teacher)

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        own = self.settings
        cells = seen_cells(seen, teacher.shape[2:], own.reach)
        masks = shares(seen.boxes, seen.area, cells, teacher)
        weight = own.foreground * masks.objects + own.background * masks.background
        square = (teacher - self.adapter(student)).square().mean(1)
        return (square * weight).sum((1, 2)).mean()
