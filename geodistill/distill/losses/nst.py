"""Channels that are active at the same places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from geodistill.distill.losses.base import Loss, PlaceSettings, Seen, expect_maps
from geodistill.distill.losses.places import seen_cells


@dataclass(frozen=True, kw_only=True)
class NstSettings(PlaceSettings):
    weight: float = 50.0


class Nst(Loss):
    """Neuron selectivity transfer: the squared maximum mean discrepancy between the teacher's
    channels and the student's, each a vector over the places of length 1, by the kernel (a . b)^2.
    There may be more of one than of the other.

    Source: Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer"
    (2017), with the polynomial kernel.
    """

    Settings = NstSettings

    def __init__(self, settings: NstSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_maps("nst", teacher, student)

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        own = seen_cells(seen, teacher.shape[2:], self.settings.reach)
        t, s = (F.normalize((x * own[:, None]).flatten(2), dim=2) for x in (teacher, student))
        same, own, across = _kernel(t, t), _kernel(s, s), _kernel(t, s)
        return (same + own - 2 * across).mean()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """The mean over all pairs of channels, [B] of [B, C, P] and [B, D, P]."""
    return (a @ b.mT).square().mean((1, 2))
