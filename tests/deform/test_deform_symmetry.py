"""Mirror planes and axes of shapes made for it, each turned at random."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from geodistill.checks import InputError, ShapeError
from geodistill.deform.features import prepare
from geodistill.deform.surface import surface_of
from geodistill.deform.symmetry import (
    Samples,
    Symmetries,
    SymmetryConfig,
    find_symmetries,
    surface_samples,
)
from geodistill.geometry.mesh import Mesh
from tests.deform.shapes import (
    airplane,
    blob,
    box,
    joined,
    moved,
    revolved,
    sphere,
    star,
    table,
    vase,
    waves,
)

X, Y, Z = torch.eye(3, dtype=torch.float64)
COUNT = 1200


def fan(folds: int) -> list[Tensor]:
    """Normals of the planes of a star, in its own frame."""
    angles = [math.pi * (k / folds + 0.5) for k in range(folds)]
    return [Z, *(torch.tensor([math.cos(a), math.sin(a), 0.0]).double() for a in angles)]


def cube() -> list[Tensor]:
    edges = [one + sign * two for one, two in ((X, Y), (Y, Z), (Z, X)) for sign in (-1, 1)]
    return [X, Y, Z, *(edge / edge.norm() for edge in edges)]


def plain(mesh: Mesh) -> Tensor:
    return torch.ones(len(mesh.vertices), 2)


def folded(points: Tensor, *axes: int) -> Tensor:
    """Features that are the same on both sides of axis planes."""
    points = points.clone()
    for axis in axes:
        points[:, axis] = points[:, axis].abs()
    return waves(points)


def symmetries(
    mesh: Mesh, features: Tensor, seed: int, count: int = COUNT
) -> tuple[Symmetries, Tensor, Tensor]:
    """What is found, with the rotation and the translation that the mesh was given."""
    other, R, t = moved(mesh, seed)
    surface = surface_of(other)
    samples = surface_samples(surface, prepare(features, surface, 0.0), count, seed)
    return find_symmetries(samples), R, t


def assert_planes(found: Symmetries, R: Tensor, t: Tensor, normals: list[Tensor]) -> None:
    """Each plane once, within 1.5 degrees, and through the shape's own center."""
    assert len(found.planes) == len(normals)
    expected = torch.stack(normals) @ R.T
    cosines = torch.stack([plane.normal for plane in found.planes]) @ expected.T
    assert cosines.abs().amax(0).min() > math.cos(math.radians(1.5))
    for plane in found.planes:
        assert float(plane.normal.norm()) == pytest.approx(1)
        assert abs(float(plane.normal @ t) - plane.offset) < 0.03


CASES = {
    "box": (box((2.0, 1.4, 1.0)), [X, Y, Z]),
    "cube": (box((1.0, 1.0, 1.0)), cube()),
    "table": (table(), [X, Y]),
    "airplane": (airplane(), [X]),
    "star of 5": (star(5), fan(5)),
    "star of 6": (star(6), fan(6)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_all_planes_are_found_by_shape(name: str, seed: int) -> None:
    mesh, normals = CASES[name]
    found, R, t = symmetries(mesh, plain(mesh), seed)
    # Offsets are about the mesh's own origin, which every plane here passes through.
    assert_planes(found, R, t, normals)
    assert not found.axes


def test_the_plane_of_a_flat_shape_is_no_mirror() -> None:
    mesh = box((2.0, 1.4, 0.0))
    found, R, _ = symmetries(mesh, plain(mesh), 0)
    normals = torch.stack([plane.normal for plane in found.planes[:2]]) @ R
    assert normals.abs().amax(1).min() > math.cos(math.radians(3))
    assert all(abs(float(plane.normal @ R[:, 2])) < 0.01 for plane in found.planes)


def split(mesh: Mesh, times: int = 3) -> Mesh:
    """Each face in four, so that features at vertices can vary within a face."""
    for _ in range(times):
        a, b, c = mesh.vertices[mesh.faces].unbind(1)
        ring = torch.stack([a, (a + b) / 2, b, (b + c) / 2, c, (c + a) / 2], 1)
        picks = torch.tensor([[0, 1, 5], [1, 2, 3], [5, 3, 4], [1, 3, 5]])
        mesh = Mesh(ring[:, picks].reshape(-1, 3), torch.arange(12 * len(a)).view(-1, 3))
    return mesh


def test_features_decide_which_planes_of_a_shape_count() -> None:
    mesh = split(box((2.0, 1.4, 1.0)))
    for axes, normals in (((0, 2), [X, Z]), ((1,), [Y])):
        found, R, t = symmetries(mesh, folded(mesh.vertices, *axes), 2)
        assert_planes(found, R, t, normals)
    assert not symmetries(mesh, waves(mesh.vertices), 2)[0].planes


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shapes_without_symmetry_have_none(seed: int) -> None:
    mesh = blob(seed)
    found, _, _ = symmetries(mesh, plain(mesh), seed)
    assert found == Symmetries((), ())


def test_one_part_on_one_side_breaks_the_symmetry() -> None:
    mesh = joined(airplane(), box((0.5, 0.3, 0.3), (0.7, 0.4, 0.1)))
    assert not symmetries(mesh, plain(mesh), 0)[0].planes


@pytest.mark.parametrize("seed", [0, 1])
def test_a_vase_has_an_axis(seed: int) -> None:
    mesh = vase()
    found, R, t = symmetries(mesh, plain(mesh), seed)
    assert not found.planes and len(found.axes) == 1
    axis = found.axes[0]
    assert abs(float(axis.direction @ R @ Z)) > math.cos(math.radians(2))
    local = R.T @ (axis.point - t)
    assert local[:2].norm() < 0.05


def test_a_cylinder_has_an_axis_and_a_plane_across_it() -> None:
    radius = torch.tensor([0.0, 0.5, 0.5, 0.0])
    mesh = revolved(radius, torch.tensor([-1.0, -1.0, 1.0, 1.0]))
    found, R, t = symmetries(mesh, plain(mesh), 3)
    assert len(found.axes) == 1
    assert_planes(found, R, t, [Z])


def test_a_sphere_has_three_axes() -> None:
    mesh = sphere()
    found, _, _ = symmetries(mesh, plain(mesh), 0, 800)
    assert not found.planes and len(found.axes) == 3
    directions = torch.stack([axis.direction for axis in found.axes])
    torch.testing.assert_close(directions @ directions.T, torch.eye(3).double())


def test_size_and_place_do_not_matter_and_the_same_seed_gives_the_same() -> None:
    surface = surface_of(box((2.0, 1.4, 1.0)))
    features = prepare(torch.ones(8, 2), surface, 0.0)
    samples = surface_samples(surface, features, 800, 4)
    shift = torch.tensor([1e4, -3e4, 2e4]).double()
    far = replace(samples, positions=1e3 * samples.positions + shift)
    one, again, two = (find_symmetries(s) for s in (samples, samples, far))
    assert len(one.planes) == 3
    for a, b, c in zip(one.planes, again.planes, two.planes, strict=True):
        assert torch.equal(a.normal, b.normal) and a.offset == b.offset
        torch.testing.assert_close(a.normal, c.normal, atol=1e-6, rtol=0)
        assert c.offset == pytest.approx(1e3 * a.offset + float(a.normal @ shift), abs=1e-2)


def test_the_threshold_is_the_config() -> None:
    mesh = box((2.0, 1.4, 1.0))
    surface = surface_of(mesh)
    samples = surface_samples(surface, prepare(plain(mesh), surface, 0.0), 800, 0)
    assert not find_symmetries(samples, SymmetryConfig(tolerance=1e-3, unmatched=0.0)).planes


def test_samples_are_spread_by_area() -> None:
    mesh = joined(box((1, 1, 1)), box((2, 2, 2), (9.0, 0, 0)))
    surface = surface_of(mesh)
    samples = surface_samples(surface, prepare(plain(mesh), surface, 0.0), 1000, 0)
    assert int((samples.positions[:, 0] < 1).sum()) == 200
    assert float(samples.areas.sum()) == pytest.approx(30)


def test_bad_samples() -> None:
    points, areas, features = torch.rand(200, 3).double(), torch.ones(200), torch.ones(200, 2)
    for samples, message in (
        (Samples(points * math.nan, areas, features), "NaN"),
        (Samples(points, 0 * areas, features), "positive sum"),
        (Samples(0 * points, areas, features), "one place"),
        (Samples(points[:9], areas[:9], features[:9]), "at least 100 samples"),
    ):
        with pytest.raises(InputError, match=message):
            find_symmetries(samples)
    with pytest.raises(ShapeError, match="features must have shape"):
        find_symmetries(Samples(points, areas, features[:5]))
