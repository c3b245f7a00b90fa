"""Where each channel is strong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geodistill.checks import ABOVE_ZERO, expect_within
from geodistill.distill.losses.base import (
    Loss,
    PlaceSettings,
    Seen,
    adapter,
    expect_maps,
)
from geodistill.distill.losses.places import rows, seen_cells


@dataclass(frozen=True, kw_only=True)
class ChannelSettings(PlaceSettings):
    """Attributes:
    temperature: of each channel's distribution over the places.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_within(self, temperature=ABOVE_ZERO)


class Channels(Loss):
    """Channel-wise distillation: each channel of a map is a distribution over its places, and that
    of the student, mapped linearly to as many channels, is to be that of the teacher.

    Source: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction" (ICCV 2021),
    equations 4 and 5: tau^2 / C times the Kullback-Leibler divergences' sum.
    """

    Settings = ChannelSettings

    def __init__(self, settings: ChannelSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_maps("channels", teacher, student)
        self.adapter = adapter(rows(student), rows(teacher))

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        tau, cells = self.settings.temperature, teacher.shape[2:]
        own = seen_cells(seen, cells, self.settings.reach).flatten(1)
        lost = []
        for k, place in enumerate(own):
            t, s = rows(teacher[k : k + 1])[place], rows(student[k : k + 1])[place]
            wanted, found = (torch.log_softmax(x / tau, 0) for x in (t, self.adapter(s)))
            lost.append((wanted.exp() * (wanted - found)).sum(0).mean())
        return tau * tau * torch.stack(lost).mean()
