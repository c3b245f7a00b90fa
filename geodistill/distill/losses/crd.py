"""Contrastive: each place's student features are told from other places' by the teacher's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodistill.checks import ABOVE_ZERO, expect_within
from geodistill.distill.losses.base import Loss, PlaceSettings, Seen, expect_alike
from geodistill.distill.losses.places import rows, strongest


@dataclass(frozen=True, kw_only=True)
class CrdSettings(PlaceSettings):
    """Attributes:
    temperature: of the cosines.
    embedding: channels in which places are compared.
    samples: places of a scan, those of the largest importance.
    """

    weight: float = 0.8
    temperature: float = 0.1
    embedding: int = 128
    samples: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        many = {"embedding": (1, math.inf), "samples": (2, math.inf)}
        expect_within(self, temperature=ABOVE_ZERO, **many)


class Crd(Loss):
    """Contrastive representation distillation: the student's place i goes with the teacher's place
    i, and not with the N = n - 1 others of the batch,

        h(t, s) = e^(cos / tau) / (e^(cos / tau) + Z N),
        loss = -mean_i [ log h(t_i, s_i) + sum_(j != i) log(1 - h(t_j, s_i)) ],

    both mapped linearly to one embedding and scaled to length 1. The batch stands for the data set
    of the paper's memory. Z, the mean of e^(cos / tau) over the batch, is what the released code
    divides by, without which every negative begins at h = 1 / 2.

    Source: Tian, Krishnan and Isola, "Contrastive Representation Distillation" (ICLR 2020),
    equations 18 and 19.
    """

    Settings = CrdSettings

    def __init__(self, settings: CrdSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_alike("crd", teacher, student)
        self.of_teacher = nn.Linear(teacher.shape[1], settings.embedding)
        self.of_student = nn.Linear(student.shape[1], settings.embedding)

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        chosen = strongest(teacher, seen, self.settings.samples, self.settings.reach)
        if not chosen:
            return student.sum() * 0
        own = torch.cat(chosen)
        wanted = F.normalize(self.of_teacher(rows(teacher)[own]), dim=1)
        found = F.normalize(self.of_student(rows(student)[own]), dim=1)
        n = len(own)
        score = found @ wanted.T / self.settings.temperature
        mean = score.detach().flatten().logsumexp(0) - 2 * math.log(n)
        score = score - mean - math.log(n - 1)
        right = F.logsigmoid(score.diagonal())
        wrong = F.logsigmoid(-score)
        return -(right + wrong.sum(1) - wrong.diagonal()).mean()
