"""A detector with anchors: from scans to boxes, and what it loses against labelled ones.

Sources: Yan et al., "SECOND" (Sensors 2018); Lang et al., "PointPillars" (CVPR 2019); the settings
are those in which mmdetection3d and OpenPCDet differ.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodistill import dist
from geodistill.checks import UsageError, expect_within
from geodistill.detect.anchors import (
    KITTI,
    ClassAnchors,
    Placing,
    anchor_grid,
    decode,
    directed,
)
from geodistill.detect.losses import code_loss, focal_loss
from geodistill.detect.scenes import Detections
from geodistill.detect.suppress import suppress
from geodistill.detect.targets import IGNORED, Targets, assign
from geodistill.nn.bev import Predictions
from geodistill.nn.detector import Detector
from geodistill.nn.pillars import MOMENTUM, Coordinates
from geodistill.nn.pointpillars import KITTI_GRID, PointPillars
from geodistill.nn.second import LAYERS, Second
from geodistill.nn.voxels import VoxelGrid, Voxels, voxelize

STRIDE = {"pointpillars": 2, "second": 8}
"""Cells of the voxels' grid along one of the anchors'."""
YAWS = "yaws of anchors"
"""Of `places`; toolboxes write a quarter turn as 1.57, 1.5707963 and 1.5708."""


@dataclass(frozen=True)
class Choice:
    """Which of the predicted boxes are detections.

    Attributes:
        least_score: below it there is none.
        candidates: of a scan, by their best class's score, that are compared.
        overlap: from above, of which only the better box stays.
        most: of a scan.
        by_class: whether only boxes of one class exclude each other, as in mmdetection3d.
    """

    least_score: float = 0.1
    candidates: int = 100
    overlap: float = 0.01
    most: int = 50
    by_class: bool = True

    def __post_init__(self) -> None:
        expect_within(self, least_score=(0, 1), overlap=(0, 1))
        expect_within(self, candidates=(1, math.inf), most=(1, math.inf))


@dataclass(frozen=True)
class Weights:
    """Of the parts of the loss."""

    classes: float = 1.0
    codes: float = 2.0
    halves: float = 0.2

    def __post_init__(self) -> None:
        positive = (0, math.inf)
        expect_within(self, classes=positive, codes=positive, halves=positive)


@dataclass(frozen=True)
class AnchorSettings:
    """Attributes:
    architecture: of the network.
    compression: of its parameters, 1 for the published widths.
    grid: of voxels.
    most_voxels_detecting: in the place of the grid's when no training goes on.
    values: of a point: x, y, z, reflectance and what else.
    anchors: of each class, in the order of the network's outputs.
    placing: see `detect.anchors.anchor_grid`.
    area: that anchors cover: least x and y, largest x and y in metres; None: the grid's.
    offset: in radians, where the first half of the circle begins: pi / 4 in OpenPCDet, -pi / 2 in
        mmdetection3d.
    forced: with which overlap a box claims its best anchors: "any", as in OpenPCDet, or from the
        class's "negative" threshold, as in mmdetection3d.
    normaliser: the loss is over the positive anchors of the "batch", as in mmdetection3d, or of
        each "scan", as in OpenPCDet.
    coordinates: see `nn.pillars.PillarEncoder`.
    momentum: weight of a new batch in the running statistics of the batch norms; where a training
        has few hundred steps, a larger one than the published is needed.
    choice: of detections.
    weights: of the losses.
    """

    architecture: Literal["pointpillars", "second"] = "pointpillars"
    compression: int = 1
    grid: VoxelGrid = KITTI_GRID
    most_voxels_detecting: int = 40_000
    values: int = 4
    anchors: tuple[ClassAnchors, ...] = KITTI
    placing: Placing = "centers"
    area: tuple[float, float, float, float] | None = None
    offset: float = math.pi / 4
    forced: Literal["any", "negative"] = "any"
    normaliser: Literal["batch", "scan"] = "batch"
    coordinates: Coordinates = "absolute"
    momentum: float = MOMENTUM
    choice: Choice = field(default_factory=Choice)
    weights: Weights = field(default_factory=Weights)

    def __post_init__(self) -> None:
        expect_within(self, most_voxels_detecting=(1, math.inf), momentum=(0, 1))
        expect_within(self, offset=(-math.inf, math.inf), area=(-math.inf, math.inf))
        if self.area and not (self.area[0] < self.area[2] and self.area[1] < self.area[3]):
            raise UsageError(f"area is the least x and y and the largest, got {self.area}")
        stride = STRIDE[self.architecture]
        x, y, z = self.grid.cells
        if not self.anchors:
            raise UsageError("a detector needs anchors of at least one class")
        if len({*self.classes}) < len(self.classes):
            raise UsageError(f"a class has its anchors once, got {', '.join(self.classes)}")
        if self.values < 3:
            raise UsageError(f"a point has at least x, y and z, got {self.values} values")
        layers = LAYERS if self.architecture == "second" else range(1, 2)
        if z not in layers:
            raise UsageError(
                f"the grid has {z} layers of voxels: {self.architecture} needs {layers[0]}"
                + (f" to {layers[-1]}" if len(layers) > 1 else "")
            )
        coarsest = stride * (4 if self.architecture == "pointpillars" else 2)
        if x % coarsest or y % coarsest:
            raise UsageError(
                f"the grid has {x} x {y} cells: {self.architecture} needs multiples of {coarsest}"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.anchors)


class AnchorDetector(Detector):
    """PointPillars or SECOND.

    Attributes:
        anchors: [H, W, C, R, 7], on the network's device.
    """

    settings: AnchorSettings
    anchors: Tensor

    def __init__(self, settings: AnchorSettings) -> None:
        super().__init__()
        self.settings = settings
        classes, yaws = len(settings.anchors), len(settings.anchors[0].yaws)
        shape = (classes, yaws, settings.values, settings.compression)
        if settings.architecture == "second":
            self.network = Second(*shape)
        else:
            self.network = PointPillars(*shape, settings.coordinates)
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = settings.momentum
            elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):  # sparse kernels have no such
                module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        stride = STRIDE[settings.architecture]
        x, y, _ = settings.grid.cells
        area, cells = settings.area or self.area, (y // stride, x // stride)
        anchors = anchor_grid(settings.anchors, area, cells, settings.placing)
        self.register_buffer("anchors", anchors, persistent=False)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.settings.classes

    @property
    def bounds(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        return self.settings.grid.low, self.settings.grid.high

    @property
    def places(self) -> dict[str, Any]:
        own = self.settings
        found = {
            "architecture": own.architecture,
            "grid": own.grid,
            "values of a point": own.values,
            "classes": own.classes,
            "sizes of anchors": tuple(one.size for one in own.anchors),
            "bottoms of anchors": tuple(one.bottom for one in own.anchors),
            YAWS: tuple(one.yaws for one in own.anchors),
            "placing of anchors": own.placing,
        }
        # Named where it is not the grid's alone: keys of caches are made of these.
        return found if own.area in (None, self.area) else {**found, "area of anchors": own.area}

    @property
    def learnt(self) -> dict[str, Any]:
        own = self.settings
        thresholds = [(one.positive, one.negative) for one in own.anchors]
        return {"offset": own.offset, "forced": own.forced, "thresholds": thresholds}

    def prepare(self, scans: Sequence[Tensor], generator: torch.Generator | None = None) -> Voxels:
        self.expect_values(scans)
        grid = self.settings.grid
        if not self.training:
            grid = dataclasses.replace(grid, most_voxels=self.settings.most_voxels_detecting)
        return voxelize([scan.to(self.device) for scan in scans], grid)

    def forward(self, inputs: Voxels) -> Predictions:
        return self.network(inputs)

    def targets(self, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> list[Targets]:
        """What the anchors of each scan learn."""
        settings, device = self.settings, self.device
        forced = [one.negative for one in settings.anchors]
        return [
            assign(
                self.anchors,
                own.to(device),
                numbers.to(device),
                settings.anchors,
                settings.offset,
                forced if settings.forced == "negative" else None,
            )
            for own, numbers in zip(boxes, labels, strict=True)
        ]

    def losses(self, predictions: Predictions, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """Parts: "classes", "codes" and "halves"."""
        label = torch.stack([one.label for one in targets])  # [B, A]
        code = torch.stack([one.code for one in targets])
        half = torch.stack([one.half for one in targets])
        share = self._shares(label)
        learnt = label >= 0
        wanted = torch.zeros_like(predictions.logits)
        wanted[learnt, label[learnt]] = 1
        focal = focal_loss(predictions.logits, wanted).sum(-1)
        focal = focal * (label != IGNORED)
        scan = learnt.nonzero()[:, 0]
        away = code_loss(predictions.codes[learnt], code[learnt]).sum(1)
        turned = F.cross_entropy(predictions.halves[learnt], half[learnt], reduction="none")
        weights = self.settings.weights
        return {
            "classes": weights.classes * (focal.sum(1) * share).sum(),
            "codes": weights.codes * (away * share[scan]).sum(),
            "halves": weights.halves * (turned * share[scan]).sum(),
        }

    def _shares(self, label: Tensor) -> Tensor:
        """What each scan's losses are multiplied by, [B]."""
        positive = (label >= 0).sum(1).clamp(min=1)
        if self.settings.normaliser == "batch":
            return (1 / dist.all_sum(positive.sum().float())).expand(len(label))
        return 1 / positive / (len(label) * dist.world())

    @torch.no_grad()
    def detections(self, predictions: Predictions) -> list[Detections]:
        anchors = self.anchors.reshape(-1, 7)
        parts = zip(predictions.logits, predictions.codes, predictions.halves, strict=True)
        return [self._chosen(logits, codes, halves, anchors) for logits, codes, halves in parts]

    def _chosen(self, logits: Tensor, codes: Tensor, halves: Tensor, anchors: Tensor) -> Detections:
        choice = self.settings.choice
        scores = logits.sigmoid()
        best = scores.max(1).values
        rank = best.topk(min(choice.candidates, len(best))).indices
        rank = rank[best[rank] >= choice.least_score]
        boxes = decode(codes[rank], anchors[rank]).cpu()
        half = halves[rank].argmax(1).cpu()
        yaw = directed(boxes[:, 6], half, self.settings.offset)
        boxes = torch.cat([boxes[:, :6], yaw[:, None]], 1)
        scores = scores[rank].cpu()
        if choice.by_class:
            parts = [
                _kept(boxes, scores[:, number], number, choice) for number in range(scores.shape[1])
            ]
        else:
            parts = [_kept(boxes, *scores.max(1), choice)]
        boxes, scores, labels = (torch.cat(column) for column in zip(*parts, strict=True))
        order = scores.argsort(descending=True, stable=True)[: choice.most]
        return Detections(boxes[order], scores[order], labels[order])


def _kept(
    boxes: Tensor, scores: Tensor, labels: int | Tensor, choice: Choice
) -> tuple[Tensor, Tensor, Tensor]:
    """Those of one class (an int), or all with their own, that exclude no better one."""
    numbers = torch.as_tensor(labels).expand(len(scores))
    able = (scores >= choice.least_score).nonzero()[:, 0]
    kept = able[suppress(boxes[able], scores[able], choice.overlap, choice.most)]
    return boxes[kept], scores[kept], numbers[kept]
