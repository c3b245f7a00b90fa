"""Features, the published weights, and the cardinal ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.deform.features import distance, distance_quantile, prepare
from geodistill.deform.locality import localise, path_graph, surface_distance
from geodistill.deform.sites import Site, likeness, point_site, region_site, vertex_site
from geodistill.deform.surface import Surface, surface_of
from geodistill.deform.weights import (
    Kernel,
    _solved,
    automatic_kernel,
    cardinal_weights,
    published_anchors,
    published_weights,
)
from geodistill.geometry.mesh import Mesh
from tests.deform.shapes import blob, grid, moved, sphere, waves


def setting(mesh: Mesh, features: Tensor | None = None) -> tuple[Surface, Tensor]:
    surface = surface_of(mesh)
    return surface, prepare(waves(mesh.vertices) if features is None else features, surface)


def from_surface(surface: Surface):
    graph = path_graph(surface)
    return lambda vertices: surface_distance(graph, vertices)


def unused(vertices: Tensor) -> Tensor:
    raise AssertionError("surface distance is for features that coincide")


# Features


def test_centring_takes_the_mean_out() -> None:
    mesh = grid(20, 20)
    features = waves(mesh.vertices) + 2
    surface = surface_of(mesh)

    def mean(centring: float) -> float:
        table = prepare(features, surface, centring)
        assert table.shape == (16, 400) and table.is_contiguous() and table.dtype == torch.float32
        torch.testing.assert_close(table.norm(dim=0), torch.ones(400))
        return float((table.double() @ surface.areas / surface.areas.sum()).norm())

    raw, half, full = mean(0), mean(0.7), mean(1)
    assert raw > half > full and full < 0.3
    by_hand = torch.nn.functional.normalize(features, dim=1)
    middle = (surface.areas.float() / surface.areas.sum().float()) @ by_hand
    by_hand = torch.nn.functional.normalize(by_hand - 0.7 * middle, dim=1)
    torch.testing.assert_close(prepare(features, surface, 0.7).T, by_hand, atol=1e-5, rtol=0)


def test_twins_at_a_seam_share_their_features() -> None:
    mesh = sphere(12)
    features = torch.randn(len(mesh.vertices), 8, generator=torch.Generator().manual_seed(0))
    surface = surface_of(mesh)
    table = prepare(features, surface, 0.0)
    assert table.shape[1] == len(surface.positions)
    unit = torch.nn.functional.normalize(features, dim=1)
    for place in (0, 5, 25):
        mean = unit[surface.welded == place].mean(0)
        torch.testing.assert_close(table[:, place], mean / mean.norm())


def test_unknown_features_stay_zero() -> None:
    mesh = grid(5, 5)
    features = waves(mesh.vertices)
    features[3] = 0
    surface, table = setting(mesh, features)
    assert (table[:, 3] == 0).all() and float(table.norm(dim=0).sum()) == pytest.approx(24)
    with pytest.raises(InputError, match="no feature where"):
        vertex_site(surface, table, 3)


def test_bad_features() -> None:
    surface = surface_of(grid(3, 3))
    good = waves(surface.positions)
    with pytest.raises(ShapeError, match="9 vertices, got 8"):
        prepare(good[:8], surface)
    with pytest.raises(InputError, match="NaN"):
        prepare(good * math.nan, surface)
    with pytest.raises(InputError, match="all zero"):
        prepare(good * 0, surface)
    with pytest.raises(UsageError, match="between 0 and 1"):
        prepare(good, surface, 1.5)


def test_distances_and_their_quantile() -> None:
    surface, table = setting(blob(2))
    pairs = torch.cdist(table.T.double(), table.T.double())
    torch.testing.assert_close(distance(table, table[:, 7]).double(), pairs[7], atol=1e-3, rtol=0)
    areas = surface.areas / surface.areas.sum()
    inside = (pairs < distance_quantile(table, surface.areas, 0.5)).double()
    assert float(areas @ inside @ areas) == pytest.approx(0.5, abs=0.03)


# The published form against a readable twin


def test_published_form() -> None:
    mesh = grid(6, 7)
    surface, table = setting(mesh)
    z = table.T.double().tolist()
    length = from_surface(surface)(torch.tensor([11])).tolist()

    def cone(i: int, j: int) -> float:
        return max(1 - math.dist(z[i], z[j]), 0.0)

    weights = published_weights(table, table[:, 11])
    pins = torch.stack([published_weights(table, table[:, a]) for a in (2, 40)])
    held = published_anchors(weights, pins)
    local = localise(held, torch.tensor(length), 1.5)
    for i in range(42):
        w = cone(i, 11)
        assert float(weights[i]) == pytest.approx(w, abs=1e-3)
        w = max(w - max(cone(i, 2), cone(i, 40)), 0)
        assert float(held[i]) == pytest.approx(w, abs=2e-3)
        w *= (1 - length[i] / max(length)) ** 1.5
        assert float(local[i]) == pytest.approx(w, abs=2e-3)
    assert len(weights.unique()) > 10 and 0 < int((held > 0).sum()) < 42


# Cardinal weights


def test_kernel() -> None:
    r = torch.linspace(0, 1.5, 301, dtype=torch.float64)
    k = Kernel(0.7)(r * 0.7)
    assert k[0] == 1 and (k[r >= 1] == 0).all() and (k.diff() <= 0).all()
    slope = k.diff() / r.diff()
    assert abs(float(slope[0])) < 0.06 and float(slope.diff().abs().max()) < 0.11


def test_the_automatic_kernel_is_a_half_for_the_nearest_twentieth_of_pairs() -> None:
    surface, table = setting(blob(1))
    kernel = automatic_kernel(table, surface.areas)
    half, reach = (distance_quantile(table, surface.areas, part) for part in (0.05, 0.7))
    assert 1 < kernel.power < 8
    assert kernel(torch.tensor([half, reach])).tolist() == pytest.approx([0.5, 0.0], abs=1e-3)
    wide = automatic_kernel(table, surface.areas, 1.7)
    assert (wide.radius, wide.power) == (1.7, kernel.power)


def test_handles_that_are_nearly_alike_still_move_what_one_moves() -> None:
    """Whatever their distance in features: no kernel is so narrow that nothing follows."""
    surface, table = setting(blob(1))
    kernel = Kernel(automatic_kernel(table, surface.areas).radius, 4.0)
    graph = path_graph(surface)

    def distances(vertices: Tensor) -> Tensor:
        return surface_distance(graph, vertices)

    one = vertex_site(surface, table, 100)
    alone = cardinal_weights(table, [one], [], kernel, distances).sum()
    own = int(surface.welded[100])
    gap = distance(table, table[:, own])
    gap[own] = torch.inf
    for part in (0.02, 0.06, 0.1, 0.2, 0.3):
        other = int((gap - part * kernel.radius).abs().argmin())
        pair = [one, vertex_site(surface, table, int(surface.first[other]))]
        both = cardinal_weights(table, pair, [], kernel, distances)
        assert float(both.sum()) > 0.4 * float(alone), part
        assert both[own].tolist() == [1.0, 0.0] and both[other].tolist() == [0.0, 1.0]


def three_handles(mesh: Mesh) -> tuple[Surface, Tensor, list[Site], list[Site]]:
    surface, table = setting(mesh)
    count = len(mesh.vertices)
    handles = [
        point_site(surface, table, 100, torch.tensor([0.2, 0.5, 0.3])),
        vertex_site(surface, table, count // 2),
        region_site(surface, table, torch.arange(count - 90, count - 60)),
    ]
    anchors = [vertex_site(surface, table, count // 4), point_site(surface, table, 700, even())]
    return surface, table, handles, anchors


def even() -> Tensor:
    return torch.full((3,), 1 / 3, dtype=torch.float64)


def test_handles_are_exactly_one_and_anchors_zero() -> None:
    surface, table, handles, anchors = three_handles(blob(1))
    kernel = automatic_kernel(table, surface.areas)
    weights = cardinal_weights(table, handles, anchors, kernel, from_surface(surface))
    for k, site in enumerate(handles):
        expected = torch.zeros(len(site.vertices), 3)
        expected[:, k] = 1
        assert torch.equal(weights[site.vertices], expected)
    for site in anchors:
        assert (weights[site.vertices] == 0).all()
    assert weights.min() >= 0 and weights.max() <= 1
    assert float(weights.sum(1).max()) <= 1 + 1e-6
    assert all(int((weights[:, k] > 0.05).sum()) > 20 for k in range(3))


def test_weights_come_near_their_pins_smoothly() -> None:
    """Without the pins the solve has the same values to what a face's features differ by."""
    mesh = sphere(60)
    surface, table = setting(mesh)
    handles = [vertex_site(surface, table, v) for v in (500, 3000, 6000)]
    weights = cardinal_weights(table, handles, [], Kernel(1.0), unused)
    start = surface.welded[3000]
    around = surface.faces[(surface.faces == start).any(1)].unique()
    assert (weights[around, 1] > 0.9).all() and (weights[around][:, [0, 2]] < 0.05).all()


def test_the_solve_is_the_kernel_interpolant() -> None:
    """At any place: the row k(x) A^-1 written out, where nothing is clamped or pinned."""
    surface, table = setting(blob(3))
    near = (distance(table, table[:, 200]) - 0.5).abs().argmin()
    picks = (surface.first[200], surface.first[near], surface.first[1500])
    sites = [vertex_site(surface, table, int(v)) for v in picks]
    weights = cardinal_weights(table, sites, [], Kernel(1.2), unused)
    z = table.T.double()
    rows = torch.stack([Kernel(1.2)((z - z[s.vertices[0]]).norm(dim=1)) for s in sites], 1)
    pins = torch.cat([site.vertices for site in sites])
    assert 0.1 < rows[pins][0, 1] < 0.5
    expected = rows @ torch.linalg.inv(rows[pins])
    free = ((expected >= 0) & (expected <= 1)).all(1) & (expected.sum(1) < 1)
    free[pins] = False
    assert int(free.sum()) > 100
    torch.testing.assert_close(weights[free].double(), expected[free], atol=1e-4, rtol=0)


def test_permutation_and_rigid_motion_change_nothing() -> None:
    mesh = blob(4)
    features = waves(mesh.vertices)
    order = torch.randperm(len(mesh.vertices), generator=torch.Generator().manual_seed(0))
    place = order.argsort()
    other, _, _ = moved(Mesh(mesh.vertices[order], place[mesh.faces]), 5, 10.0)

    def weights(mesh: Mesh, features: Tensor, picks: list[int]) -> Tensor:
        surface, table = setting(mesh, features)
        sites = [vertex_site(surface, table, v) for v in picks]
        kernel = automatic_kernel(table, surface.areas)
        return cardinal_weights(table, sites[:2], sites[2:], kernel, unused)[surface.welded]

    picks = [150, 1200, 1900]
    one = weights(mesh, features, picks)
    two = weights(other, features[order], [int(place[v]) for v in picks])
    torch.testing.assert_close(two[place], one, atol=1e-4, rtol=0)


def twins(scale: float = 0.0) -> tuple[Surface, Tensor]:
    """A strip whose two ends look the same."""
    mesh = grid(41, 5, (4.0, 0.4))
    x = (mesh.vertices[:, :1] - 2).abs()
    noise = scale * torch.randn(205, 16, generator=torch.Generator().manual_seed(0))
    return setting(mesh, waves(torch.cat([x, mesh.vertices[:, 1:]], 1)) + noise)


def test_features_that_coincide_are_told_apart_by_distance() -> None:
    surface, table = twins()
    left, right = (vertex_site(surface, table, v) for v in (2, 202))
    weights = cardinal_weights(table, [left, right], [], Kernel(1.0), from_surface(surface))
    sides = weights.view(41, 5, 2)
    assert sides[0, 2].tolist() == [1, 0] and sides[40, 2].tolist() == [0, 1]
    near = sides[1:3].flatten(0, 1)
    assert (near[:, 0] > 20 * near[:, 1]).all() and (near[:, 0] > 0.25).all()
    torch.testing.assert_close(sides.flip(0, 2), sides, atol=1e-3, rtol=0)


def test_an_anchor_holds_what_only_looks_like_the_handle() -> None:
    surface, table = twins(0.001)
    left, right = (vertex_site(surface, table, v) for v in (2, 202))
    weights = cardinal_weights(table, [left], [right], Kernel(1.0), from_surface(surface))
    assert weights[2] == 1 and weights[202] == 0
    assert weights[200:205].max() < 0.05 < 0.5 < weights[:5].min()


def test_sites_on_one_vertex_share_it() -> None:
    surface, table = twins()
    site = vertex_site(surface, table, 2)
    weights = cardinal_weights(table, [site, site], [], Kernel(1.0), from_surface(surface))
    assert weights[2].tolist() == [0.5, 0.5]
    torch.testing.assert_close(weights[:, 0], weights[:, 1])
    held = cardinal_weights(table, [site], [site], Kernel(1.0), from_surface(surface))
    assert held[2] == 0


def test_many_handles_shrink_the_radius_rather_than_explode() -> None:
    mesh = blob(5)
    surface, table = setting(mesh, waves(mesh.vertices, channels=3))
    sites = [vertex_site(surface, table, v) for v in range(60, 2000, 35)]
    _, inverse, kernel = _solved(sites, Kernel(2.0))
    assert kernel.radius < 2 and torch.linalg.matrix_norm(inverse, 2) < 1 / 0.019
    weights = cardinal_weights(table, sites, [], Kernel(2.0), from_surface(surface))
    assert weights.isfinite().all() and float(weights.sum(1).max()) <= 1 + 1e-6
    for k, site in enumerate(sites):
        assert weights[site.vertices[0], k] == 1 and weights[site.vertices[0]].sum() == 1


def test_a_region_is_like_each_of_its_parts() -> None:
    surface, table = setting(blob(6))
    region = torch.cat([torch.arange(100, 110), torch.arange(1500, 1510)])
    site = region_site(surface, table, region)
    inside = likeness(table, site)[surface.welded[region]]
    assert inside.max() < 0.02
    assert len(site.features) <= 32


def test_bad_sites_and_radii() -> None:
    surface, table = setting(grid(4, 4))
    site = vertex_site(surface, table, 0)
    for radius in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="radius must be positive"):
            Kernel(radius)
    with pytest.raises(UsageError, match="at least one handle"):
        cardinal_weights(table, [], [site], Kernel(1.0), unused)
    for face in (-1, 18):
        with pytest.raises(InputError, match="not one of the mesh's 18"):
            point_site(surface, table, face, even())
    with pytest.raises(InputError, match="add to 1"):
        point_site(surface, table, 0, torch.tensor([1.0, 1.0, -1.0]))
    with pytest.raises(InputError, match="not all among the mesh's 16"):
        region_site(surface, table, torch.tensor([0, 16]))
    with pytest.raises(InputError, match="at least one vertex"):
        region_site(surface, table, torch.zeros(0).long())
    with pytest.raises(InputError, match="tell nothing apart"):
        automatic_kernel(prepare(torch.ones(16, 4), surface, 0.0), surface.areas)
