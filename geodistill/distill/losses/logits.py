"""What the heads say of the anchors that have an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.detect.anchors import BETA
from geodistill.distill.losses.base import Loss, LossSettings, Seen, expect_heads, over_ranks
from geodistill.nn.bev import Predictions


@dataclass(frozen=True, kw_only=True)
class LogitSettings(LossSettings):
    """Attributes:
    classes: weight of the classes' squared difference.
    codes: weight of the boxes' smooth L1.
    """

    tap: str = "head"
    classes: float = 15.0
    codes: float = 0.2


class Logits(Loss):
    """The student's probabilities and boxes towards the teacher's, at pivotal positions: the
    anchors to which an object is assigned. (The released code takes all anchors of a cell that has
    one of these.)

    Source: Yang et al., "Towards Efficient 3D Object Detection with Knowledge Distillation"
    (NeurIPS 2022), section 4.2, with the weights of its detectors with anchors.
    """

    Settings = LogitSettings

    def __init__(self, settings: LogitSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_heads("logits", teacher, student)

    def forward(
        self, teacher: Predictions, student: Predictions, seen: Seen, progress: float
    ) -> Tensor:
        own = torch.stack([one.label for one in seen.targets]) >= 0
        count = over_ranks(own.sum())
        away = teacher.logits[own].sigmoid() - student.logits[own].sigmoid()
        classes = away.square().sum() / count
        codes = code_distance(teacher.codes[own], student.codes[own]).sum() / count
        return self.settings.classes * classes + self.settings.codes * codes


def code_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Smooth L1 between codes [N, 7], whose turns count by the sine of the difference: [N, 7]."""
    away = teacher - student
    away = torch.cat([away[:, :6], away[:, 6:].sin()], 1)
    return F.smooth_l1_loss(away, torch.zeros_like(away), beta=BETA, reduction="none")
