"""Shape descriptors: known spectra, and what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from geodistill.checks import InputError
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.spectrum import (
    Spectrum,
    eigenpairs,
    heat_signature,
    normal_tensors,
    shape_descriptors,
    thickness,
)
from geodistill.geometry.surface_graph import clustered, laplacian, tie_parts
from geodistill.geometry.surface_graph import welded_surface as welded

pytest.importorskip("scipy", reason="shape descriptors need scipy")


def grid_faces(rows: int, columns: int) -> Tensor:
    """Two triangles for each cell of a grid of points."""
    a = (torch.arange(rows - 1)[:, None] * columns + torch.arange(columns - 1)).reshape(-1)
    lower = torch.stack([a, a + 1, a + columns], dim=1)
    upper = torch.stack([a + 1, a + columns + 1, a + columns], dim=1)
    return torch.cat([lower, upper])


def sphere(rows: int = 40, columns: int = 60) -> Mesh:
    """A unit sphere of latitude and longitude: the seam and the poles are points of their own."""
    theta = torch.linspace(0, math.pi, rows, dtype=torch.float64)[:, None]
    # Exactly closed, so that the seam is welded.
    phi = (torch.arange(columns) % (columns - 1)).double() * (2 * math.pi / (columns - 1))
    ring = theta.sin()
    ring[0] = ring[-1] = 0.0
    points = torch.stack([ring * phi.cos(), ring * phi.sin(), theta.cos() + 0 * phi], dim=-1)
    return Mesh(points.reshape(-1, 3), grid_faces(rows, columns))


def bird(rows: int = 25, columns: int = 45) -> Mesh:
    """A closed body with two mirrored wings (x to -x), a tail and no other symmetry."""
    mesh = sphere(rows, columns)
    x, y, z = mesh.vertices.T
    wings = 1.0 + 1.2 * torch.exp(-6.0 * ((x.abs() - 0.9) ** 2 + (y - 0.2) ** 2))
    tail = 1.0 + 0.8 * torch.exp(-8.0 * (y + 1.0) ** 2)
    points = torch.stack([1.1 * x * wings, y * tail, 0.5 * z + 0.15 * (y + 0.3) ** 2], dim=1)
    return Mesh(points.round(decimals=9), mesh.faces)  # so that mirrored points meet exactly


@pytest.fixture(scope="module")
def described() -> tuple[Mesh, Tensor]:
    return bird(), shape_descriptors(bird())


def similarities(features: Tensor) -> Tensor:
    return features @ features[::7].T


def test_the_spectrum_of_a_sphere_is_l_times_l_plus_1() -> None:
    values = eigenpairs(*laplacian(welded(sphere()))).values / (4 * math.pi)
    expected = [level * (level + 1) for level in range(6) for _ in range(2 * level + 1)]
    np.testing.assert_allclose(values[1 : len(expected)], expected[1:], rtol=0.03)
    assert values[0] == pytest.approx(0.0, abs=1e-8)
    assert math.isqrt(len(values)) ** 2 == len(values), "a multiplet was cut in two"


def test_eigenfunctions_are_orthonormal_and_solve_the_equation() -> None:
    operator, areas = laplacian(welded(bird()))
    values, functions, _ = eigenpairs(operator, areas)
    gram = functions.T @ (areas[:, None] * functions)
    np.testing.assert_allclose(gram, np.eye(len(values)), atol=1e-8)
    residual = operator @ functions - areas[:, None] * functions * values
    assert np.abs(residual).max() < 1e-7


def test_dense_and_sparse_solvers_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    from geodistill.geometry import spectrum

    operator, areas = laplacian(welded(bird(17, 31)))
    sparse = heat_signature(eigenpairs(operator, areas))
    monkeypatch.setattr(spectrum, "_DENSE", 10**6)
    np.testing.assert_allclose(heat_signature(eigenpairs(operator, areas)), sparse, atol=1e-6)


def test_the_laplacian_of_a_flat_grid_knows_linear_functions() -> None:
    side = 9
    ticks = torch.arange(side, dtype=torch.float64)
    points = torch.cartesian_prod(ticks, ticks, torch.zeros(1, dtype=torch.float64))
    surface = welded(Mesh(points, grid_faces(side, side)))
    operator, areas = laplacian(surface)
    assert areas.sum() == pytest.approx(1.0)
    inside = (np.abs(surface.points[:, :2]) < 0.49).all(axis=1)
    slope = operator @ surface.points[:, 0]
    np.testing.assert_allclose(slope[inside], 0.0, atol=1e-9)
    assert np.abs(slope[~inside]).max() > 0.01


def test_the_heat_signature_is_the_diagonal_of_the_heat_kernel() -> None:
    operator, areas = laplacian(welded(sphere(8, 12)))
    n = len(areas)
    root = areas**-0.5
    values, vectors = np.linalg.eigh(root[:, None] * operator.toarray() * root)
    spectrum = Spectrum(np.maximum(values, 0.0), root[:, None] * vectors, areas)
    t = 4.0 * math.log(10.0) / values[-1]
    # exp(-t A^-1 L) by squaring many small steps, and its kernel under the area measure.
    step = np.eye(n) - (t / 2**14) * operator.toarray() / areas[:, None]
    kernel = np.linalg.matrix_power(step, 2**14) / areas[None]
    expected = np.diag(kernel) / (areas @ np.diag(kernel))
    np.testing.assert_allclose(np.exp(heat_signature(spectrum)[:, 0]), expected, rtol=1e-3)


def test_thickness_of_a_slab() -> None:
    ticks = torch.linspace(-1, 1, 41, dtype=torch.float64)
    plane = torch.cartesian_prod(ticks, ticks, torch.zeros(1, dtype=torch.float64))
    apart = torch.tensor([0.0, 0.0, 0.1])
    faces = grid_faces(41, 41)
    mesh = Mesh(torch.cat([plane, plane + apart]), torch.cat([faces, faces + len(plane)]))
    surface = welded(mesh)
    scale = math.sqrt(8.0)  # the two squares have an area of 8
    radii = np.exp(thickness(surface, normal_tensors(surface))) - 1e-2
    np.testing.assert_allclose(radii[:, 0], 0.05 / scale, rtol=1e-3)
    np.testing.assert_allclose(radii[:, 1], 1.0)


def test_rigid_motions_and_scale_change_nothing(described: tuple[Mesh, Tensor]) -> None:
    mesh, features = described
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))
    moved = mesh.vertices @ rotation.double().T * 250.0 + torch.tensor([1e3, -2e3, 5.0])
    again = shape_descriptors(Mesh(moved, mesh.faces))
    torch.testing.assert_close(similarities(again), similarities(features), rtol=0, atol=2e-3)


def test_the_order_of_vertices_and_faces_changes_nothing(described: tuple[Mesh, Tensor]) -> None:
    mesh, features = described
    draw = torch.Generator().manual_seed(2)
    order = torch.randperm(len(mesh.vertices), generator=draw)
    faces = torch.argsort(order)[mesh.faces][torch.randperm(len(mesh.faces), generator=draw)]
    again = shape_descriptors(Mesh(mesh.vertices[order], faces.roll(1, dims=1)))
    back = again[torch.argsort(order)]
    torch.testing.assert_close(similarities(back), similarities(features), rtol=0, atol=2e-3)


def likeness_to_mirror_image(mesh: Mesh, features: Tensor) -> Tensor:
    mirrored = mesh.vertices * torch.tensor([-1.0, 1.0, 1.0])
    distance, twin = torch.cdist(mirrored, mesh.vertices).min(dim=1)  # exact to a few 1e-6
    assert distance.max() < 1e-4, "the body itself is not symmetric"
    return (features * features[twin]).sum(dim=1)


def test_mirrored_points_are_equal_where_faces_are_mirrored_too() -> None:
    mesh = bird()
    other = torch.tensor([-1.0, 1.0, 1.0]) * mesh.vertices
    both = Mesh(torch.cat([mesh.vertices, other]), torch.cat([mesh.faces, mesh.faces + len(other)]))
    assert likeness_to_mirror_image(both, shape_descriptors(both)).min() > 0.999


def test_mirrored_points_are_alike_whatever_the_faces(described: tuple[Mesh, Tensor]) -> None:
    alike = likeness_to_mirror_image(*described)
    assert alike.median() > 0.99 and alike.quantile(0.05) > 0.9 and alike.min() > 0.7
    features = described[1]
    assert (features @ features.T).median() < 0.5


def test_wing_tips_find_each_other_and_not_the_tail(described: tuple[Mesh, Tensor]) -> None:
    mesh, features = described
    left, right = mesh.vertices[:, 0].argmin(), mesh.vertices[:, 0].argmax()
    tail = mesh.vertices[:, 1].argmin()
    assert features[left] @ features[right] > 0.99
    assert features[left] @ features[tail] < 0.95


def test_it_is_deterministic_and_unit(described: tuple[Mesh, Tensor]) -> None:
    mesh, features = described
    assert torch.equal(shape_descriptors(mesh), features)
    assert features.dtype == torch.float32 and features.shape[1] <= 64
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))
    assert shape_descriptors(mesh, channels=8).shape == (len(features), 8)


def test_a_large_mesh_goes_through_a_proxy(
    described: tuple[Mesh, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodistill.geometry import spectrum

    mesh, exact = described
    monkeypatch.setattr(spectrum, "PROXY_POINTS", 500)
    surface = welded(mesh)
    proxy, back = clustered(surface, 500)
    assert 400 < len(proxy.points) <= 500
    np.testing.assert_allclose(np.asarray(back.sum(axis=1)), 1.0)
    assert np.abs(back @ proxy.points - surface.points).max() < 0.1
    mirrored = torch.from_numpy(proxy.points) * torch.tensor([-1.0, 1.0, 1.0])
    apart = torch.cdist(mirrored, torch.from_numpy(proxy.points)).amin(dim=1)
    assert apart.max() < 1e-2, "mirrored halves are clustered differently"
    coarse = shape_descriptors(mesh)
    a, b = similarities(coarse).reshape(-1), similarities(exact).reshape(-1)
    assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.9
    assert likeness_to_mirror_image(mesh, coarse).median() > 0.98


# Meshes as they come


def test_seams_and_unused_vertices() -> None:
    mesh = bird()
    corners = torch.arange(mesh.faces.numel()).view(-1, 3)
    soup = Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), corners)
    welded_features = shape_descriptors(mesh)[mesh.faces.reshape(-1)]
    torch.testing.assert_close(
        similarities(shape_descriptors(soup)), similarities(welded_features), rtol=0, atol=2e-3
    )
    stray = Mesh(torch.cat([mesh.vertices, mesh.vertices[5:6] + 1e-3]), mesh.faces)
    features = shape_descriptors(stray)
    assert features[-1] @ features[5] > 0.999


def test_parts_that_do_not_touch() -> None:
    mesh = sphere(16, 24)
    n = len(mesh.vertices)
    apart = torch.tensor([0.0, 0.0, 5.0])
    both = Mesh(
        torch.cat([mesh.vertices, mesh.vertices * 0.5 + apart, mesh.vertices - apart]),
        torch.cat([mesh.faces, mesh.faces + n, mesh.faces + 2 * n]),
    )
    surface = welded(both)
    values = eigenpairs(*laplacian(surface)).values
    assert values[1] > 1e-3, "the parts are not tied"
    features = shape_descriptors(both)
    assert features.isfinite().all()


def test_loose_triangles() -> None:
    draw = torch.Generator().manual_seed(0)
    centers = torch.randn(300, 1, 3, generator=draw, dtype=torch.float64)
    corners = centers + 0.1 * torch.randn(300, 3, 3, generator=draw, dtype=torch.float64)
    features = shape_descriptors(Mesh(corners.reshape(-1, 3), torch.arange(900).view(-1, 3)))
    assert features.isfinite().all()
    assert torch.equal(
        features, shape_descriptors(Mesh(corners.reshape(-1, 3), torch.arange(900).view(-1, 3)))
    )


@pytest.mark.parametrize("count", [1, 2])
def test_a_handful_of_triangles(count: int) -> None:
    points = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1.5, 0.5]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])[:count]
    assert shape_descriptors(Mesh(points, faces)).isfinite().all()


def test_slivers_and_collapsed_faces() -> None:
    mesh = bird()
    a, b = mesh.vertices[mesh.faces[100, 0]], mesh.vertices[mesh.faces[100, 1]]
    sliver = torch.stack([a, b, 0.5 * (a + b)])
    n = len(mesh.vertices)
    faces = torch.cat([mesh.faces, torch.tensor([[n, n + 1, n + 2], [3, 3, 9], [n, n, n]])])
    features = shape_descriptors(Mesh(torch.cat([mesh.vertices, sliver]), faces))
    assert features.isfinite().all()
    a, b = similarities(features[:n]).reshape(-1), similarities(shape_descriptors(mesh)).reshape(-1)
    assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.98


def test_ties_are_shortest_and_all_of_equal_length() -> None:
    from scipy import sparse

    # Two squares of points face each other one apart; a third is farther off.
    square = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    points = np.concatenate(
        [square, square + np.array([0, 0, 0.7]), square + np.array([5.0, 0, 0])]
    )
    inside = sparse.block_diag([np.ones((4, 4))] * 3, format="csr")
    ties = {tuple(sorted(pair)) for pair in tie_parts(points, inside).tolist()}
    near = {(i, i + 4) for i in range(4)}
    far = {(1, 8), (3, 10)}
    assert ties == near | far


def test_what_is_no_surface_is_refused() -> None:
    with pytest.raises(InputError, match="has no surface"):
        shape_descriptors(Mesh(torch.zeros(3, 3).double(), torch.tensor([[0, 1, 2]])))


def test_huge_coordinates() -> None:
    mesh = bird()
    again = shape_descriptors(Mesh(mesh.vertices * 1e200, mesh.faces))
    torch.testing.assert_close(
        similarities(again), similarities(shape_descriptors(mesh)), rtol=0, atol=2e-3
    )
