"""What the heads say of the anchors that have an object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from geodistill.checks import expect_within
from geodistill.detect.losses import code_loss
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

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_within(self, classes=(0, math.inf), codes=(0, math.inf))


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
        own = seen.anchor_labels >= 0
        count = over_ranks(own.sum())
        away = teacher.logits[own].sigmoid() - student.logits[own].sigmoid()
        classes = away.square().sum() / count
        codes = code_loss(student.codes[own], teacher.codes[own]).sum() / count
        return self.settings.classes * classes + self.settings.codes * codes
