"""Places and channels that teacher and student choose together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodistill.checks import UsageError, expect_within
from geodistill.distill.losses.base import Loss, PlaceSettings, Seen, adapter, expect_maps
from geodistill.distill.losses.places import NEVER, seen_cells


@dataclass(frozen=True, kw_only=True)
class AcamSettings(PlaceSettings):
    """Attributes:
    masks: of places, and as many of channels.
    side: maps are averaged to at most so many rows and columns, as every place attends to all.
    diversity: weight of what keeps the masks apart.
    """

    masks: int = 6
    side: int = 32
    diversity: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_within(self, diversity=(0, math.inf))
        if self.masks < 2 or self.side < 1:
            raise UsageError(
                f"acam needs at least 2 masks and a side of at least 1, got {self.masks} and "
                f"{self.side}"
            )


class Acam(Loss):
    """Adaptive and cooperative attention masking: places of the student's map, asked for by the
    teacher's, are fused to F = softmax(Q K^T / sqrt(d)) V; M masks of places are sig(F m_k), M of
    channels sig(mean(F) m_k), all of them learnt. The loss is the mean over the masks of the
    features' squares by each mask, and the Dice overlap of masks of a kind.

    Source: Lan and Tian, "ACAM-KD: Adaptive and Cooperative Attention Masking for Knowledge
    Distillation" (ICCV 2025); the squares under a mask are averaged by it.
    """

    Settings = AcamSettings

    def __init__(self, settings: AcamSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_maps("acam", teacher, student)
        wide = teacher.shape[1]
        narrow = max(1, wide // 2)
        self.adapter = adapter(student, teacher)
        self.query, self.key = nn.Linear(wide, narrow), nn.Linear(wide, narrow)
        self.value = nn.Linear(wide, wide)
        self.places = nn.Parameter(torch.randn(settings.masks, wide) / math.sqrt(wide))
        self.channels = nn.Parameter(torch.randn(settings.masks, wide))

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        side = self.settings.side
        size = min(teacher.shape[2], side), min(teacher.shape[3], side)
        own = seen_cells(seen, teacher.shape[2:], self.settings.reach)[:, None]
        t, s = (
            F.adaptive_avg_pool2d(x * own, size).flatten(2).mT
            for x in (teacher, self.adapter(student))
        )  # [B, P, C]
        cells = F.adaptive_max_pool2d(own.to(t), size).flatten(2)  # [B, 1, P]
        share = self.query(t) @ self.key(s).mT / math.sqrt(self.query.out_features)
        fused = share.masked_fill(cells == 0, NEVER).softmax(2) @ self.value(s)
        places = (fused @ self.places.T).sigmoid().mT * cells  # [B, M, P]
        count = cells.sum(2).clamp(min=1)  # [B, 1]
        channels = ((cells @ fused) / count[..., None] * self.channels).sigmoid()  # [B, M, C]
        square = (t - s).square()
        by_place = (places @ square.mean(2)[..., None])[..., 0] / places.sum(2).clamp(min=1e-6)
        of_channels = (cells @ square)[:, 0] / count  # [B, C]
        by_channel = (channels @ of_channels[..., None])[..., 0] / channels.sum(2)
        alike = dice(places) + dice(channels)
        return by_place.mean() + by_channel.mean() + self.settings.diversity * alike


def dice(masks: Tensor) -> Tensor:
    """The mean of 2 a . b / (a . a + b . b) over the pairs of masks [B, M, N]."""
    products = masks @ masks.mT
    own = products.diagonal(dim1=1, dim2=2)
    overlap = 2 * products / (own[:, :, None] + own[:, None]).clamp(min=1e-12)
    count = masks.shape[1]
    first, second = torch.triu_indices(count, count, 1, device=masks.device)
    return overlap[:, first, second].mean()
