"""A change of the rows of splats: parameters, moments and statistics that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from geodistill.fit.trained_splats import NAMES, TrainedSplats


@dataclass(frozen=True, eq=False)
class Change:
    """What becomes of N splats.

    source   int64 [M], the row that each of M new rows comes from
    fresh    bool [M], rows whose moments begin at zero: what they remember belongs to another
    values   parameters [M, ...] by name that are not those of the sources
    restarted  names of parameters whose moments begin at zero in every row
    """

    source: Tensor
    fresh: Tensor
    values: Mapping[str, Tensor] = field(default_factory=dict)
    restarted: tuple[str, ...] = ()

    def of(self, name: str, values: Tensor) -> Tensor:
        """The new rows of a parameter that has the rows `values` [N, ...]. [M, ...]"""
        return self.values[name] if name in self.values else values[self.source]


@torch.no_grad()
def apply(change: Change, trained: TrainedSplats) -> None:
    """Give parameters and moments their new rows, in place of the old ones."""
    before, old = trained.optimiser, trained.parameters
    trained.parameters = {
        name: nn.Parameter(change.of(name, old[name].detach()).clone()) for name in NAMES
    }
    trained.set_rates(trained.rates)
    for name in NAMES:
        remembered = before.moments(old[name])
        for kind, moment in trained.optimiser.moments(trained.parameters[name]).items():
            if remembered[kind].dim() == 0:  # a count of steps, which all rows share
                moment.copy_(remembered[kind])
            elif name not in change.restarted:
                moment.copy_(remembered[kind][change.source])
                moment[change.fresh] = 0.0
