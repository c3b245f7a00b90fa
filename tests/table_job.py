"""A small job for the training loop, and a clock to drive it by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from geodistill.geometry.fields import ParamGroup
from geodistill.train.optimiser import Optimiser


class Clock:
    """A perf_counter that stands still unless told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Interrupted(Exception):
    pass


class TableJob:
    """Fits a lazily trained table and a dense matrix to a fixed function of random rows."""

    def __init__(self, clock: Clock | None = None, seconds_per_step: float = 1.0) -> None:
        draw = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(50, 4, generator=draw))
        self.matrix = nn.Parameter(torch.randn(4, 3, generator=draw))
        self.target = torch.randn(50, 3, generator=draw)
        self.optimiser = Optimiser(
            [ParamGroup([self.table], 0.05, "lazy-adam"), ParamGroup([self.matrix], 0.02)]
        )
        self.clock, self.seconds = clock, seconds_per_step
        self.interrupt_at = self.stop_at = self.nan_from = math.inf
        self.in_loss: dict[int, Callable[[], None]] = {}
        self.in_finished: dict[int, Callable[[], None]] = {}
        self.seen: list[tuple[int, float]] = []
        self.counter = 0

    def lr_scale(self, progress: float) -> float:
        return 1.0 - 0.9 * progress

    def before(self, step: int, progress: float) -> None:
        if step == self.interrupt_at:
            raise Interrupted
        self.counter += step

    def finished(self, step: int) -> bool:
        self.in_finished.get(step, lambda: None)()
        return step >= self.stop_at

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        self.seen.append((step, progress))
        self.in_loss.get(step, lambda: None)()
        rows = torch.randint(50, (8,), generator=torch.Generator().manual_seed(step))
        error = torch.tanh(self.table[rows] @ self.matrix) - self.target[rows]
        loss = error.square().mean()
        if self.clock is not None:
            self.clock.now += self.seconds
        return loss * (math.nan if step >= self.nan_from else 1.0), {"rows": 8.0}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {"table": self.table.data, "matrix": self.matrix.data}, {"counter": self.counter}

    def load(self, tensors: dict[str, Tensor], extra: dict[str, Any]) -> None:
        self.table.data.copy_(tensors["table"])
        self.matrix.data.copy_(tensors["matrix"])
        self.counter = extra["counter"]

    @torch.no_grad()
    def error(self) -> float:
        return float((torch.tanh(self.table @ self.matrix) - self.target).square().mean())

    def everything(self) -> dict[str, Tensor]:
        return {**self.state()[0], **self.optimiser.state()}


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert list(a) == list(b)
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert different == []
