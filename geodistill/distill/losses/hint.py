"""Features brought together, place by place."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geodistill.distill.losses.base import Loss, PlaceSettings, Seen, adapter, expect_alike
from geodistill.distill.losses.places import seen_mean


class Hint(Loss):
    """The mean square between the teacher's features and the student's, mapped linearly to as many
    channels.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015), equation 3.
    """

    Settings = PlaceSettings

    def __init__(self, settings: PlaceSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_alike("hint", teacher, student)
        self.adapter = adapter(student, teacher)

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        apart = (self.adapter(student) - teacher).square().mean(1)
        return seen_mean(apart, seen, self.settings.reach)
