"""What each of the student's stages would say, and what the teacher says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodistill.checks import UsageError, expect_within
from geodistill.distill.losses.base import Loss, LossSettings, Seen, expect_heads, over_ranks


@dataclass(frozen=True, kw_only=True)
class OfaSettings(LossSettings):
    """Attributes:
    stages: parts of the student that get an exit.
    gamma: by how much the teacher's belief in the right class counts.
    width: of an exit.
    """

    tap: str = "head"
    stages: tuple[str, ...] = ("backbone.stages.0", "backbone.stages.1")
    gamma: float = 1.0
    width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_within(self, gamma=(0, math.inf))
        if not self.stages or self.width < 1:
            raise UsageError("ofa needs stages of the student, and a width of at least 1")

    @property
    def taps(self) -> tuple[str, ...]:
        return (self.tap, *self.stages)

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        return (self.tap,)


class Ofa(Loss):
    """Exits take the student's stages, whatever these are, to the classes of the anchors that have
    an object; each exit and the head lose, with p the softmaxes over the classes and y the right,

        -(1 + p_y(teacher))^gamma log p_y - sum_(c != y) p_c(teacher) log p_c.

    Source: Hao et al., "One-for-All: Bridge the Gap Between Heterogeneous Architectures in
    Knowledge Distillation" (NeurIPS 2023).
    """

    Settings = OfaSettings

    def __init__(self, settings: OfaSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_heads("ofa", teacher, student[0], classes=2)
        for name, x in zip(settings.stages, student[1:], strict=True):
            if not isinstance(x, Tensor) or x.dim() != 4:
                raise UsageError(f"ofa needs maps as stages, and '{name}' is none")
        classes = student[0].logits.shape[2]
        self.exits = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(x.shape[1], settings.width, 1),
                nn.ReLU(),
                nn.Conv2d(settings.width, classes, 1),
            )
            for x in student[1:]
        )

    def forward(self, teacher: Any, student: Any, seen: Seen, progress: float) -> Tensor:
        label = seen.anchor_labels
        scan, anchor = (label >= 0).nonzero(as_tuple=True)
        mine, said = label[scan, anchor], teacher.logits[scan, anchor]
        height, width, classes, yaws = seen.anchors.shape[:4]
        place = anchor // (classes * yaws)
        losses = [apart(said, student[0].logits[scan, anchor], mine, self.settings.gamma)]
        for leave, x in zip(self.exits, student[1:], strict=True):
            found = F.interpolate(leave(x), (height, width), mode="bilinear")
            found = found.flatten(2)[scan, :, place]
            losses.append(apart(said, found, mine, self.settings.gamma))
        return torch.stack(losses).sum() / over_ranks((label >= 0).sum())


def apart(teacher: Tensor, student: Tensor, label: Tensor, gamma: float) -> Tensor:
    """The sum of the losses of logits [N, C] whose right classes are label [N]."""
    right = F.one_hot(label, teacher.shape[1]).bool()
    weight = teacher.softmax(1)
    weight = torch.where(right, (1 + weight) ** gamma, weight)
    return -(weight * student.log_softmax(1)).sum()
