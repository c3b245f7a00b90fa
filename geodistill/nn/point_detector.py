"""A detector that goes from points to boxes: PointRCNN from scans to detections, and what it loses.

The forward pass is the first stage, whose features students are taught by. The second stage runs
where its proposals are known: `losses` draws those to learn from by the labelled boxes, and
`detections` refines all.

Sources: see `nn.pointrcnn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill import dist
from geodistill.detect import point_codes
from geodistill.detect.boxes import wrap
from geodistill.detect.losses import corner_loss, focal_loss, smooth_l1
from geodistill.detect.proposals import (
    certainty,
    draw,
    match,
    point_objects,
    refined,
    refinement,
)
from geodistill.detect.scenes import Detections
from geodistill.detect.suppress import suppress
from geodistill.detect.targets import BACKGROUND, IGNORED
from geodistill.nn.detector import Detector
from geodistill.nn.point_clouds import PointBatch, gathered
from geodistill.nn.point_settings import PointSettings
from geodistill.nn.pointnet import levels_of
from geodistill.nn.pointrcnn import (
    PointPredictions,
    PointRCNN,
    groupings,
    pool,
)

DEPTH_M = 70.0
_ROIS = 64  # that are refined at a time


class Truth(NamedTuple):
    """Of a scan: boxes [M, 7], and their classes int64 [M]."""

    boxes: Tensor
    labels: Tensor


class PointDetector(Detector):
    """PointRCNN.

    Attributes:
        sizes: [K, 3], mean ones of the classes, on the network's device.
    """

    settings: PointSettings
    network: PointRCNN
    sizes: Tensor

    def __init__(self, settings: PointSettings) -> None:
        super().__init__()
        self.settings = settings
        self.network = PointRCNN(
            *(settings.values, len(settings.objects), settings.pooled, settings.compression),
            *(settings.refiner_norm, settings.epsilon),
        )
        for module in self.network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.momentum = settings.momentum
        sizes = torch.tensor([one.size for one in settings.objects])
        self.register_buffer("sizes", sizes, persistent=False)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.settings.classes

    @property
    def bounds(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        return self.settings.low, self.settings.high

    @property
    def places(self) -> dict[str, Any]:
        own = self.settings
        return {
            "architecture": own.architecture,
            "classes": self.classes,
            "bounds": self.bounds,
            "number of points": own.points,
            "values of a point": own.values,
            "distance from which points are kept": own.far_m,
        }

    @property
    def learnt(self) -> dict[str, Any]:
        return {}

    def prepare(
        self, scans: Sequence[Tensor], generator: torch.Generator | None = None
    ) -> PointBatch:
        self.expect_values(scans)
        kept = [self._in_range(scan.to(self.device)) for scan in scans]
        return self.batch(*gathered(kept, self.settings.points, self.settings.far_m, generator))

    def batch(self, points: Tensor, counts: Tensor, seed: int) -> PointBatch:
        """Of points [B, N, F] that `nn.point_clouds.gathered` has drawn."""
        levels = levels_of(points[..., :3], groupings(self.settings.points))
        return PointBatch(points, counts, levels, seed)

    def _in_range(self, scan: Tensor) -> Tensor:
        low, high = scan.new_tensor(self.settings.low), scan.new_tensor(self.settings.high)
        return scan[((scan[:, :3] >= low) & (scan[:, :3] < high)).all(1)]

    def forward(self, inputs: PointBatch) -> PointPredictions:
        return self.network(inputs)

    def targets(self, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> list[Truth]:
        pairs = zip(boxes, labels, strict=True)
        return [Truth(own.to(self.device), numbers.to(self.device)) for own, numbers in pairs]

    def losses(self, predictions: PointPredictions, targets: Sequence[Truth]) -> dict[str, Tensor]:
        """Parts: "points" and "boxes" of the first stage, "certainty", "refinement" and "corners"
        of the second, which teaches the first nothing."""
        drawn = torch.Generator().manual_seed(predictions.seed)
        first = self._first_losses(predictions, targets)
        return first | self._second_losses(predictions, targets, drawn)

    def _first_losses(
        self, predictions: PointPredictions, truth: Sequence[Truth]
    ) -> dict[str, Tensor]:
        objects, codes, classes = [], [], []
        for scan, (boxes, labels) in enumerate(truth):
            xyz = predictions.points[scan, :, :3]
            found = point_objects(xyz, boxes, self.settings.rim_m)
            if predictions.counts[scan] == 0:
                found.fill_(IGNORED)
            own = found >= 0
            mine = found[own]
            classes.append(labels[mine])
            codes.append(point_codes.encode(boxes[mine], xyz[own], self.sizes[labels[mine]]))
            objects.append(found)
        object_ = torch.stack(objects)
        learnt = object_ >= 0
        wanted = torch.zeros_like(predictions.logits)
        wanted[learnt] = F.one_hot(torch.cat(classes), len(self.sizes)).to(wanted)
        focal = focal_loss(predictions.logits, wanted).sum(-1)[object_ != IGNORED].sum()
        away = smooth_l1(predictions.codes[learnt], torch.cat(codes)).sum()
        count = dist.count(learnt.sum())
        weights = self.settings.weights
        return {"points": weights.points * focal / count, "boxes": weights.boxes * away / count}

    def _second_losses(
        self,
        predictions: PointPredictions,
        truth: Sequence[Truth],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        settings, proposing = self.settings, self.settings.proposing
        drawn, overlaps, targets, pooled = [], [], [], []
        for scan, (boxes, labels) in enumerate(truth):
            proposals, classes = self.proposals(
                predictions, scan, proposing.overlap_learning, proposing.most_learning
            )
            found = match(proposals, classes, boxes, labels)
            chosen = draw(found.overlap, settings.drawing, generator)
            drawn.append(proposals[chosen])
            overlaps.append(found.overlap[chosen].to(proposals))
            target = proposals[chosen].clone()
            own = found.object[chosen] != BACKGROUND
            target[own] = boxes[found.object[chosen][own]].to(target)
            targets.append(target)
            pooled.append(self._pooled(predictions, scan, drawn[-1]))
        roi, target, overlap, given = map(torch.cat, (drawn, targets, overlaps, pooled))
        real = len(roi)
        # Batch norm needs two of them, and each rank must take its part in it.
        logits, codes = self.network.refiner(F.pad(given, (0, 0, 0, 0, 0, max(0, 2 - real))))
        logits, codes = logits[:real], codes[:real]
        sure = F.binary_cross_entropy_with_logits(
            logits, certainty(overlap, settings.unsure, settings.sure), reduction="sum"
        )
        own = overlap >= settings.drawing.overlap
        away = smooth_l1(codes[own], refinement(target[own], roi[own])).sum()
        corners = corner_loss(refined(codes[own], roi[own]), target[own]).sum()
        weights, count = settings.weights, dist.count(own.sum())
        every = dist.count(torch.tensor(real, device=own.device))
        return {
            "certainty": weights.certainty * sure / every,
            "refinement": weights.refinement * away / count,
            "corners": weights.corners * corners / count,
        }

    @torch.no_grad()
    def proposals(
        self, predictions: PointPredictions, scan: int, overlap: float, most: int
    ) -> tuple[Tensor, Tensor]:
        """Boxes [K, 7] of one scan, best first, and their classes int64 [K]."""
        if predictions.counts[scan] == 0:
            none = predictions.codes.new_zeros(0)
            return none.view(0, 7), none.long()
        score, label = predictions.logits[scan].sigmoid().max(1)
        rank = score.topk(min(self.settings.proposing.candidates, len(score))).indices
        score, label = score[rank], label[rank]
        xyz = predictions.points[scan, rank, :3]
        boxes = point_codes.decode(predictions.codes[scan, rank], xyz, self.sizes[label])
        kept = suppress(boxes, score, overlap, most)
        return boxes[kept], label[kept]

    @torch.no_grad()
    def _pooled(self, predictions: PointPredictions, scan: int, boxes: Tensor) -> Tensor:
        """What the refiner is given of proposals [K, 7]: their points, from their own sides, with
        the first stage's score and features and the distance from the sensor."""
        xyz = predictions.points[scan, :, :3]
        score = predictions.logits[scan].amax(1, keepdim=True).sigmoid()
        depth = xyz.norm(dim=1, keepdim=True) / DEPTH_M - 0.5
        features = torch.cat([score, depth, predictions.features[scan]], 1)
        return pool(xyz, features, boxes, self.settings.pooled, self.settings.context_m)

    @torch.no_grad()
    def detections(self, predictions: PointPredictions) -> list[Detections]:
        """A detection's class is its proposal's."""
        return [self._detected(predictions, scan) for scan in range(len(predictions.counts))]

    def _detected(self, predictions: PointPredictions, scan: int) -> Detections:
        choice, proposing = self.settings.choice, self.settings.proposing
        found, labels = self.proposals(predictions, scan, proposing.overlap, proposing.most)
        logits, codes = [found.new_zeros(0)], [found.new_zeros(0, 7)]
        for part in found.split(_ROIS) if len(found) else ():
            sure, code = self.network.refiner(self._pooled(predictions, scan, part))
            logits.append(sure)
            codes.append(code)
        scores = torch.cat(logits).sigmoid().cpu()
        boxes = refined(torch.cat(codes), found).cpu()
        boxes = torch.cat([boxes[:, :6], wrap(boxes[:, 6:])], 1)
        able = (scores >= choice.least_score).nonzero()[:, 0]
        kept = able[suppress(boxes[able], scores[able], choice.overlap, choice.most)]
        return Detections(boxes[kept], scores[kept], labels.cpu()[kept])
