"""Features brought together, place by place."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geodistill.distill.losses.base import Loss, PlaceSettings, Seen, adapter, expect_alike
from geodistill.distill.losses.places import rows, seen_rows


class Hint(Loss):
    """The mean square between the teacher's features and the student's, mapped linearly to as many
    channels.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015), equation 3.
    """

    Settings = PlaceSettings

    def __init__(self, settings: PlaceSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_alike("hint", teacher, student)
        self.adapter = adapter(rows(student), rows(teacher))

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        place, weight = seen_rows(teacher, seen, self.settings.reach)
        apart = self.adapter(rows(student)[place]) - rows(teacher)[place]
        return (apart.square().mean(1) * weight).sum()
