"""Scene contraction: all of space in one cube (Barron et al., mip-NeRF 360, 2022, eq. 10)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Contraction = Literal["none", "linf", "l2"]
"""Which norm says how far away a point is; "none": the scene ends at its cube."""


def contract(v: Tensor, kind: Contraction) -> Tensor:
    """Positions v to a field's unit cube. [N, 3] -> [N, 3]

    With a contraction, v stays v up to norm 1 and becomes (2 - 1/|v|) v/|v| beyond; the cube of
    side 4 that holds the result is the unit cube at half its size.
    """
    if kind == "none":
        return v
    length = _norm(v, kind).clamp_min(1.0)
    return 0.5 * v * ((2.0 - 1.0 / length) / length)[:, None]


def expand(u: Tensor, kind: Contraction) -> Tensor:
    """The inverse of `contract`; infinitely far points go to a large finite distance."""
    if kind == "none":
        return u
    length = _norm(2.0 * u, kind)
    outside = 1.0 / (2.0 - length.clamp(max=2.0 - 1e-6))
    grown = torch.where(length > 1.0, outside / length.clamp_min(1e-9), torch.ones_like(length))
    return 2.0 * u * grown[:, None]


def stretch(u: Tensor, kind: Contraction) -> Tensor:
    """Lengths in v of short lengths in u across the direction to the middle. [N, 3] -> [N]"""
    if kind == "none":
        return torch.ones_like(u[:, 0])
    return expand(u, kind).norm(dim=1) / u.norm(dim=1).clamp_min(1e-9)


def _norm(v: Tensor, kind: Contraction) -> Tensor:
    return v.abs().amax(dim=1) if kind == "linf" else v.norm(dim=1)
