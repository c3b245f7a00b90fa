"""Objects of whatever kind of which teacher and student say different things."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import expect_within
from geodistill.detect.anchors import decode
from geodistill.detect.boxes import turn
from geodistill.detect.losses import code_loss
from geodistill.detect.overlap import iou_nearest
from geodistill.detect.suppress import suppress
from geodistill.distill.losses.base import (
    Loss,
    LossSettings,
    Seen,
    adapter,
    expect_heads,
    expect_maps,
)
from geodistill.distill.losses.kd import divergence
from geodistill.distill.losses.masks import Area
from geodistill.nn.bev import Predictions

CANDIDATES = 100
ASSIGNED = 0.5  # overlap from which an anchor belongs to an instance


@dataclass(frozen=True, kw_only=True)
class GidSettings(LossSettings):
    """Attributes:
    head: the part that predicts.
    instances: of a scan at most.
    overlap: from above, of which only the instance with the larger difference stays.
    sides: of the grid of places of an instance that are compared.
    features, relations, responses: weights of the three parts.
    """

    head: str = "head"
    instances: int = 10
    overlap: float = 0.3
    sides: int = 5
    features: float = 1.0
    relations: float = 1.0
    responses: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_within(self, instances=(1, math.inf), sides=(1, math.inf), overlap=(0, 1))
        weight = (0, math.inf)
        expect_within(self, features=weight, relations=weight, responses=weight)

    @property
    def taps(self) -> tuple[str, ...]:
        return (self.tap, self.head)


class Gid(Loss):
    """General instance distillation. Instances are the boxes whose largest difference between
    teacher and student in a class's score is largest, of whichever of the two gives the higher
    score, without those that overlap a better one. Three parts: the mean square of their features,
    the smooth L1 between their relative distances, and the responses of the anchors in them.

    Source: Dai et al., "General Instance Distillation for Object Detection" (CVPR 2021); weights of
    its parts are 1, as features and heads here are others.
    """

    Settings = GidSettings

    def __init__(self, settings: GidSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_maps("gid", teacher[0], student[0])
        expect_heads("gid", teacher[1], student[1])
        self.adapter = adapter(student[0], teacher[0])

    def forward(
        self,
        teacher: tuple[Tensor, Predictions],
        student: tuple[Tensor, Predictions],
        seen: Seen,
        progress: float,
    ) -> Tensor:
        (map_t, said_t), (map_s, said_s) = teacher, student
        map_s, own, anchors = self.adapter(map_s), self.settings, seen.anchors.reshape(-1, 7)
        parts = []
        for k in range(len(map_t)):
            boxes = instances(said_t, said_s, k, anchors, own)
            if len(boxes) == 0:
                continue
            t, s = (within(x[k], boxes, seen.area, own.sides) for x in (map_t, map_s))
            apart = F.smooth_l1_loss(distances(s), distances(t))
            mine = (iou_nearest(anchors, boxes) >= ASSIGNED).any(1)
            count = mine.sum().clamp(min=1)
            classes = divergence(said_t.logits[k, mine], said_s.logits[k, mine]).sum() / count
            codes = code_loss(said_s.codes[k, mine], said_t.codes[k, mine]).sum() / count
            parts.append(
                own.features * (t - s).square().mean()
                + own.relations * apart
                + own.responses * (classes + codes)
            )
        return torch.stack(parts).sum() / len(map_t) if parts else map_s.sum() * 0


@torch.no_grad()
def instances(
    teacher: Predictions, student: Predictions, scan: int, anchors: Tensor, settings: GidSettings
) -> Tensor:
    """Boxes [K, 7] of one scan."""
    t, s = teacher.logits[scan].sigmoid(), student.logits[scan].sigmoid()
    away = (t - s).abs().amax(1)
    best = away.topk(min(CANDIDATES, len(away))).indices
    best = best[away[best] > 0]
    higher = (t[best].amax(1) >= s[best].amax(1))[:, None]
    codes = torch.where(higher, teacher.codes[scan, best], student.codes[scan, best])
    boxes = decode(codes, anchors[best])
    kept = suppress(boxes, away[best], settings.overlap, settings.instances)
    return boxes[kept]


def within(x: Tensor, boxes: Tensor, area: Area, sides: int) -> Tensor:
    """A map [C, H, W] at a grid of places in each of the boxes [K, 7], between cells linearly:
    [K, C, sides, sides]."""
    unit = (torch.arange(sides).to(boxes) + 0.5) / sides - 0.5
    along = unit[None, None, :] * boxes[:, 3, None, None]
    across = unit[None, :, None] * boxes[:, 4, None, None]
    away = torch.stack(turn(along, across, boxes[:, 6, None, None]), -1)
    low, high = boxes.new_tensor(area[:2]), boxes.new_tensor(area[2:])
    grid = 2 * (boxes[:, None, None, :2] + away - low) / (high - low) - 1
    # All places of one map together: the gradient of a map for each box would be as large as all.
    found = F.grid_sample(
        x[None], grid.to(x).flatten(0, 1)[None], align_corners=False, padding_mode="border"
    )
    return found[0].unflatten(1, (len(boxes), sides)).transpose(0, 1)


def distances(features: Tensor) -> Tensor:
    """Between all pairs of instances' features, by their mean: [K, K], 0 for a single one."""
    flat = features.flatten(1)
    square = (flat[:, None] - flat).square().sum(2)
    away = square.clamp(min=1e-12).sqrt()
    away = away - torch.diag(away.diagonal())
    return away / (away.sum() / max(1, len(away) * (len(away) - 1))).clamp(min=1e-6)
