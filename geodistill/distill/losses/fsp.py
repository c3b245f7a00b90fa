"""How a network gets from one stage to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from geodistill.checks import UsageError
from geodistill.distill.losses.base import Loss, LossSettings, Seen, adapter, expect_maps

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class FspSettings(LossSettings):
    """Attributes:
    second: the later part.
    """

    tap: str = "backbone.stages.0"
    second: str = "backbone.stages.1"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.second == self.tap:
            raise UsageError(f"fsp needs two parts, and 'tap' and 'second' are both '{self.tap}'")

    @property
    def taps(self) -> tuple[str, ...]:
        return (self.tap, self.second)


class Fsp(Loss):
    """The mean square between the flows of the solution procedure, the products of all channels of
    two stages, averaged over the places of the coarser one; students are mapped linearly to as
    many channels.

    Source: Yim et al., "A Gift from Knowledge Distillation" (CVPR 2017), equations 1 and 2.
    """

    Settings = FspSettings

    def __init__(self, settings: FspSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        for own, other in zip(teacher, student, strict=True):
            expect_maps("fsp", own, other)
        self.adapters = nn.ModuleList(adapter(s, t) for s, t in zip(student, teacher, strict=True))

    def forward(self, teacher: Pair, student: Pair, seen: Seen, progress: float) -> Tensor:
        found = [adapt(x) for adapt, x in zip(self.adapters, student, strict=True)]
        return (flow(*teacher) - flow(found[0], found[1])).square().mean()


def flow(a: Tensor, b: Tensor) -> Tensor:
    """[B, C, D] of maps [B, C, ...] and [B, D, ...], of which the finer one is max pooled."""
    size = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    a, b = (F.adaptive_max_pool2d(x, size).flatten(2) for x in (a, b))
    return a @ b.mT / a.shape[2]
