"""How a network gets from one stage to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from geodistill.checks import UsageError
from geodistill.distill.losses.base import Loss, PlaceSettings, Seen, adapter, expect_maps
from geodistill.distill.losses.places import seen_cells

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class FspSettings(PlaceSettings):
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
        first, second = teacher
        size = min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3])
        own = seen_cells(seen, size, self.settings.reach)
        return (flow(first, second, own) - flow(found[0], found[1], own)).square().mean()


def flow(a: Tensor, b: Tensor, own: Tensor) -> Tensor:
    """[B, C, D] of maps [B, C, ...] and [B, D, ...], of which the finer one is max pooled, at the
    coarser one's own cells, bool [B, H, W]."""
    a, b = (F.adaptive_max_pool2d(x, own.shape[1:]).flatten(2) for x in (a, b))
    counts = own.sum((1, 2)).clamp(min=1)
    return (a * own.flatten(1)[:, None]) @ b.mT / counts[:, None, None]
