"""Meshes without the roughness of the grid they were made on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from geodistill.geometry.mesh import Mesh, edges, welded

SHRINK, GROW = 0.5, -0.53
"""Factors of the two steps of a round: what is coarse keeps its size."""


def faired(mesh: Mesh, rounds: int) -> Mesh:
    """The mesh with its vertices moved towards their neighbours and back, `rounds` times.

    Source: Taubin, "A Signal Processing Approach to Fair Surface Design", 1995, with equal weights.
    """
    weld, (pairs, _) = welded(mesh), edges(mesh)
    count = int(weld.max()) + 1
    places = mesh.vertices.new_zeros(count, 3).index_copy(0, weld, mesh.vertices)
    both = torch.cat([pairs, pairs.flip(1)])
    valence = torch.bincount(both[:, 0], minlength=count).clamp_min(1)[:, None]
    isolated = torch.bincount(both[:, 0], minlength=count)[:, None] == 0
    for factor in (SHRINK, GROW) * rounds:
        mean = _neighbours(places, both) / valence
        places = torch.where(isolated, places, places + factor * (mean - places))
    return replace(mesh, vertices=places[weld])


def _neighbours(places: Tensor, pairs: Tensor) -> Tensor:
    """The sum of each place's neighbours. [N, 3]"""
    return torch.zeros_like(places).index_add_(0, pairs[:, 0], places[pairs[:, 1]])
