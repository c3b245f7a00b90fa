"""Networks on the map seen from above: a backbone of stages, what joins them, and the head.

Sources: Yan et al., "SECOND" (Sensors 2018); Lang et al., "PointPillars" (CVPR 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geodistill.nn.pillars import EPSILON, MOMENTUM
from geodistill.nn.precision import in_float32, lifted

RARE = 0.01
"""What a new head believes of every anchor: as Lin et al. (2017) begin."""


class Backbone(nn.Module):
    """Stages of 3 x 3 convolutions with batch norm and ReLU; the first of each has its stride."""

    def __init__(
        self, channels: int, widths: Sequence[int], strides: Sequence[int], depths: Sequence[int]
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for width, stride, depth in zip(widths, strides, depths, strict=True):
            layers: list[nn.Module] = []
            for k in range(depth + 1):
                step = stride if k == 0 else 1
                layers += [nn.Conv2d(channels, width, 3, step, 1, bias=False), *_normed(width)]
                channels = width
            self.stages.append(nn.Sequential(*layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of each stage."""
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class Neck(nn.Module):
    """Brings the stages to one resolution and puts them one behind the other."""

    def __init__(self, channels: Sequence[int], widths: Sequence[int], ups: Sequence[int]) -> None:
        super().__init__()
        self.ups = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(c, w, up, up, bias=False), *_normed(w))
            for c, w, up in zip(channels, widths, ups, strict=True)
        )

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        return torch.cat([up(x) for up, x in zip(self.ups, stages, strict=True)], 1)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Of every anchor of B scans, in the order of `anchor_grid`.

    Attributes:
        logits: [B, A, C] of the classes.
        codes: [B, A, 7], see `detect.anchors.encode`.
        halves: [B, A, 2], logits of the half of the circle that it points to.
    """

    logits: Tensor
    codes: Tensor
    halves: Tensor


class AnchorHead(nn.Module):
    """Predictions of the anchors of each cell by 1 x 1 convolutions."""

    def __init__(self, channels: int, classes: int, anchors: int) -> None:
        super().__init__()
        self.classes = classes
        self.logits = nn.Conv2d(channels, anchors * classes, 1)
        self.codes = nn.Conv2d(channels, anchors * 7, 1)
        self.halves = nn.Conv2d(channels, anchors * 2, 1)
        nn.init.constant_(self.logits.bias, -math.log(1 / RARE - 1))  # type: ignore[arg-type]
        nn.init.normal_(self.codes.weight, std=0.001)

    @in_float32  # bfloat16 has three digits of a logit
    def forward(self, x: Tensor) -> Predictions:
        x = lifted(x)

        def of(layer: nn.Conv2d, each: int) -> Tensor:
            return layer(x).permute(0, 2, 3, 1).reshape(len(x), -1, each)

        return Predictions(of(self.logits, self.classes), of(self.codes, 7), of(self.halves, 2))


def _normed(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(width, eps=EPSILON, momentum=MOMENTUM), nn.ReLU()
