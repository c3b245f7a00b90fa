"""How much each position of a surface follows each handle, from distances between features.

`published_*` is the method as its paper states it: Liu, Lang & Hanocka, Deep Feature Deformation
Weights (CVPR 2026, arXiv 2601.12527). `cardinal_weights` is the default here: smooth, exactly 1
at each handle and exactly 0 at anchors and at other handles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from geodistill import log
from geodistill.checks import InputError, UsageError
from geodistill.deform.features import distance, distance_quantile
from geodistill.deform.sites import Site, likeness, site_distance

_COINCIDE = 0.05  # of the radius: nearer features tell two handles apart less well than the surface
_DEFINITE = 0.02  # smallest eigenvalue of the kernel matrix that is solved with
_REACH = 0.5  # the automatic radius is this quantile of the distances between pairs of points


def published_weights(table: Tensor, feature: Tensor) -> Tensor:
    """W_ij = max(1 - ||Z_i - Z_j||, 0) between all columns of a table [D, P] and Z_j [D]. [P]"""
    return (1 - distance(table, feature)).clamp_min_(0)


def published_anchors(weights: Tensor, anchors: Tensor) -> Tensor:
    """W_ih <- max(W_ih - max_a W_ia, 0), of weights [P] and the anchors' own weights [A, P].

    The handle's own weight falls too where an anchor resembles it.
    """
    return (weights - anchors.amax(0)).clamp_min_(0)


def published_locality(weights: Tensor, distances: Tensor, power: float) -> Tensor:
    """W'_ij = W_ij (1 - G_ij)^power, G the geodesic distance over its largest value. All [P]."""
    return weights * (1 - distances / distances.max()).clamp_min_(0).pow_(power).to(weights)


def smooth_kernel(distances: Tensor, radius: float) -> Tensor:
    """Wendland's (1 - r)^4 (4 r + 1) with r = distance / radius, and 0 from the radius on.

    It is 1 and flat at the handle, and twice differentiable throughout.
    Source: Wendland, Piecewise polynomial, positive definite and compactly supported radial
    functions of minimal degree (1995).
    """
    r = (distances / radius).clamp_max(1)
    return (1 - r).square().square() * (4 * r + 1)


def automatic_radius(table: Tensor, areas: Tensor) -> float:
    """The median feature distance between pairs of points of the surface.

    Raises InputError when the features are the same everywhere.
    """
    radius = distance_quantile(table, areas, _REACH)
    if radius < 1e-3:
        raise InputError("the features are the same all over the mesh: they tell nothing apart")
    return radius


def cardinal_weights(
    table: Tensor,
    handles: Sequence[Site],
    anchors: Sequence[Site],
    radius: float,
    surface_distance: Callable[[Tensor], Tensor],
) -> Tensor:
    """Weights float32 [P, H] of H handles: in [0, 1], with sums of at most 1.

    Rows are k(x) A^-1, where k is `smooth_kernel` of the feature distances to all handles and
    anchors and A is the same among them; they are clamped, and divided by their sum where that
    exceeds 1. The positions that belong to a site then take exactly 1, or 0. Where A is nearly
    singular the radius shrinks until it is not.

    Handles and anchors whose features nearly coincide share one column. It is divided among them
    by inverse squares of `surface_distance(vertices [n]) -> [P]`, which is called for those only.
    Sites that share a vertex cannot be told apart: one line says so.

    Raises UsageError without handles or for a radius that is not positive.
    """
    if not handles:
        raise UsageError("weights need at least one handle")
    if not 0 < radius < np.inf:
        raise UsageError(f"the radius must be positive, got {radius}")
    sites = [*handles, *anchors]
    groups, inverse, radius = _solved(sites, radius)
    count = int(groups.max()) + 1
    rows = torch.zeros(count, table.shape[1])
    for site, group in zip(sites, groups.tolist(), strict=True):
        kernel = smooth_kernel(likeness(table, site), radius)
        rows[group] = torch.maximum(rows[group], kernel)
    rows = (inverse.float() @ rows).clamp_(0, 1)
    shares = _shares(sites, groups, surface_distance)
    columns = [
        rows[group] * shares[site] if site in shares else rows[group]
        for site, group in enumerate(groups[: len(handles)].tolist())
    ]
    weights = torch.stack(columns, 1)
    weights /= weights.sum(1, keepdim=True).clamp_min_(1)
    return _pinned(weights, handles, anchors)


def _solved(sites: Sequence[Site], radius: float) -> tuple[Tensor, Tensor, float]:
    """The group of each site, the inverse of the kernel matrix of the groups, and the radius."""
    count = len(sites)
    apart = torch.zeros(count, count, dtype=torch.float64)
    for i in range(count):
        for j in range(i):
            apart[i, j] = apart[j, i] = site_distance(sites[i], sites[j])
    groups = _groups(apart < _COINCIDE * radius)
    size = int(groups.max()) + 1
    gaps = torch.full((size, size), torch.inf, dtype=torch.float64)
    gaps.view(-1).scatter_reduce_(
        0, (groups[:, None] * size + groups).flatten(), apart.flatten(), "amin"
    )
    while True:
        matrix = smooth_kernel(gaps, radius)
        if float(torch.linalg.eigvalsh(matrix).min()) >= _DEFINITE:
            return groups, torch.linalg.inv(matrix), radius
        radius *= 0.9


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
    clashes = int(((claims[:, 0] > 1) | ((claims[:, 0] > 0) & held)).sum())
    if clashes:
        log.say(
            f"{clashes} vertices belong to several handles or anchors, which cannot be told apart "
            "there: handles share them, anchors hold them"
        )
    weights = torch.where(claims > 0, own / claims.clamp_min(1), weights)
    return torch.where(held[:, None], 0.0, weights)
