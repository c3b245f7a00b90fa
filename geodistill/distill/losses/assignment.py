"""What a teacher detects, learnt like labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geodistill.detect.scenes import Detections
from geodistill.detect.targets import Targets
from geodistill.nn.detector import Detector

LEAST_SCORE = 0.6


def taught_targets(
    student: Detector,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    found: Sequence[Detections],
    least_score: float = LEAST_SCORE,
) -> list[Targets]:
    """What the student's anchors learn of labelled boxes and of a teacher's detections together.

    A detection is assigned to anchors as a labelled box is: an anchor that overlaps both learns the
    one that it overlaps more, and each claims its best anchors. Nothing is a loss here, and the
    targets' `object` counts the detections after the labels.

    Source: Yang et al., "Towards Efficient 3D Object Detection with Knowledge Distillation"
    (NeurIPS 2022), section 4.3.

    Args:
        boxes: [M, 7] of each scan.
        labels: int64 [M] of each.
        found: by the teacher in each, with classes of the student's numbers.
        least_score: a detection with a lower one is left out.
    """
    both = [
        _joined(own, numbers, more, least_score)
        for own, numbers, more in zip(boxes, labels, found, strict=True)
    ]
    return student.targets([own for own, _ in both], [numbers for _, numbers in both])


def _joined(
    boxes: Tensor, labels: Tensor, found: Detections, least_score: float
) -> tuple[Tensor, Tensor]:
    sure = found.scores > least_score
    more, numbers = found.boxes[sure].to(boxes), found.labels[sure].to(labels)
    return torch.cat([boxes, more]), torch.cat([labels, numbers])
