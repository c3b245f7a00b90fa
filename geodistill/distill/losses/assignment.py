"""What a teacher detects, learnt like labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.checks import expect_within
from geodistill.detect.scenes import Detections


@dataclass(frozen=True)
class AssignmentSettings:
    """Attributes:
    least_score: of a teacher's detection that is learnt like a label.
    """

    least_score: float = 0.6

    def __post_init__(self) -> None:
        expect_within(self, least_score=(0, 1))


def with_detections(
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    found: Sequence[Detections],
    least_score: float,
) -> tuple[list[Tensor], list[Tensor]]:
    """A teacher's detections, and behind them labelled boxes, to be assigned to anchors together.

    An anchor that overlaps both a label and a detection learns the one that it overlaps more, and
    each claims its best anchors, of which a label, as it comes later, keeps its own. Nothing is a
    loss here.

    Source: Yang et al., "Towards Efficient 3D Object Detection with Knowledge Distillation"
    (NeurIPS 2022), section 4.3.

    Args:
        boxes: [M, 7] of each scan.
        labels: int64 [M] of each scan.
        found: by the teacher in each, with classes of the student's numbers.
        least_score: a detection with a lower one is left out.
    """
    both = [
        _joined(own, numbers, more, least_score)
        for own, numbers, more in zip(boxes, labels, found, strict=True)
    ]
    return [own for own, _ in both], [numbers for _, numbers in both]


def _joined(
    boxes: Tensor, labels: Tensor, found: Detections, least_score: float
) -> tuple[Tensor, Tensor]:
    sure = found.scores > least_score
    more, numbers = found.boxes[sure].to(boxes), found.labels[sure].to(labels)
    return torch.cat([more, boxes]), torch.cat([numbers, labels])
