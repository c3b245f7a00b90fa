"""Where features are strong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geodistill.distill.losses.base import Loss, PlaceSettings, Seen, expect_alike
from geodistill.distill.losses.places import seen_cells, seen_rows


@dataclass(frozen=True, kw_only=True)
class AttentionSettings(PlaceSettings):
    weight: float = 10.0


class Attention(Loss):
    """The distance of the two maps of attention, the sums of features' squares over the channels,
    each scaled to length 1; of voxels [V, C] those of all scans make one map.

    Source: Zagoruyko and Komodakis, "Paying More Attention to Attention" (ICLR 2017), equation 2.
    """

    Settings = AttentionSettings

    def __init__(self, settings: AttentionSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_alike("attention", teacher, student)

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        if teacher.dim() == 4:
            own = seen_cells(seen, teacher.shape[2:], self.settings.reach)
            teacher, student = (x * own[:, None] for x in (teacher, student))
        else:
            place, _ = seen_rows(teacher, seen, None)
            teacher, student = teacher[place], student[place]
        return (attention(teacher) - attention(student)).norm(dim=1).mean()


def attention(x: Tensor) -> Tensor:
    """Of maps [B, C, H, W] or voxels [V, C]: [B, H W] or [1, V], each row of length 1."""
    strength = x.square().sum(1)
    rows = strength.flatten(1) if x.dim() == 4 else strength[None]
    return torch.nn.functional.normalize(rows, dim=1, eps=1e-12)
