"""Gaussians in space."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill.checks import InputError, UsageError, check, check_finite
from geodistill.kernels.reference.gaussians import REACH, Gaussians
from geodistill.kernels.table import implementation

MOST_PAIRS = 1 << 28
"""Entries of the grid's lists: 1 GiB."""


def gather_gaussians(means: Tensor, covariances: Tensor, peaks: Tensor, side: int) -> Gaussians:
    """Sort Gaussians into the cells of a grid over [-1, 1]^3 that they reach into. No gradient.

    means: [M, 3].  covariances: [M, 3, 3], positive definite.  peaks: [M].  side: cells a side; it
    is halved while the lists would not fit into memory.
    Raises InputError for values that are not finite and covariances that cannot be inverted.
    """
    check(means=(means, "M 3"), covariances=(covariances, "M 3 3"), peaks=(peaks, "M"))
    check_finite(means=means, covariances=covariances, peaks=peaks)
    if side < 1:
        raise UsageError(f"side must be at least 1, got {side}")
    extent = REACH * covariances.diagonal(dim1=1, dim2=2).sqrt()
    if not bool((extent > 0).all()):
        raise InputError("covariances must be positive definite, one of them is not")
    while True:
        low, high = ((means + s * extent + 1.0) * (0.5 * side) for s in (-1.0, 1.0))
        outside = ((high < 0) | (low >= side)).any(dim=1)
        first = low.floor().clamp(0, side - 1).long()
        counts = high.floor().clamp(0, side - 1).long() - first + 1
        each = counts.prod(dim=1) * ~outside
        if int(each.sum()) <= MOST_PAIRS or side == 1:
            break
        side = max(1, side // 2)
    member = torch.repeat_interleave(torch.arange(len(means), device=means.device), each)
    place = torch.arange(len(member), device=means.device) - (each.cumsum(0) - each)[member]
    wide, deep = counts[member, 1], counts[member, 2]
    x = first[member, 0] + place // (wide * deep)
    y = first[member, 1] + place // deep % wide
    z = first[member, 2] + place % deep
    cell, order = ((x * side + y) * side + z).sort(stable=True)
    ends = torch.bincount(cell, minlength=side**3).cumsum(0)
    inverse = torch.linalg.inv(covariances.double()).to(means.dtype)
    upper = torch.stack([inverse[:, i, j] for i in range(3) for j in range(i, 3)], dim=1)
    return Gaussians(
        torch.cat([means, upper, peaks[:, None]], dim=1).contiguous(),
        torch.cat([ends.new_zeros(1), ends]),
        member[order].int(),
        side,
    )


def gaussian_sums(x: Tensor, gaussians: Gaussians, features: Tensor) -> Tensor:
    """Sums over Gaussians of their values w at points, and of w times features. No gradient.

    x: [N, 3] in [-1, 1].  features: [M, C].  Returns [N, 1 + C].  A Gaussian ends `REACH`
    deviations from its mean.
    """
    count = len(gaussians.shapes)
    check(x=(x, "N 3"), features=(features, f"{count} C"))
    run = implementation("gaussian_sums", x, features, gaussians.shapes)
    return run(x, gaussians, features)
