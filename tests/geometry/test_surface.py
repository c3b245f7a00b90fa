"""Points on surfaces, against brute force and known solids."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.geometry import surface
from geodistill.geometry.mesh import Mesh, diagonal, triangle_areas
from geodistill.geometry.surface import (
    closest_surface_points,
    decimated,
    sample_surface,
    surface_points,
)
from tests.geometry.solids import box, everything, mesh, sphere, tube


def cloud(n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator, dtype=torch.float64) * 2


def test_samples_lie_on_the_surface_in_proportion_to_area() -> None:
    solid = box(1, 2, 3)
    face, weights = sample_surface(solid, 22_000, seed=1)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(22_000, dtype=torch.float64))
    shares = torch.bincount(face, minlength=12) / 1000
    torch.testing.assert_close(shares.double(), triangle_areas(solid), atol=0.12, rtol=0)
    points = surface_points(solid, face, weights)
    low, high = points.abs(), (points - torch.tensor([1.0, 2, 3])).abs()
    assert float(torch.minimum(low, high).amin(1).max()) < 1e-12
    # Moments of the uniform distribution on a triangle: E[wi wj] = (1 + [i = j]) / 12.
    moments = (1 + torch.eye(3, dtype=torch.float64)) / 12
    torch.testing.assert_close(weights.T @ weights / 22_000, moments, atol=5e-3, rtol=0)
    again, other = sample_surface(solid, 22_000, seed=1), sample_surface(solid, 22_000, seed=2)
    assert torch.equal(again[0], face) and torch.equal(again[1], weights)
    assert not torch.equal(other[0], face)


def test_faces_without_area_get_no_samples() -> None:
    solid = everything()
    face, _ = sample_surface(solid, 5000)
    assert (face != len(solid.faces) - 1).all()
    with pytest.raises(InputError, match="no face of the mesh has an area"):
        sample_surface(mesh([(0, 0, 0), (1, 1, 1)], [(0, 1, 1)]), 3)


def test_closest_points_of_a_sphere_and_a_box() -> None:
    points = cloud(200)
    points = points / points.norm(dim=1, keepdim=True) * torch.linspace(0.2, 5, 200)[:, None]
    _, _, distance = closest_surface_points(sphere(5), points)
    torch.testing.assert_close(distance, (points.norm(dim=1) - 1).abs(), atol=2e-3, rtol=0)
    points = cloud(500)
    sides = torch.tensor([1.0, 2, 3])
    outside = torch.maximum(-points, points - sides)
    expected = torch.where(
        (outside <= 0).all(1), -outside.amax(1), outside.clamp_min(0).norm(dim=1)
    )
    face, weights, distance = closest_surface_points(box(1, 2, 3), points)
    torch.testing.assert_close(distance, expected)
    found = surface_points(box(1, 2, 3), face, weights)
    torch.testing.assert_close((found - points).norm(dim=1), expected)
    assert (weights >= 0).all()


def dense_distance(solid: Mesh, point: torch.Tensor) -> float:
    """Distance to a fine net of points on every triangle."""
    steps = torch.linspace(0, 1, 40, dtype=torch.float64)
    s, t = torch.meshgrid(steps, steps, indexing="ij")
    net = torch.stack([1 - s, s * (1 - t), s * t], -1).reshape(-1, 3)
    places = torch.einsum("nk,fkd->fnd", net, solid.vertices[solid.faces])
    return float((places - point).norm(dim=-1).min())


def test_closest_points_of_a_soup_agree_with_a_dense_net() -> None:
    generator = torch.Generator().manual_seed(2)
    vertices = torch.randn(90, 3, generator=generator, dtype=torch.float64)
    faces = torch.randint(0, 90, (60, 3), generator=generator)  # some of them without area
    soup = Mesh(vertices, faces)
    points = cloud(40, seed=3)
    _, _, distance = closest_surface_points(soup, points)
    for point, found in zip(points, distance.tolist(), strict=True):
        dense = dense_distance(soup, point)
        assert found <= dense + 1e-12 and dense - found < 0.06


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_points_on_the_surface_come_back(offset: float) -> None:
    ball = sphere(4)
    ball = replace(ball, vertices=ball.vertices + offset)
    face, weights = sample_surface(ball, 3000, seed=4)
    points = surface_points(ball, face, weights)
    found, back, distance = closest_surface_points(ball, points)
    assert float(distance.max()) < 1e-15 * max(offset, 1) * 4
    inside = weights.amin(1) > 1e-6
    assert torch.equal(found[inside], face[inside])
    torch.testing.assert_close(back[inside], weights[inside], atol=1e-6, rtol=0)


def test_among_equals_the_lower_face_is_taken_however_points_are_grouped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ball = sphere(3)
    twice = Mesh(ball.vertices, torch.cat([ball.faces, ball.faces]))
    points = torch.cat([cloud(50), torch.zeros(1, 3, dtype=torch.float64)])
    face, _, distance = closest_surface_points(twice, points)
    assert (face < len(ball.faces)).all()
    monkeypatch.setattr(surface, "_PAIRS_AT_ONCE", 64)
    monkeypatch.setattr(surface, "_POINTS_AT_ONCE", 16)
    again, _, same = closest_surface_points(twice, points)
    assert torch.equal(face, again) and torch.equal(distance, same)


def test_closest_points_refuse_what_is_no_point() -> None:
    with pytest.raises(ShapeError, match="points must have shape"):
        closest_surface_points(box(), torch.zeros(3))
    with pytest.raises(InputError, match="points holds 3 NaN"):
        closest_surface_points(box(), torch.full((1, 3), torch.nan))


def test_decimation_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "fast_simplification", None)
    with pytest.raises(InputError, match="needs the package fast_simplification: pip install"):
        decimated(sphere(3), 50)
    with pytest.raises(UsageError, match="at least 4 faces, got 2"):
        decimated(sphere(3), 2)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_decimation_keeps_the_shape_and_closes_seams(offset: float) -> None:
    pytest.importorskip("fast_simplification")
    ball = sphere(5)
    ball = replace(ball, vertices=ball.vertices + offset)
    coarse = decimated(ball, 800)
    assert 600 <= len(coarse.faces) <= 800
    _, _, distance = closest_surface_points(ball, coarse.vertices)
    assert float(distance.max()) < 0.01 * diagonal(ball)
    again = decimated(ball, 800)
    assert torch.equal(coarse.vertices, again.vertices) and torch.equal(coarse.faces, again.faces)
    cylinder = tube(64, 20)
    assert decimated(cylinder, 500).uv is None
    assert len(decimated(cylinder, 10**6).vertices) == 64 * 20
