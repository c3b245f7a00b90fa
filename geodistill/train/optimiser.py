"""The update rules of training: Adam, Adam for sparsely used tables, Muon for wide layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from geodistill import kernels
from geodistill.geometry.fields import ParamGroup

BETAS = (0.9, 0.99)
MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration that brings singular values near 1 in five steps."""


class Optimiser:
    """One rule per parameter, as its group says, and learning rates that scale together."""

    def __init__(self, groups: Sequence[ParamGroup], before: Optimiser | None = None) -> None:
        """
        Args:
            groups: the parameters.
            before: the optimiser that this one goes on from: its step count stands, and parameters
                that it moved keep their moments.
        """
        self.count = before.count if before else 0
        known = {id(rule.p): rule for _, rule in before._rules} if before else {}
        self._rules = [(g, known.get(id(p)) or RULES[g.rule](p)) for g in groups for p in g.params]

    def step(self, lr_scale: float) -> None:
        """Update every parameter that has a gradient, and drop the gradients."""
        self.count += 1
        with torch.no_grad():
            for group, rule in self._rules:
                if rule.p.grad is not None:
                    rule.update(rule.p.grad, group.lr * lr_scale, group.eps, self.count)
                    rule.p.grad = None

    def moments(self, p: nn.Parameter) -> dict[str, Tensor]:
        """What is remembered of one parameter's gradients, by name; to be read, or filled anew."""
        return next(rule.moments for _, rule in self._rules if rule.p is p)

    def report(self) -> dict[str, float]:
        """What to say of the last step."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Moments, to be stored beside the parameters."""
        return {
            f"optimiser.{i}.{name}": moment
            for i, (_, rule) in enumerate(self._rules)
            for name, moment in rule.moments.items()
        }

    def load(self, state: Mapping[str, Tensor], count: int) -> None:
        """The inverse of `state` after `count` steps."""
        self.count = count
        for i, (_, rule) in enumerate(self._rules):
            for name, moment in rule.moments.items():
                moment.copy_(state[f"optimiser.{i}.{name}"])


@dataclass
class Rule(ABC):
    """How one parameter moves, and what it remembers of its gradients."""

    p: nn.Parameter
    moments: dict[str, Tensor] = field(default_factory=dict)

    @abstractmethod
    def update(self, grad: Tensor, lr: float, eps: float, count: int) -> None:
        """Move the parameter by one step; `count` steps have been taken, this one included."""


class Adam(Rule):
    """Adam (Kingma and Ba 2015); the bias is corrected by the steps that the parameter took."""

    def __init__(self, p: nn.Parameter) -> None:
        zeros = torch.zeros_like(p.data)
        super().__init__(p, {"m": zeros, "v": zeros.clone(), "steps": torch.zeros(())})

    def update(self, grad: Tensor, lr: float, eps: float, count: int) -> None:
        m, v, steps = self.moments.values()
        steps += 1
        m.lerp_(grad, 1.0 - BETAS[0])
        v.mul_(BETAS[1]).addcmul_(grad, grad, value=1.0 - BETAS[1])
        first, second = (1.0 - beta ** float(steps) for beta in BETAS)
        self.p.addcdiv_(m, (v / second).sqrt_().add_(eps), value=-lr / first)


class LazyAdam(Rule):
    """Adam that leaves rows without a gradient as they are, with their moments.

    The sparse update of Instant-NGP, for tables of which a step touches few rows.
    """

    def __init__(self, p: nn.Parameter) -> None:
        zeros = torch.zeros_like(p.data)
        super().__init__(p, {"m": zeros, "v": zeros.clone()})

    def update(self, grad: Tensor, lr: float, eps: float, count: int) -> None:
        m, v = self.moments.values()
        kernels.sparse_adam_step(self.p.data, grad, m, v, lr, *BETAS, eps, count)


class Muon(Rule):
    """Momentum whose singular values are all made about 1 (Jordan et al., "Muon", 2024).

    For the hidden matrices of wide networks: each direction moves alike, however small its
    gradient. Five Newton-Schulz steps cost little beside a batch of thousands.
    """

    def __init__(self, p: nn.Parameter) -> None:
        super().__init__(p, {"m": torch.zeros_like(p.data)})

    def update(self, grad: Tensor, lr: float, eps: float, count: int) -> None:
        m = self.moments["m"]
        m.mul_(MOMENTUM).add_(grad)
        rows, columns = m.shape
        way = _orthogonal(grad + MOMENTUM * m)
        self.p.sub_(way, alpha=lr * max(1.0, rows / columns) ** 0.5)


def _orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought to about 1. [M, N] -> [M, N]"""
    a, b, c = NEWTON_SCHULZ
    x = matrix / matrix.norm().clamp_min(1e-12)
    tall = x.shape[0] > x.shape[1]
    x = x.t() if tall else x
    for _ in range(5):
        gram = x @ x.t()
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.t() if tall else x


RULES: dict[str, type[Adam] | type[LazyAdam] | type[Muon]] = {
    "adam": Adam,
    "lazy-adam": LazyAdam,
    "muon": Muon,
}
