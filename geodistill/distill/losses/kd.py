"""What the heads say of all anchors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import ABOVE_ZERO, expect_within
from geodistill.distill.losses.base import Loss, PlaceSettings, Seen, expect_heads, over_ranks
from geodistill.distill.losses.places import seen_cells
from geodistill.nn.bev import Predictions


@dataclass(frozen=True, kw_only=True)
class KdSettings(PlaceSettings):
    """Attributes:
    temperature: of the logits.
    """

    tap: str = "head"
    temperature: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_within(self, temperature=ABOVE_ZERO)


class Kd(Loss):
    """tau^2 times the Kullback-Leibler divergence of the student's probabilities from the
    teacher's, sig(z / tau), each class of each anchor on its own as the heads have them; their sum
    over the anchors, by the number of those that have an object, one in each scan at the least.

    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015), section
    2, for sigmoids in the place of a softmax.
    """

    Settings = KdSettings

    def __init__(self, settings: KdSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_heads("kd", teacher, student)

    def forward(
        self, teacher: Predictions, student: Predictions, seen: Seen, progress: float
    ) -> Tensor:
        tau = self.settings.temperature
        objects = seen.anchor_labels >= 0
        apart = divergence(teacher.logits / tau, student.logits / tau).sum(2)
        cells = seen_cells(seen, seen.anchors.shape[:2], self.settings.reach).flatten(1)
        apart = apart * cells.repeat_interleave(apart.shape[1] // cells.shape[1], 1)
        return tau * tau * apart.sum() / over_ranks(objects.sum(1).clamp(min=1).sum())


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Between two outcomes each, of logits of one shape."""
    yes = teacher.sigmoid()
    surely = yes * (F.logsigmoid(teacher) - F.logsigmoid(student))
    return surely + (1 - yes) * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
