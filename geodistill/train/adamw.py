"""AdamW in one cycle, as detectors are trained: the rate rises and falls, the momentum against it.

Sources: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019); Smith and
Topin, "Super-Convergence" (2018).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geodistill import dist
from geodistill.checks import ABOVE_ZERO, InputError, expect_within
from geodistill.train.optimiser import Optimiser


@dataclass(frozen=True)
class OneCycle:
    """Attributes:
    peak: the largest learning rate.
    first, last: the rate at the beginning and at the end, in parts of the largest.
    rise: share of the steps until the largest.
    momentum: at the beginning and end, and at the peak.
    decay: of the weights.
    clip: largest norm of all gradients together.
    """

    peak: float = 0.01
    first: float = 0.1
    last: float = 1e-5
    rise: float = 0.4
    momentum: tuple[float, float] = (0.95, 0.85)
    decay: float = 0.01
    clip: float = 35.0

    def __post_init__(self) -> None:
        positive, share = (0, math.inf), (0, 1)
        expect_within(self, peak=ABOVE_ZERO, first=positive, last=positive, rise=share)
        expect_within(self, momentum=(0, 0.9999), decay=positive, clip=ABOVE_ZERO)

    def rate(self, progress: float) -> float:
        """In parts of the peak, at a share of the steps."""
        if progress < self.rise:
            return _cosine(self.first, 1.0, progress / self.rise)
        return _cosine(1.0, self.last, (progress - self.rise) / (1 - self.rise))

    def beta(self, progress: float) -> float:
        slow, fast = self.momentum
        if progress < self.rise:
            return _cosine(slow, fast, progress / self.rise)
        return _cosine(fast, slow, (progress - self.rise) / (1 - self.rise))


class AdamW(Optimiser):
    """Attributes:
    beta: the momentum of the next step.
    norm: of all gradients before they were clipped, at the last step.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], cycle: OneCycle) -> None:
        super().__init__([])
        self.cycle = cycle
        self.beta = cycle.momentum[0]
        self.norm = 0.0
        self._parameters = list(parameters)
        betas = (self.beta, 0.99)
        self._rule = torch.optim.AdamW(
            self._parameters, cycle.peak, betas, weight_decay=cycle.decay, foreach=True
        )

    def step(self, lr_scale: float) -> None:
        self.count += 1
        dist.sum_gradients(self._parameters)
        norm = nn.utils.clip_grad_norm_(self._parameters, self.cycle.clip)
        self.norm = float(norm)
        if not math.isfinite(self.norm):  # before the weights are spoiled, and kept
            raise InputError(
                f"a gradient became {self.norm} in step {self.count}: check the input, the "
                f"learning rate ({self.cycle.peak}) and the weights of losses"
            )
        for group in self._rule.param_groups:
            group["lr"] = self.cycle.peak * lr_scale
            group["betas"] = (self.beta, 0.99)
        self._rule.step()
        self._rule.zero_grad()

    def report(self) -> dict[str, float]:
        return {"gradient": self.norm}

    def state(self) -> dict[str, Tensor]:
        return {
            f"optimiser.{i}.{name}": value
            for i, p in enumerate(self._parameters)
            for name, value in self._rule.state.get(p, {}).items()
        }

    def load(self, state: Mapping[str, Tensor], count: int) -> None:
        self.count = count
        for i, p in enumerate(self._parameters):
            names = ("step", "exp_avg", "exp_avg_sq")
            if f"optimiser.{i}.step" in state:
                step, *moments = (state[f"optimiser.{i}.{name}"] for name in names)
                # In the weights' order in memory, without which each step is half as fast.
                own = (torch.empty_like(p).copy_(moment) for moment in moments)
                self._rule.state[p] = dict(zip(names, (step.clone(), *own), strict=True))


def _cosine(start: float, end: float, at: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(at, 1.0))) / 2
