"""The order in which the teacher puts the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geodistill.distill.losses.base import Loss, LossSettings, Seen, expect_heads, over_ranks
from geodistill.nn.bev import Predictions


@dataclass(frozen=True, kw_only=True)
class PldSettings(LossSettings):
    tap: str = "head"


class Pld(Loss):
    """Plackett-Luce distillation: the classes of an anchor that has an object are ranked, its own
    first and the others as the teacher's logits fall; the student loses

        -sum_k a_k log( e^(s_k) / sum_(l >= k) e^(s_l) )

    with a the teacher's softmax in that order. The mean over such anchors.

    Source: Bassam, Zhu and Bian, "PLD: A Choice-Theoretic List-Wise Knowledge Distillation"
    (NeurIPS 2025).
    """

    Settings = PldSettings

    def __init__(self, settings: PldSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_heads("pld", teacher, student, classes=2)

    def forward(
        self, teacher: Predictions, student: Predictions, seen: Seen, progress: float
    ) -> Tensor:
        label = seen.anchor_labels
        own = label >= 0
        t, s, mine = teacher.logits[own], student.logits[own], label[own][:, None]
        order = t.scatter(1, mine, torch.inf).argsort(1, descending=True)
        weight, ranked = t.softmax(1).gather(1, order), s.gather(1, order)
        rest = ranked.flip(1).logcumsumexp(1).flip(1)
        return (weight * (rest - ranked)).sum() / over_ranks(own.sum())
