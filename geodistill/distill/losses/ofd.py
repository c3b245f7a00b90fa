"""Features before a ReLU: negative ones of the teacher only where the student's are higher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geodistill import dist
from geodistill.checks import UsageError
from geodistill.distill.losses.base import Loss, PlaceSettings, Seen, adapter, expect_alike
from geodistill.distill.losses.places import rows, seen_rows

BEFORE = "backbone.stages.1.16"  # the last batch norm of the second stage, in both architectures


@dataclass(frozen=True, kw_only=True)
class OfdSettings(PlaceSettings):
    tap: str = BEFORE


class Ofd(Loss):
    """The mean square between the teacher's features through a margin ReLU, max(t, m_c), and the
    student's, mapped linearly to as many channels; where the student is below a target that is not
    positive, nothing is lost.

    The margin m_c of a channel is the mean of the teacher's negative values, of these scans: the
    expectation that the paper also computes from its batch norm.

    Source: Heo et al., "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019),
    section 3.
    """

    Settings = OfdSettings

    def __init__(self, settings: OfdSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_alike("ofd", teacher, student)
        expect_unclipped("ofd", settings.tap, teacher)
        self.adapter = adapter(rows(student), rows(teacher))

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        place, weight = seen_rows(teacher, seen, self.settings.reach)
        own = rows(teacher)[place]
        wanted = torch.maximum(own, margins(own))
        found = self.adapter(rows(student)[place])
        free = (found <= wanted) & (wanted <= 0)
        return ((wanted - found).square().masked_fill(free, 0).mean(1) * weight).sum()


def margins(teacher: Tensor) -> Tensor:
    """The mean of each channel's negative values, 0 where it has none: [C] of rows [P, C]."""
    low = teacher < 0
    sums, counts = dist.all_sum(torch.stack([(teacher * low).sum(0), low.sum(0).to(teacher)]))
    return sums / counts.clamp(min=1)


def expect_unclipped(name: str, tap: str, teacher: Tensor) -> None:
    """Raise UsageError for features that a ReLU has been through."""
    if bool((teacher >= 0).all()):
        raise UsageError(
            f"{name} compares what comes before a ReLU, and nothing at '{tap}' is negative: tap a "
            f"batch norm, such as {BEFORE}"
        )
