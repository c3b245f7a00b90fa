"""Batch norm over the scans of all ranks, so that two ranks learn what one would."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geodistill import dist
from geodistill.nn.precision import lifted


class SyncedNorm(nn.Module):
    """Batch norm whose mean and variance are those of all ranks' values.

    It stands for a layer whose weights and statistics it shares, under the same names; a layer may
    have neither.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.eps, self.momentum = norm.eps, norm.momentum

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if self.training or mean is None or variance is None:
            tracked = mean is not None
            mean, variance, count = moments(lifted(x), [0, *range(2, x.dim())])
            if tracked:
                remember(self, mean, variance, count)
        shape = [1, -1, *[1] * (x.dim() - 2)]
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is None:
            return ((x - mean.view(shape)) * scale.view(shape)).to(x.dtype)
        scale = self.weight * scale
        found = x * scale.view(shape) + (self.bias - mean * scale).view(shape)
        return found.to(x.dtype)


def moments(x: Tensor, axes: list[int], places: int | None = None) -> tuple[Tensor, Tensor, float]:
    """Mean and variance of x [N, C, ...] by channel over all ranks, and of how many values.

    Args:
        places: how many values a channel has here, those beyond x being zero; None: those of x.
    """
    own = x.numel() // x.shape[1]
    held = torch.tensor(float(own if places is None else places), device=x.device)
    count = float(dist.all_sum(held))
    mean = dist.all_sum(x.sum(axes)) / max(count, 1.0)
    shape = [1, -1, *[1] * (x.dim() - 2)]
    squares = (x - mean.view(shape)).square().sum(axes)
    if places is not None:
        squares = squares + (places - own) * mean.square()
    return mean, dist.all_sum(squares) / max(count, 1.0), count


@torch.no_grad()
def remember(norm: Any, mean: Tensor, variance: Tensor, count: float) -> None:
    """Take a batch's statistics into the running ones, if it has any values."""
    if count == 0:
        return
    unbiased = variance * (count / max(count - 1, 1))
    norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
    norm.running_var.lerp_(unbiased.to(norm.running_var), norm.momentum)
    norm.num_batches_tracked += 1


def synced(module: nn.Module) -> None:
    """Exchange every batch norm inside of a module, where there are several ranks."""
    if dist.world() == 1:
        return
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(module, name, SyncedNorm(child))
        else:
            synced(child)
