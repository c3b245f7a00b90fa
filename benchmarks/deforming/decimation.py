"""Weights of one textured shape at 100 % and at 5 % of its faces, each lifted onto by itself."""

from __future__ import annotations

import torch
from rows import Row, at_least

from deforming.meshes import coarser, directions_of, finer, lifted, mesh_of
from geodistill.deform.features import prepare
from geodistill.deform.sites import vertex_site
from geodistill.deform.surface import surface_of
from geodistill.deform.weights import automatic_kernel, cardinal_weights
from geodistill.geometry.surface import closest_surface_points

HANDLES = 48


def rows() -> list[Row]:
    mesh, _ = finer(mesh_of("dragon"), directions_of("dragon"), 3)
    coarse = coarser(mesh, len(mesh.faces) // 20)
    fine_features, coarse_features = lifted(mesh), lifted(coarse)
    picks = torch.linspace(0, len(coarse.vertices) - 1, HANDLES + 2).long()[1:-1]
    twins = _nearest(mesh, coarse.vertices[picks])
    one = _weights(mesh, fine_features, twins.tolist())
    two = _weights(coarse, coarse_features, picks.tolist())
    # The coarse mesh's weights at the vertices of the fine one.
    chosen = torch.linspace(0, len(mesh.vertices) - 1, 40_000).long()
    face, weights, _ = closest_surface_points(coarse, mesh.vertices[chosen])
    there = (two[coarse.faces[face]].double() * weights[..., None]).sum(1)
    pairs = torch.stack([one[chosen].double(), there])
    found = [float(torch.corrcoef(pairs[:, :, k])[0, 1]) for k in range(HANDLES)]
    what = (
        f"weights at {len(mesh.faces):,} and {len(coarse.faces):,} faces: correlation, median of "
        f"{HANDLES} handles (least {min(found):.3f})"
    )
    return [at_least(what, float(torch.tensor(found).median()), 0.98)]


def _nearest(mesh, points: torch.Tensor) -> torch.Tensor:
    face, weights, _ = closest_surface_points(mesh, points)
    return mesh.faces[face].gather(1, weights.argmax(1, keepdim=True))[:, 0]


def _weights(mesh, features: torch.Tensor, vertices: list[int]) -> torch.Tensor:
    """Each handle by itself: what it would move. [V, H]"""
    surface = surface_of(mesh)
    table = prepare(features, surface)
    kernel = automatic_kernel(table, surface.areas)
    columns = [
        cardinal_weights(
            table, [vertex_site(surface, table, v)], [], kernel, lambda s: torch.zeros(0)
        )
        for v in vertices
    ]
    return torch.cat(columns, 1)[surface.welded]
