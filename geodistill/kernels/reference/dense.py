"""Layers and the optimiser's step."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def sparse_adam_step(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
) -> None:
    rows = (grad != 0).any(dim=-1)
    g = grad[rows]
    m = exp_avg[rows] * beta1 + g * (1 - beta1)
    v = exp_avg_sq[rows] * beta2 + g * g * (1 - beta2)
    root = (v / (1 - beta2**step)).sqrt()
    param[rows] -= lr / (1 - beta1**step) * m / (root + eps)
    exp_avg[rows], exp_avg_sq[rows] = m, v
    grad[rows] = 0


def fused_mlp(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    for weight in weights[:-1]:
        x = F.relu(F.linear(x, weight))
    return F.linear(x, weights[-1])
