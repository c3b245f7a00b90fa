"""PointRCNN's network, at any width: boxes from points, refined by the points in them.

Multiply-adds, with 16,384 points and 512 proposals, are 96.8, 12.2 and 6.2 thousand millions for
compressions of 1, 8 and 16; with norms, activations and biases 99.0, 12.9 and 6.7. Zhang et al.
give 104.9, 13.7 and 7.1: these, with `neck` and `head` counted twice.

Sources: Shi, Wang and Li, "PointRCNN: 3D Object Proposal Generation and Detection from Point Cloud"
(CVPR 2019), with the settings of mmdetection3d and OpenPCDet; widths of students after Zhang et
al., "PointDistiller" (CVPR 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from geodistill.detect.boxes import inside
from geodistill.detect.point_codes import CODES, turned
from geodistill.nn.bev import RARE
from geodistill.nn.point_clouds import PointBatch
from geodistill.nn.pointnet import (
    FeaturePropagation,
    Grouping,
    Level,
    SetAbstraction,
    layers,
    levels_of,
)
from geodistill.nn.pointpillars import narrowed

RADII = ((0.1, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0))
SAMPLES = (16, 32)
WIDTHS = (
    ((16, 16, 32), (32, 32, 64)),
    ((64, 64, 128), (64, 96, 128)),
    ((128, 196, 256), (128, 196, 256)),
    ((256, 256, 512), (256, 384, 512)),
)
BACK = (512, 512, 256, 128)
"""Widths on the way back, from the coarsest level on."""
FEATURES, HEAD = 128, 256
REFINED = ((128, 128, 128), (128, 128, 256), (256, 256, 512))
REFINED_RADII, REFINED_SAMPLES = (0.2, 0.4), 16
STEP = 4
"""Each level has so many times fewer points than the one before."""
COARSEST = STEP ** len(RADII)
_ROIS = 64  # whose points are looked for at a time

Norm = Literal["batch", "none"]


def groupings(points: int) -> list[Grouping]:
    """Of the levels of clouds of so many points."""
    return [Grouping(points // STEP ** (k + 1), radii, SAMPLES) for k, radii in enumerate(RADII)]


class Backbone(nn.Module):
    """Features of each level."""

    def __init__(self, channels: int, compression: int, epsilon: float) -> None:
        super().__init__()
        self.channels = [channels]
        parts = []
        for published in WIDTHS:
            own = [[narrowed(width, compression) for width in scale] for scale in published]
            parts.append(SetAbstraction(self.channels[-1], own, epsilon=epsilon))
            self.channels.append(sum(scale[-1] for scale in own))
        self.levels = nn.ModuleList(parts)

    def forward(self, points: Tensor, levels: Sequence[Level]) -> list[Tensor]:
        """Rows of the points [B, N, F] and of each level, from the finest on."""
        xyz = points[..., :3]
        found = [points[..., 3:].flatten(0, 1)]
        for part, level in zip(self.levels, levels, strict=True):
            found.append(part(xyz, found[-1], level))
            xyz = level.xyz
        return found


class Neck(nn.Module):
    """Features of the points from those of all levels."""

    def __init__(self, channels: Sequence[int], compression: int) -> None:
        super().__init__()
        parts, coarse = [], channels[-1]
        for own, published in zip(channels[-2::-1], BACK, strict=True):
            width = narrowed(published, compression)
            parts.append(FeaturePropagation(coarse + own, (width, width)))
            coarse = width
        self.levels = nn.ModuleList(parts)

    def forward(self, features: Sequence[Tensor], levels: Sequence[Level]) -> Tensor:
        """[B N, C]"""
        coarse = features[-1]
        before = zip(features[-2::-1], levels[::-1], strict=True)
        for part, (own, level) in zip(self.levels, before, strict=True):
            coarse = part(own, coarse, level)
        return coarse


class PointHead(nn.Module):
    """What each point says: which class it is of, and where the box is."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.classes = nn.Sequential(*layers(channels, (width, width)), nn.Linear(width, classes))
        self.codes = nn.Sequential(*layers(channels, (width, width)), nn.Linear(width, CODES))
        # Of a hundred points one is an object's.
        nn.init.constant_(self.classes[-1].bias, -math.log(1 / RARE - 1))  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B N, K] and codes [B N, 8] of features [B N, C]."""
        return self.classes(features), self.codes(features)


class Refiner(nn.Module):
    """The second stage: how sure a proposal is, and what its box should rather be.

    Args:
        points: of a proposal.
        compression: of the parameters.
        norm: "none" has no batch norm, as in OpenPCDet.
    """

    def __init__(self, points: int, compression: int, norm: Norm) -> None:
        super().__init__()

        def width(published: int) -> int:
            return narrowed(published, compression)

        normed = norm == "batch"
        channels, head = width(FEATURES), width(HEAD)
        self.groupings = [
            Grouping(points // STEP ** (k + 1), (radius,), (REFINED_SAMPLES,))
            for k, radius in enumerate(REFINED_RADII)
        ]
        self.lift = layers(5, (channels, channels), norm=False)
        self.merge = layers(2 * channels, (channels,), norm=False)
        parts = []
        for published in REFINED[:2]:
            own = [width(w) for w in published]
            parts.append(SetAbstraction(channels, [own], normed))
            channels = own[-1]
        self.levels = nn.ModuleList(parts)
        self.whole = layers(channels + 3, [width(w) for w in REFINED[2]], normed)
        channels = width(REFINED[2][-1])
        self.certainty = nn.Sequential(*layers(channels, (head, head), normed), nn.Linear(head, 1))
        self.codes = nn.Sequential(*layers(channels, (head, head), normed), nn.Linear(head, 7))
        # Proposals stay as they are, at first.
        nn.init.normal_(self.codes[-1].weight, std=1e-3)  # type: ignore[arg-type]
        nn.init.zeros_(self.codes[-1].bias)  # type: ignore[arg-type]

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [R] and codes [R, 7] of what `pool` finds, [R, P, 5 + C]."""
        rows = pooled.flatten(0, 1)
        features = self.merge(torch.cat([self.lift(rows[:, :5]), rows[:, 5:]], 1))
        xyz = pooled[..., :3]
        levels = levels_of(xyz, self.groupings, back=False)
        for part, level in zip(self.levels, levels, strict=True):
            features = part(xyz, features, level)
            xyz = level.xyz
        made = self.whole(torch.cat([xyz.flatten(0, 1), features], 1))
        whole = made.view(*xyz.shape[:2], -1).amax(1)
        return self.certainty(whole)[:, 0], self.codes(whole)


@dataclass(frozen=True, eq=False)
class PointPredictions:
    """What the first stage says of B scans with N points.

    Attributes:
        logits: [B, N, K] of the classes.
        codes: [B, N, 8], see `detect.point_codes`.
        features: [B, N, C].
        points: [B, N, F].
        counts: int64 [B], see `PointBatch`.
        seed: see `PointBatch`.
    """

    logits: Tensor
    codes: Tensor
    features: Tensor
    points: Tensor
    counts: Tensor
    seed: int


class PointRCNN(nn.Module):
    """Parts, by the names under which losses tap them: backbone (rows of the points and of four
    levels), neck [B N, C], head (logits and codes of the points), refiner.

    Args:
        values: of a point.
        classes: K.
        pooled: points of a proposal.
        compression: of the parameters.
        norm: of the refiner.
        epsilon: of the backbone's batch norms.
    """

    def __init__(
        self,
        values: int,
        classes: int,
        pooled: int,
        compression: int,
        norm: Norm,
        epsilon: float,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(values - 3, compression, epsilon)
        self.neck = Neck(self.backbone.channels, compression)
        self.head = PointHead(narrowed(FEATURES, compression), classes, narrowed(HEAD, compression))
        self.refiner = Refiner(pooled, compression, norm)

    def forward(self, batch: PointBatch) -> PointPredictions:
        """The first stage; the second is given its proposals by the detector."""
        features = self.neck(self.backbone(batch.points, batch.levels), batch.levels)
        shape = batch.points.shape[:2]
        logits, codes = (rows.unflatten(0, shape) for rows in self.head(features))
        features = features.unflatten(0, shape)
        return PointPredictions(logits, codes, features, batch.points, batch.counts, batch.seed)


def pool(points: Tensor, features: Tensor, boxes: Tensor, count: int, context: float) -> Tensor:
    """Points in boxes, in the boxes' own frames.

    Args:
        points: [N, 3].
        features: [N, C].
        boxes: [K, 7].
        count: P of a box: its first ones, over and over where there are fewer.
        context: by so many metres each face of a box is moved outwards.

    Returns:
        [K, P, 3 + C]; zeros for a box without points.
    """
    found = [features.new_zeros(0, count, 3 + features.shape[1])]
    for own in boxes.split(_ROIS):
        wider = torch.cat([own[:, :3], own[:, 3:6] + 2 * context, own[:, 6:]], 1)
        within = inside(points, wider).T
        totals = within.sum(1)
        place = torch.nn.functional.pad(within.nonzero()[:, 1], (0, 1))
        turn = torch.arange(count, device=points.device) % totals.clamp(min=1)[:, None]
        start = (totals.cumsum(0) - totals)[:, None]
        index = place[(start + turn).clamp(max=len(place) - 1)]
        xyz = turned(points[index] - own[:, None, :3], -own[:, 6:])
        pooled = torch.cat([xyz, features[index]], 2)
        found.append(torch.where((totals > 0)[:, None, None], pooled, 0))
    return torch.cat(found)
