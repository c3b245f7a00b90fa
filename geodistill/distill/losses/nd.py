"""Features of objects along their class's direction, and as long as the teacher's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill import dist
from geodistill.checks import UsageError
from geodistill.distill.losses.base import (
    Loss,
    LossSettings,
    Seen,
    adapter,
    expect_maps,
    over_ranks,
)


class Nd(Loss):
    """mean_i [ 1 - s_i . e_k / max(|s_i|, |t_i|) ] over the places i of objects of class k: e_k is
    the direction of the mean of the teacher's features of the class, in these scans.

    Source: Wang et al., "Improving Knowledge Distillation via Regularizing Feature Direction
    and Norm" (ECCV 2024).
    """

    def __init__(self, settings: LossSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_maps("nd", teacher, student)
        self.adapter = adapter(student, teacher)

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        scan, place, label = places_of_objects(seen, (teacher.shape[2], teacher.shape[3]))
        t = teacher.flatten(2)[scan, :, place]
        s = self.adapter(student).flatten(2)[scan, :, place]
        sums = t.new_zeros(seen.anchors.shape[2], t.shape[1]).index_add(0, label, t)
        direction = F.normalize(dist.all_sum(sums), dim=1)[label]
        length = torch.maximum(s.norm(dim=1), t.norm(dim=1)).clamp(min=1e-6)
        count = over_ranks(torch.tensor(len(scan), device=s.device))
        return (1 - (s * direction).sum(1) / length).sum() / count


def places_of_objects(seen: Seen, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Scans, places of a map of the anchors' size, and classes, of which an anchor has an object:
    each once, int64 [N].

    Raises UsageError for a map of another size.
    """
    height, width, classes, yaws = seen.anchors.shape[:4]
    if size != (height, width):
        raise UsageError(
            f"features of objects are taken where their anchors are, on a map of {height} x {width}"
            f" cells, and that at the tap has {size[0]} x {size[1]}: tap the neck"
        )
    label = seen.anchor_labels
    scan, anchor = (label >= 0).nonzero(as_tuple=True)
    found = torch.stack([scan, anchor // (classes * yaws), label[scan, anchor]])
    scan, place, number = found.unique(dim=1)
    return scan, place, number
