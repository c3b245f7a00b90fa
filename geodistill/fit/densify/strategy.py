"""What a strategy is: frozen settings, and a state that is passed to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from geodistill.fit.densify.change import Change
from geodistill.fit.trained_splats import TrainedSplats


class Seen(NamedTuple):
    """What a step told of N splats."""

    gradients: Tensor
    """[N] length of the loss's gradient by the projected mean, whose unit is half the picture (x by
    its width, y by its height), as gsplat has it."""
    visible: Tensor
    """bool [N], whether any pixel could see it."""


@dataclass
class State:
    """What a strategy remembers.

    sums   [N] each, by name: statistics of the splats since they last changed
    marks  (step, share of the budget) at which something was last done, by name
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    marks: dict[str, tuple[int, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Now:
    """Where training stands: steps done, share of the budget used, most splats that may be."""

    step: int
    progress: float
    most: int

    @property
    def mark(self) -> tuple[int, float]:
        return self.step, self.progress

    def is_due(self, last: tuple[int, float], share: float, steps: int) -> bool:
        """Whether that much of the budget went by since, and no fewer steps: in a small budget
        the share alone would be too few pictures to judge splats by."""
        return self.step - last[0] >= steps and self.progress - last[1] >= share


class Timed(Protocol):
    """When splats change: from `start` to `stop`, `every` so often, all in shares of the budget,
    and no fewer than so many `steps` apart."""

    @property
    def start(self) -> float: ...
    @property
    def stop(self) -> float: ...
    @property
    def every(self) -> float: ...
    @property
    def steps(self) -> int: ...


def is_time(strategy: Timed, now: Now, last: tuple[int, float]) -> bool:
    """Whether splats change now, that last changed at a mark."""
    within = strategy.start <= now.progress < strategy.stop
    return within and now.is_due(last, strategy.every, strategy.steps)


class Strategy(Protocol):
    """How splats multiply; lengths are in the extent of the cameras."""

    @property
    def opacity(self) -> float:
        """Of splats at the start."""
        ...

    @property
    def width(self) -> float:
        """Of splats at the start, in the distance to their neighbours."""
        ...

    def begin(self, trained: TrainedSplats) -> State: ...

    def note(self, state: State, seen: Seen) -> None:
        """Remember what a step told."""
        ...

    def change(
        self, trained: TrainedSplats, state: State, now: Now, draw: torch.Generator
    ) -> Change | None:
        """What is to become of the splats now; the state is that of the changed ones then."""
        ...

    def penalty(self, trained: TrainedSplats) -> Tensor | float:
        """What is added to the loss."""
        ...

    def stir(self, trained: TrainedSplats, draw: torch.Generator) -> None:
        """Move splats after a step of the optimiser."""
        ...
