"""Binding at about 10,000 vertices, beside bounded biharmonic weights (Jacobson et al. 2011)."""

from __future__ import annotations

import numpy as np
import torch
from rows import Row, at_least, medians, seconds
from torch import Tensor

from deforming.meshes import directions_of, mesh_of
from geodistill.deform.features import prepare
from geodistill.deform.locality import path_graph, surface_distance
from geodistill.deform.sites import vertex_site
from geodistill.deform.surface import Surface, surface_of
from geodistill.deform.weights import automatic_kernel, cardinal_weights, published_weights

HANDLES = 4


def rows() -> list[Row]:
    surface = surface_of(mesh_of("dragon"))
    picks = _apart(surface, HANDLES)
    features = directions_of("dragon")

    def ours() -> Tensor:
        table = prepare(features, surface)
        sites = [vertex_site(surface, table, int(surface.first[pick])) for pick in picks]
        kernel = automatic_kernel(table, surface.areas)
        return cardinal_weights(
            table, sites, [], kernel, lambda v: surface_distance(path_graph(surface), v)
        )

    raw = prepare(features, surface, centring=0.0)
    published = torch.stack([published_weights(raw, raw[:, pick]) for pick in picks], 1)
    spent = medians({"ours": ours}, 7)["ours"]
    size = f"{len(surface.positions):,} vertices, {HANDLES} handles"
    shown = f"cardinal {_quality(surface, ours())}; published {_quality(surface, published)}"
    try:
        import igl
    except ImportError:
        return [Row(f"bind, {size}", f"{1e3 * spent:.0f} ms", peers="libigl is not installed")]
    vertices, faces = surface.positions.numpy(), surface.faces.numpy()
    solved: list[np.ndarray] = []
    one = np.eye(HANDLES)
    theirs = seconds(lambda: solved.append(igl.bbw(vertices, faces, np.array(picks), one)))
    bounded = torch.from_numpy(np.asarray(solved[0]))
    peer = f"bounded biharmonic: {theirs:.1f} s; ours: {1e3 * spent:.0f} ms"
    return [
        at_least(f"bind, {size}: times as fast", theirs / spent, 100, "x", peer),
        Row(
            "weights: gradient energy, and area that a handle moves (weight above 0.05)",
            shown,
            peers=f"bounded biharmonic {_quality(surface, bounded)}",
        ),
    ]


def _apart(surface: Surface, count: int) -> list[int]:
    """Positions far from one another, the first the lowest in x."""
    picks = [int(surface.positions[:, 0].argmin())]
    nearest = (surface.positions - surface.positions[picks[0]]).norm(dim=1)
    while len(picks) < count:
        picks.append(int(nearest.argmax()))
        nearest = torch.minimum(
            nearest, (surface.positions - surface.positions[picks[-1]]).norm(dim=1)
        )
    return picks


def _quality(surface: Surface, weights: Tensor) -> str:
    """Mean over handles of the Dirichlet energy of the weights and of the share of area moved."""
    corners = surface.positions[surface.faces]
    a, b, c = corners.unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    double = normal.norm(dim=1).clamp_min(1e-12)
    w = weights.double()[surface.faces]
    # The gradient of a linear function on a triangle, turned by a right angle.
    turned = w[:, 0, :, None] * (c - b)[:, None] + w[:, 1, :, None] * (a - c)[:, None]
    turned = turned + w[:, 2, :, None] * (b - a)[:, None]
    energy = (turned.square().sum(-1) / (2 * double[:, None])).sum(0).mean()
    moved = (surface.areas[:, None] * (weights > 0.05)).sum(0).mean() / surface.areas.sum()
    return f"{float(energy):.1f}, {float(moved):.0%}"
