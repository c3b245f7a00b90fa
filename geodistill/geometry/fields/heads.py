"""Small networks shared by the architectures: MLPs and the 16-d latent's colour head."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodistill import kernels
from geodistill.geometry.fields.activations import spherical_harmonics, truncated_exp
from geodistill.geometry.fields.base import Field, ParamGroup

LATENT = 16
"""[raw log-density, 15 geometry features]: what ngp, tensorf, mlp and composites have in common."""

HEAD_LR = 5e-3


class Mlp(nn.Module):
    """Linear layers, ReLU between them. widths = (in, hidden ..., out)."""

    def __init__(self, *widths: int, bias: bool = False) -> None:
        super().__init__()
        shapes = pairwise(widths)
        self.weights = nn.ParameterList(_uniform(out, fan_in) for fan_in, out in shapes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(n)) for n in widths[1:] if bias)

    def forward(self, x: Tensor) -> Tensor:
        if not len(self.biases):
            return kernels.fused_mlp(x, tuple(self.weights))
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            x = F.relu(F.linear(x, weight, bias))
        return F.linear(x, *last)


def _uniform(out: int, fan_in: int) -> nn.Parameter:
    bound = math.sqrt(3.0 / fan_in)
    return nn.Parameter(torch.empty(out, fan_in).uniform_(-bound, bound))


def new_color_head() -> Mlp:
    """The shared colour head, 31 -> 64 -> 64 -> 3."""
    return Mlp(16 + LATENT - 1, 64, 64, 3)


def shade(color_head: Mlp, features: Tensor, directions: Tensor) -> Tensor:
    """sigmoid(head([SH16(d), g])): features [N, 15], unit directions [N, 3] -> rgb [N, 3]"""
    basis = spherical_harmonics(directions, 3)
    return torch.sigmoid(color_head(torch.cat([basis, features], dim=1)))


class Branch(nn.Module):
    """Block 1 of a latent field: positions in the unit cube [N, 3] -> latent [N, 16], or as wide as
    the field's decoder asks for."""

    def raw(self, u: Tensor) -> Tensor:
        """The log-density channel alone. [N, 3] -> [N]"""
        return self(u)[:, 0]

    def raw_first(self, u: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Log-density [N], and the way from indices [K] of these points to their latents [K, 16].

        A branch whose log-density costs far less than its latent leaves the rest until then.
        """
        latent = self(u)
        return latent[:, 0], lambda index: latent.index_select(0, index)

    def param_groups(self) -> list[ParamGroup]:
        raise NotImplementedError


def limited_raw(raw: Tensor, limits: tuple[float, ...]) -> Tensor:
    """Raw density within the first two of `limits`, if any. [N] -> [N]"""
    return raw.clamp(limits[0], limits[1]) if limits else raw


def limited(latent: Tensor, limits: tuple[float, ...]) -> Tensor:
    """[raw, features] within limits (raw low, raw high) or (..., features low, high). [N, C]"""
    if not limits:
        return latent
    features = latent[:, 1:].clamp(limits[2], limits[3]) if limits[2:] else latent[:, 1:]
    return torch.cat([limited_raw(latent[:, :1], limits), features], dim=1)


class LatentField(Field):
    """A field whose latent is [raw, g1..g15] and whose colour head is the shared one.

    sigma = exp(raw); rgb = sigmoid(MLP[SH16(d), g]) with layers 31 -> 64 -> 64 -> 3, as in PVD.
    """

    latent_kind = "raw+15"

    def __init__(self, architecture: str, config: Any, branch: Branch) -> None:
        super().__init__(architecture, config)
        self.branch = branch
        self.color_head = new_color_head()
        self.limits: tuple[float, ...] = getattr(config, "limits", ())

    def latent(self, u: Tensor) -> Tensor:
        return limited(self.branch(u), self.limits)

    def sigma(self, u: Tensor) -> Tensor:
        return truncated_exp(limited_raw(self.branch.raw(u), self.limits))

    def sigma_first(self, u: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        raw, latent_at = self.branch.raw_first(u)
        sigma = truncated_exp(limited_raw(raw, self.limits))
        return sigma, lambda index: limited(latent_at(index), self.limits)

    def sigma_of(self, latent: Tensor) -> Tensor:
        return truncated_exp(latent[:, 0])

    def rgb_of(self, latent: Tensor, directions: Tensor) -> Tensor:
        return shade(self.color_head, latent[:, 1:], directions)

    def param_groups(self) -> list[ParamGroup]:
        head = ParamGroup(list(self.color_head.parameters()), HEAD_LR)
        return [*self.branch.param_groups(), head]
