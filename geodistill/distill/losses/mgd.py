"""The teacher's map made from a part of the student's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodistill.checks import UsageError
from geodistill.distill.losses.base import Loss, LossSettings, Seen, adapter, drawn, expect_maps


@dataclass(frozen=True, kw_only=True)
class MgdSettings(LossSettings):
    """Attributes:
    hidden: share of the places that are hidden.
    """

    tap: str = "backbone.stages.1"
    hidden: float = 0.65

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.hidden < 1:
            raise UsageError(f"hidden must be in [0, 1), got {self.hidden}")


class Mgd(Loss):
    """Masked generative distillation: the mean square between the teacher's map and what two
    convolutions make of the student's, random places of which are hidden.

    Source: Yang et al., "Masked Generative Distillation" (ECCV 2022); the mean
    takes the place of the sum.
    """

    Settings = MgdSettings

    def __init__(self, settings: MgdSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_maps("mgd", teacher, student)
        wide = teacher.shape[1]
        self.adapter = adapter(student, teacher)
        self.generation = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(), nn.Conv2d(wide, wide, 3, padding=1)
        )

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        shape = (len(student), 1, *student.shape[2:])
        shown = torch.rand(shape, generator=drawn(progress)) >= self.settings.hidden
        made = self.generation(self.adapter(student) * shown.to(student))
        return F.mse_loss(made, teacher)
