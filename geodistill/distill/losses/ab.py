"""Which features are above 0 before a ReLU: activation boundaries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geodistill.checks import expect_within
from geodistill.distill.losses.base import Loss, PlaceSettings, Seen, adapter, expect_alike
from geodistill.distill.losses.ofd import BEFORE, expect_unclipped
from geodistill.distill.losses.places import rows, seen_rows


@dataclass(frozen=True, kw_only=True)
class AbSettings(PlaceSettings):
    """Attributes:
    margin: by which a neuron is to be on the right side of 0.
    """

    tap: str = BEFORE
    margin: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_within(self, margin=(0, math.inf))


class Ab(Loss):
    """Activation boundaries: the mean over neurons of relu(margin - s)^2 where the teacher's is
    active, and of relu(margin + s)^2 where it is not.

    Source: Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed by
    Hidden Neurons" (AAAI 2019).
    """

    Settings = AbSettings

    def __init__(self, settings: AbSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_alike("ab", teacher, student)
        expect_unclipped("ab", settings.tap, teacher)
        self.adapter = adapter(rows(student), rows(teacher))

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        place, weight = seen_rows(teacher, seen, self.settings.reach)
        found = self.adapter(rows(student)[place])
        side = torch.where(rows(teacher)[place] > 0, found, -found)
        apart = torch.relu(self.settings.margin - side).square().mean(1)
        return (apart * weight).sum()
