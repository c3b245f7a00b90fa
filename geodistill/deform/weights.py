"""How much each position of a surface follows each handle, from distances between features.

`published_*` is the method as its paper states it: Liu, Lang & Hanocka, Deep Feature Deformation
Weights (CVPR 2026, arXiv 2601.12527). `cardinal_weights` is the default here: smooth, exactly 1
at each handle and exactly 0 at anchors and at other handles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import InputError, UsageError
from geodistill.deform.features import distance, distance_quantile
from geodistill.deform.sites import Site, likeness, site_distance

_COINCIDE = 0.05  # of the radius: nearer features tell two handles apart less well than the surface
_LEAST = 0.7  # of the radius is what it may shrink to
_DEFINITE = 0.02  # smallest eigenvalue of the kernel matrix that is solved with
_HALF, _REACH = 0.05, 0.7  # parts of the pairs of points with a weight of 1/2, and with any
_HALF_WAY = 0.31381  # where the kernel is 1/2, as a part of the radius
_STEEPEST = 8.0


def published_weights(table: Tensor, feature: Tensor) -> Tensor:
    """W_ij = max(1 - ||Z_i - Z_j||, 0) between all columns of a table [D, P] and Z_j [D]. [P]"""
    return (1 - distance(table, feature)).clamp_min_(0)


def published_anchors(weights: Tensor, anchors: Tensor) -> Tensor:
    """W_ih <- max(W_ih - max_a W_ia, 0), of weights [P] and the anchors' own weights [A, P].

    The handle's own weight falls too where an anchor resembles it.
    """
    return (weights - anchors.amax(0)).clamp_min_(0)


@dataclass(frozen=True)
class Kernel:
    """Weights by feature distance: 1 and flat at the handle, 0 from `radius` on, smooth between.

    Wendland's (1 - r)^4 (4 r + 1) of r = (distance / radius)^power. Source: Wendland, Piecewise
    polynomial, positive definite and compactly supported radial functions of minimal degree (1995).
    Features of many channels are far from one another but for the very nearest, so that their
    distances say little until a power spreads them; see `automatic_kernel`.

    Raises UsageError for a radius or a power that is not positive.
    """

    radius: float
    power: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("radius", self.radius), ("power", self.power)):
            if not 0 < value < np.inf:
                raise UsageError(f"the {name} must be positive, got {value}")

    def __call__(self, distances: Tensor) -> Tensor:
        r = (distances / self.radius).clamp_max(1).pow(self.power)
        return (1 - r).square().square() * (4 * r + 1)


def automatic_kernel(table: Tensor, areas: Tensor, radius: float | None = None) -> Kernel:
    """1/2 for the nearest 5 % of pairs of points of the surface, 0 for all but the nearest 70 %.

    So a handle moves about as much of a shape whatever the teacher. The power is kept between 1 and
    8. With a radius, the same shape with that radius.

    Raises InputError when the features are the same everywhere.
    """
    half, reach = (distance_quantile(table, areas, part) for part in (_HALF, _REACH))
    if reach < 1e-3:
        raise InputError("the features are the same all over the mesh: they tell nothing apart")
    power = np.log(_HALF_WAY) / np.log(min(max(half / reach, 1e-9), 1 - 1e-9))
    return Kernel(radius or reach, float(np.clip(power, 1.0, _STEEPEST)))


def cardinal_weights(
    table: Tensor,
    handles: Sequence[Site],
    anchors: Sequence[Site],
    kernel: Kernel,
    surface_distance: Callable[[Tensor], Tensor],
) -> Tensor:
    """Weights float32 [P, H] of H handles: in [0, 1], with sums of at most 1.

    Rows are k(x) A^-1, where k is the kernel of the feature distances to all handles and
    anchors and A is the same among them; they are clamped, and divided by their sum where that
    exceeds 1. The positions that belong to a site then take exactly 1, or 0. Where A is nearly
    singular the kernel's radius shrinks until it is not, to 0.7 of it at most.

    Handles and anchors whose features nearly coincide, or that no such radius parts, share one
    column. It is divided among them by inverse squares of `surface_distance(vertices [n]) -> [P]`,
    which is called for those only.
    A vertex that handles share is divided evenly among them, one that an anchor shares is held.

    Raises UsageError without handles.
    """
    if not handles:
        raise UsageError("weights need at least one handle")
    sites = [*handles, *anchors]
    groups, inverse, kernel = _solved(sites, kernel)
    count = int(groups.max()) + 1
    rows = torch.zeros(count, table.shape[1])
    for site, group in zip(sites, groups.tolist(), strict=True):
        rows[group] = torch.maximum(rows[group], kernel(likeness(table, site)))
    rows = (inverse.float() @ rows).clamp_(0, 1)
    shares = _shares(sites, groups, surface_distance)
    columns = [
        rows[group] * shares[site] if site in shares else rows[group]
        for site, group in enumerate(groups[: len(handles)].tolist())
    ]
    weights = torch.stack(columns, 1)
    weights /= weights.sum(1, keepdim=True).clamp_min_(1)
    return _pinned(weights, handles, anchors)


def _solved(sites: Sequence[Site], kernel: Kernel) -> tuple[Tensor, Tensor, Kernel]:
    """The group of each site, the inverse of the kernel matrix of the groups, and the kernel."""
    count = len(sites)
    apart = torch.zeros(count, count, dtype=torch.float64)
    for i in range(count):
        for j in range(i):
            apart[i, j] = apart[j, i] = site_distance(sites[i], sites[j])
    limit = _COINCIDE * kernel.radius
    while True:
        groups = _groups(apart < limit)
        size = int(groups.max()) + 1
        gaps = torch.full((size, size), torch.inf, dtype=torch.float64)
        gaps.view(-1).scatter_reduce_(
            0, (groups[:, None] * size + groups).flatten(), apart.flatten(), "amin"
        )
        solved = kernel
        while solved.radius > _LEAST * kernel.radius:
            matrix = solved(gaps)
            if float(torch.linalg.eigvalsh(matrix).min()) >= _DEFINITE:
                return groups, torch.linalg.inv(matrix), solved
            solved = replace(solved, radius=0.9 * solved.radius)
        # A narrower kernel would move next to nothing: the nearest two groups become one.
        limit = math.nextafter(float(gaps.fill_diagonal_(torch.inf).min()), math.inf)


def _groups(near: Tensor) -> Tensor:
    """Numbers int64 [n] of the connected groups of a symmetric relation bool [n, n]."""
    reach = near | torch.eye(len(near), dtype=torch.bool)
    for _ in range(len(near).bit_length()):
        reach = (reach.double() @ reach.double()) > 0
    return reach.int().argmax(1).unique(return_inverse=True)[1]


def _shares(
    sites: Sequence[Site], groups: Tensor, surface_distance: Callable[[Tensor], Tensor]
) -> dict[int, Tensor]:
    """What each site of a group takes of the group's weight, [P], for groups of several."""
    shares: dict[int, Tensor] = {}
    for group in range(int(groups.max()) + 1):
        members = (groups == group).nonzero()[:, 0].tolist()
        if len(members) > 1:
            distances = torch.stack([surface_distance(sites[site].vertices) for site in members])
            nearness = (distances / distances.max().clamp_min(1e-300)).square_()
            nearness = nearness.clamp_min_(1e-18).reciprocal_()
            part = (nearness / nearness.sum(0)).float()
            shares.update(zip(members, part, strict=True))
    return shares


def _pinned(weights: Tensor, handles: Sequence[Site], anchors: Sequence[Site]) -> Tensor:
    """Positions of handles take 1 there and 0 elsewhere, those of anchors 0; anchors come first."""
    own = torch.zeros(weights.shape, dtype=weights.dtype)
    for column, site in enumerate(handles):
        own[site.vertices, column] = 1
    claims = own.sum(1, keepdim=True)
    held = torch.zeros(len(weights), dtype=torch.bool)
    for site in anchors:
        held[site.vertices] = True
    weights = torch.where(claims > 0, own / claims.clamp_min(1), weights)
    return torch.where(held[:, None], 0.0, weights)
