"""Welding, areas, normals, closest points, and distance along the surface."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.sparse import csgraph

from geodistill.checks import InputError, UsageError
from geodistill.deform.components import bridges
from geodistill.deform.locality import localise, path_graph, surface_distance
from geodistill.deform.surface import surface_of
from geodistill.geometry.mesh import Mesh, area_weighted_normals
from tests.deform.shapes import blob, box, grid, joined, moved, sphere


def from_vertex(mesh: Mesh, vertex: int) -> torch.Tensor:
    surface = surface_of(mesh)
    return surface_distance(path_graph(surface), surface.welded[vertex, None])[surface.welded]


def test_vertices_at_one_place_are_one() -> None:
    mesh = sphere(12)
    surface = surface_of(mesh)
    assert torch.equal(surface.positions[surface.welded], mesh.vertices)
    assert len(surface.positions) == len(torch.unique(mesh.vertices, dim=0))
    assert torch.equal(mesh.vertices[surface.first], surface.positions)
    assert float(surface.areas.sum()) == pytest.approx(4 * math.pi, rel=0.03)


def test_minus_zero_is_zero() -> None:
    mesh = Mesh(
        torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.0, 0, 0]]).double(),
        torch.tensor([[3, 1, 2]]),
    )
    assert surface_of(mesh).welded.tolist() == [0, 1, 2, 0]


def test_a_mesh_without_area_is_refused() -> None:
    with pytest.raises(InputError, match="no area"):
        surface_of(Mesh(torch.zeros(3, 3).double(), torch.tensor([[0, 1, 2]])))


def test_normals_of_a_sphere_point_outward() -> None:
    surface = surface_of(sphere(30))
    normals = area_weighted_normals(surface.positions, surface.faces)
    assert ((normals * surface.positions).sum(1) > 0.99).all()


def test_distance_on_a_plane_is_at_most_a_twelfth_too_long() -> None:
    mesh = grid(61, 61)
    distance, true = from_vertex(mesh, 0), mesh.vertices.norm(dim=1)
    ratio = (distance / true)[1:]
    assert ratio.min() > 1 - 1e-6 and ratio.max() < 1.083
    assert 1 < ratio.mean() < 1.045


def test_distance_on_a_sphere() -> None:
    mesh = sphere(60)
    start = 20 * 121
    distance = from_vertex(mesh, start)
    true = (mesh.vertices @ mesh.vertices[start]).clamp(-1, 1).acos()
    ratio = (distance / true)[true > 0.3]
    assert ratio.min() > 0.995 and ratio.max() < 1.09


def test_distance_does_not_depend_on_the_order_of_vertices_or_the_frame() -> None:
    mesh = blob(1)
    order = torch.randperm(len(mesh.vertices), generator=torch.Generator().manual_seed(0))
    place = order.argsort()
    other, _, _ = moved(Mesh(mesh.vertices[order], place[mesh.faces].flip(0)), 3, 100.0)
    one, two = from_vertex(mesh, 500), from_vertex(other, int(place[500]))
    torch.testing.assert_close(two[place], one, rtol=2e-4, atol=1e-6)


def test_a_seam_does_not_cut() -> None:
    """Distance from one lip of the seam is 0 at the other, and symmetric about it."""
    mesh = sphere(20)
    distance = from_vertex(mesh, 10 * 41).view(20, 41)
    assert distance[10, 40] == 0
    torch.testing.assert_close(distance[10, 1], distance[10, 39], rtol=1e-5, atol=0)


def test_repeated_and_non_manifold_faces_do_not_change_distances() -> None:
    mesh = grid(9, 9)
    fin = torch.tensor([[0, 1, 40], [0, 1, 40], [0, 0, 1]])
    twice = Mesh(mesh.vertices, torch.cat([mesh.faces, mesh.faces.flip(1), mesh.faces[:5]]))
    torch.testing.assert_close(from_vertex(twice, 30), from_vertex(mesh, 30))
    assert from_vertex(Mesh(mesh.vertices, torch.cat([mesh.faces, fin])), 30).isfinite().all()


def test_components_are_joined_where_they_come_nearest() -> None:
    far = box((1, 1, 1), (4.0, 0, 0))
    mesh = joined(box((1, 1, 1)), far, box((1, 1, 1), (2.0, 0, 0)))
    distance = from_vertex(mesh, 0)
    low, high = distance[:8].max(), distance[8:16].min()
    assert distance.isfinite().all() and high > low
    # The corner at x = -0.5 is 4 units of surface and gaps from the far box at x = 3.5.
    assert float(high) == pytest.approx(4.0, rel=1e-5)


def test_positions_of_no_face_are_nowhere_far_away() -> None:
    mesh = grid(12, 12)
    loose = torch.tensor([[1000.0, 0, 0], [1000.0, 5, 0]]).double()
    stray = Mesh(torch.cat([mesh.vertices, loose]), mesh.faces)
    assert surface_of(stray).diagonal == surface_of(mesh).diagonal
    found = from_vertex(stray, 7)
    torch.testing.assert_close(found[:-2], from_vertex(mesh, 7), rtol=1e-5, atol=1e-5)
    assert float(found[-2:].max()) <= float(found[:-2].max()) * (1 + 1e-6)


def test_bridges_make_the_shortest_tree() -> None:
    random = np.random.default_rng(0)
    points, labels = random.random((300, 3)), np.arange(300) // 10
    one, two = bridges(points, labels)
    gaps = np.linalg.norm(points[:, None] - points, axis=2).reshape(30, 10, 30, 10).min((1, 3))
    tree = csgraph.minimum_spanning_tree(np.triu(gaps, 1))
    assert np.linalg.norm(points[one] - points[two], axis=1).sum() == pytest.approx(tree.sum())


def test_bridges_of_many_points_are_nearly_as_short() -> None:
    random = np.random.default_rng(0)
    ends = random.random((30_000, 3))
    ends[15_000:, 0] += 2
    one, two = bridges(ends, np.repeat([0, 1], 15_000).astype(np.int32))
    assert 1 < np.linalg.norm(ends[one[0]] - ends[two[0]]) < 1.1


def test_localise() -> None:
    weights, distances = torch.ones(4), torch.tensor([0.0, 1.0, 3.0, 4.0]).double()
    assert torch.equal(localise(weights, distances, 0), weights)
    assert localise(weights, distances, 2).tolist() == [1, 0.5625, 0.0625, 0]
    with pytest.raises(UsageError, match="at least 0"):
        localise(weights, distances, -1)
    with pytest.raises(UsageError, match="at least one source"):
        surface_distance(path_graph(surface_of(grid(3, 3))), torch.zeros(0).long())
