"""The foreground and the background apart, where the teacher looks, and the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geodistill.checks import ABOVE_ZERO, expect_within
from geodistill.distill.losses.base import (
    Loss,
    PlaceSettings,
    Seen,
    adapter,
    expect_maps,
)
from geodistill.distill.losses.masks import shares
from geodistill.distill.losses.places import NEVER, seen_cells


@dataclass(frozen=True, kw_only=True)
class FgdSettings(PlaceSettings):
    """Attributes:
    temperature: of attention.
    foreground, background: weights of the features.
    attention: weight of the maps of attention.
    whole: weight of what is made of all places.
    """

    temperature: float = 0.5
    foreground: float = 1e-3
    background: float = 5e-4
    attention: float = 5e-4
    whole: float = 5e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        weight = (0, math.inf)
        expect_within(self, foreground=weight, background=weight, attention=weight, whole=weight)
        expect_within(self, temperature=ABOVE_ZERO)


class Context(nn.Module):
    """A map, and added to each of its places what is made of all of them by attention.

    Source: Cao et al., "GCNet" (ICCV 2019).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(channels, 1, 1)
        half = max(1, channels // 2)
        self.change = nn.Sequential(
            nn.Linear(channels, half), nn.LayerNorm(half), nn.ReLU(), nn.Linear(half, channels)
        )
        nn.init.zeros_(self.change[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.change[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, cells: Tensor) -> Tensor:
        """Of maps [B, C, H, W], of which cells, bool [B, H, W], are attended to."""
        looks = self.attention(x).masked_fill(~cells[:, None], NEVER)
        share = looks.flatten(2).softmax(2)  # [B, 1, H W]
        context = (x.flatten(2) * share).sum(2)
        return x + self.change(context)[..., None, None]


class Fgd(Loss):
    """Focal and global distillation, of a scan, the mean over scans of

        sum_(c, p) (foreground M_p + background (1 - M_p)) S_p A_p A_c (t - s)^2
        + attention (|A_p(t) - A_p(s)|_1 + |A_c(t) - A_c(s)|_1) + whole sum (R(t) - R(s))^2,

    with M the cells of boxes, S 1 / cells of the box or of the background, A the teacher's
    attention, softmaxes of the mean magnitudes of places and of channels, and R a context block
    each.

    Source: Yang et al., "Focal and Global Knowledge Distillation for Detectors" (CVPR 2022),
    with its weights for detectors of one stage.
    """

    Settings = FgdSettings

    def __init__(self, settings: FgdSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_maps("fgd", teacher, student)
        self.adapter = adapter(student, teacher)
        self.of_teacher, self.of_student = Context(teacher.shape[1]), Context(teacher.shape[1])

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        own = self.settings
        found = self.adapter(student)
        cells = seen_cells(seen, teacher.shape[2:], own.reach)
        masks = shares(seen.boxes, seen.area, cells, teacher)
        weight = own.foreground * masks.objects + own.background * masks.background
        (where, which), (where_s, which_s) = (
            attention(x, cells, own.temperature) for x in (teacher, found)
        )
        square = (teacher - found).square() * which[..., None, None]
        features = (square.sum(1) * where * weight).sum((1, 2))
        looks = (where - where_s).abs().sum((1, 2)) + (which - which_s).abs().sum(1)
        whole = (self.of_teacher(teacher, cells) - self.of_student(found, cells)).square().sum(1)
        whole = (whole * cells).sum((1, 2))
        return (features + own.attention * looks + own.whole * whole).mean()


def attention(x: Tensor, cells: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Of the cells, bool [B, H, W], of maps [B, C, H, W], [B, H, W] with mean 1 over them, and of
    the maps' channels, [B, C] with mean 1."""
    size, counts = x.abs(), cells.sum((1, 2)).clamp(min=1)
    looks = (size.mean(1) / temperature).masked_fill(~cells, NEVER)
    places = torch.softmax(looks.flatten(1), 1).view_as(looks)
    means = (size * cells[:, None]).sum((2, 3)) / counts[:, None]
    channels = torch.softmax(means / temperature, 1)
    return places * counts[:, None, None], channels * x.shape[1]
