"""The teacher's map made from a part of the student's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geodistill import dist
from geodistill.checks import UsageError
from geodistill.distill.losses.base import Loss, PlaceSettings, Seen, adapter, drawn, expect_maps
from geodistill.distill.losses.places import rows, seen_cells, seen_rows


@dataclass(frozen=True, kw_only=True)
class MgdSettings(PlaceSettings):
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
        shape = (len(student) * dist.world(), 1, *student.shape[2:])  # of all ranks' scans
        shown = torch.rand(shape, generator=drawn(progress)) >= self.settings.hidden
        shown = shown[dist.rank() :: dist.world()]
        reach = self.settings.reach
        own = seen_cells(seen, teacher.shape[2:], reach)
        made = self.generation(self.adapter(student) * (shown.to(own.device) & own[:, None]))
        place, weight = seen_rows(teacher, seen, reach)
        apart = rows(made)[place] - rows(teacher)[place]
        return (apart.square().mean(1) * weight).sum()
