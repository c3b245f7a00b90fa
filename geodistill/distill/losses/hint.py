"""Features brought together, place by place."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from geodistill.distill.losses.base import Loss, LossSettings, Seen, adapter, expect_alike


class Hint(Loss):
    """The mean square between the teacher's features and the student's, mapped linearly to as many
    channels.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015), equation 3.
    """

    def __init__(self, settings: LossSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_alike("hint", teacher, student)
        self.adapter = adapter(student, teacher)

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        return F.mse_loss(self.adapter(student), teacher)
