"""Maps where objects are, and where they were and will be in neighbouring frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geodistill import dist
from geodistill.checks import UsageError
from geodistill.distill.losses.base import (
    Loss,
    PlaceSettings,
    Seen,
    adapter,
    expect_maps,
    over_ranks,
)
from geodistill.distill.losses.masks import heat
from geodistill.distill.losses.places import seen_cells
from geodistill.nn.pillars import EPSILON


@dataclass(frozen=True, kw_only=True)
class VcdSettings(PlaceSettings):
    """Attributes:
    trails: whether objects count along their trails, of scans that have them; or where they are
        alone.
    """

    weight: float = 0.4
    trails: bool = True


class Vcd(Loss):
    """sum |m (s - norm(t))|^2 / sum m: m is the largest of Gaussians about the objects, in this
    frame and in its neighbours; the teacher's channels are brought to mean 0 and variance 1.

    Source: Huang et al., "Leveraging Vision-Centric Multi-Modal Expertise for 3D Object Detection"
    (NeurIPS 2023), section 3.3, as its released code has it.
    """

    Settings = VcdSettings

    def __init__(self, settings: VcdSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_maps("vcd", teacher, student)
        self.adapter = adapter(student, teacher)

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        boxes = list(seen.boxes)
        if self.settings.trails:
            if seen.trails is None:
                raise UsageError(
                    "vcd weighs maps along objects' trails and the scans have none: use a data set "
                    "with trails, or set trails: false to weigh them by the boxes alone"
                )
            boxes = [
                torch.cat([own, trail.to(own).flatten(0, 1)])
                for own, trail in zip(boxes, seen.trails, strict=True)
            ]
        size = (teacher.shape[2], teacher.shape[3])
        cells = seen_cells(seen, size, self.settings.reach)
        heats = torch.stack([heat(own.to(teacher), seen.area, size) for own in boxes])
        mask, wanted = (heats * cells)[:, None], normed(teacher, cells)
        away = mask * (self.adapter(student) - wanted)
        return away.square().sum() / over_ranks(mask.sum())


def normed(x: Tensor, cells: Tensor) -> Tensor:
    """Maps [B, C, H, W] whose channels have mean 0 and variance 1 over cells, bool [B, H, W]."""
    weight = cells[:, None] / dist.all_sum(cells.sum().to(x)).clamp(min=1)
    mean = dist.all_sum((x * weight).sum((0, 2, 3), keepdim=True))
    variance = dist.all_sum(((x - mean).square() * weight).sum((0, 2, 3), keepdim=True))
    return (x - mean) / (variance + EPSILON).sqrt()
