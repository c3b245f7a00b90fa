"""Interactive speed on 650,000 vertices: similarities, poses, locality."""

from __future__ import annotations

import torch
from rows import Row, at_most, medians, seconds
from torch import Tensor

from deforming.meshes import directions_of, finer, mesh_of
from geodistill.deform.blend import bind, pose_bound
from geodistill.deform.features import prepare, similarity
from geodistill.deform.locality import path_graph, surface_distance
from geodistill.deform.sites import vertex_site
from geodistill.deform.surface import surface_of
from geodistill.deform.transforms import joined, transform
from geodistill.deform.weights import automatic_kernel, cardinal_weights

HANDLES, REPEATS = 8, 15


def rows() -> list[Row]:
    mesh, features = finer(mesh_of("dragon"), directions_of("dragon")[:, :64], 3)
    surface = surface_of(mesh)
    table = prepare(features, surface)
    size = f"{len(surface.positions):,} vertices"
    picks = torch.linspace(0, len(surface.positions) - 1, HANDLES + 2).long()[1:-1].tolist()
    return [
        *_similarity(table, picks[0], size),
        *_pose(surface, table, picks, size),
        *_locality(surface, picks, size),
    ]


def _similarity(table: Tensor, pick: int, size: str) -> list[Row]:
    by_vertex = table.T.contiguous()
    feature = by_vertex[pick].clone()
    found = medians(
        {
            "ours": lambda: similarity(table, feature),
            "published": lambda: (1 - (by_vertex - feature).norm(dim=1)).clamp_min(0),
        },
        REPEATS,
    )
    ours, published = (1e3 * found[name] for name in ("ours", "published"))
    what = f"similarity row of one handle, {size}, D = {len(table)}"
    return [at_most(what, ours, 12, "ms", f"the published form: {published:.0f} ms")]


def _pose(surface, table: Tensor, picks: list[int], size: str) -> list[Row]:
    sites = [vertex_site(surface, table, int(surface.first[pick])) for pick in picks]
    kernel = automatic_kernel(table, surface.areas)
    weights = cardinal_weights(table, sites, [], kernel, lambda v: torch.zeros(table.shape[1]))
    maps = joined([transform(s.center.tolist(), (1, 2, 0), (0.1, 0.5, 0.0)) for s in sites])
    bound = bind(surface.positions, weights)
    spent = 1e3 * medians({"ours": lambda: pose_bound(bound, maps)}, REPEATS)["ours"]
    moving = float((weights != 0).any(1).float().mean())
    what = f"pose, {HANDLES} turning handles, {size} of which {moving:.0%} move"
    return [at_most(what, spent, 20, "ms")]


def _locality(surface, picks: list[int], size: str) -> list[Row]:
    setup = medians({"ours": lambda: path_graph(surface)}, 3)["ours"]
    graph = path_graph(surface)
    handle = medians({"ours": lambda: surface_distance(graph, torch.tensor(picks[:1]))}, 5)["ours"]
    peers = ["", ""]
    try:
        from potpourri3d import MeshHeatMethodDistanceSolver
    except ImportError:
        peers[0] = "potpourri3d is not installed"
    else:
        vertices, faces = surface.positions.numpy(), surface.faces.numpy()
        made = []
        spent = seconds(lambda: made.append(MeshHeatMethodDistanceSolver(vertices, faces)))
        one = seconds(lambda: made[0].compute_distance(picks[0]))
        peers = [f"heat method: {spent:.0f} s", f"heat method: {one:.1f} s"]
    return [
        at_most(f"locality, set-up, {size}", setup, 0.5, "s", peers[0]),
        at_most(f"locality, a handle, {size}", handle, 0.3, "s", peers[1]),
    ]
