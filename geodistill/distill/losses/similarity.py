"""Which places, or scans, are alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import UsageError, expect_within
from geodistill.distill.losses.base import (
    Loss,
    PlaceSettings,
    Seen,
    expect_alike,
    expect_maps,
    over_ranks,
)
from geodistill.distill.losses.places import rows, seen_cells, strongest


@dataclass(frozen=True, kw_only=True)
class SimilaritySettings(PlaceSettings):
    """Attributes:
    among: the "places" of each scan; or the "scans" of a batch, whole maps, as published for
        batches of many images.
    samples: places of a scan, those of the largest importance.
    """

    weight: float = 3000.0
    among: Literal["places", "scans"] = "places"
    samples: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_within(self, samples=(2, math.inf))


class Similarity(Loss):
    """The mean square between two matrices of similarities, the products of all pairs of n
    features, with rows of length 1: 1 / n^2 |G_T - G_S|^2.

    Source: Tung and Mori, "Similarity-Preserving Knowledge Distillation" (ICCV 2019), equations 2
    to 4.
    """

    Settings = SimilaritySettings

    def __init__(self, settings: SimilaritySettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect = expect_maps if settings.among == "scans" else expect_alike
        expect("similarity", teacher, student)

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        if self.settings.among == "scans":
            if len(teacher) < 2:
                raise UsageError("similarity among scans needs batches of two: set 'among: places'")
            own = seen_cells(seen, teacher.shape[2:], self.settings.reach)
            return _away(*((x * own[:, None]).flatten(1) for x in (teacher, student)))
        wanted, found = rows(teacher), rows(student)
        parts = [
            _away(wanted[own], found[own])
            for own in strongest(teacher, seen, self.settings.samples, self.settings.reach)
        ]
        scans = over_ranks(torch.tensor(len(parts), device=student.device))
        return torch.stack(parts).sum() / scans if parts else student.sum() * 0


def _away(teacher: Tensor, student: Tensor) -> Tensor:
    """Of features [n, C]."""
    return (alike(teacher) - alike(student)).square().mean()


def alike(features: Tensor) -> Tensor:
    """[n, n] of features [n, C]."""
    return F.normalize(features @ features.T, dim=1)
