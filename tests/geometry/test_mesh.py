"""Meshes as geometry: what is known of solids must come out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from geodistill.checks import GeodistillError, InputError, ShapeError
from geodistill.geometry.mesh import (
    Material,
    Mesh,
    bounds,
    center,
    components,
    diagonal,
    edges,
    face_normals,
    mesh_digest,
    transformed,
    triangle_areas,
    vertex_normals,
    welded,
)
from tests.geometry.solids import box, everything, mesh, picture, sphere, tube

FAR = 1e6


def turned() -> torch.Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5)).double())
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = q * torch.linalg.det(q), torch.tensor([1.0, -2.0, 3.0])
    return matrix


@pytest.mark.parametrize("offset", [0.0, FAR])
def test_areas_and_bounds_of_a_box(offset: float) -> None:
    solid = box(1, 2, 3)
    solid = replace(solid, vertices=solid.vertices + offset)
    assert float(triangle_areas(solid).sum()) == pytest.approx(22)
    assert [corner.tolist() for corner in bounds(solid)] == [
        [offset] * 3,
        [offset + 1, offset + 2, offset + 3],
    ]
    assert center(solid).tolist() == [offset + 0.5, offset + 1, offset + 1.5]
    assert diagonal(solid) == pytest.approx(14**0.5)


def test_the_volume_of_a_box_says_that_faces_look_outwards() -> None:
    solid = box(1, 2, 3)
    first = solid.vertices[solid.faces[:, 0]] - 0.5
    volume = (first * face_normals(solid)).sum(1) * triangle_areas(solid) / 3
    assert float(volume.sum()) == pytest.approx(6)


def test_a_sphere_has_the_area_and_normals_of_one() -> None:
    ball = sphere(5)
    assert float(triangle_areas(ball).sum()) == pytest.approx(4 * torch.pi, rel=2e-3)
    torch.testing.assert_close(vertex_normals(ball), ball.vertices, atol=2e-2, rtol=0)
    one = torch.ones(len(ball.faces), dtype=torch.float64)
    torch.testing.assert_close(face_normals(ball).norm(dim=1), one)


def test_vertex_normals_are_weighted_by_area() -> None:
    """A ridge whose one side is twice as large."""
    ridge = mesh([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 2)], [(0, 1, 2), (0, 3, 1)])
    wanted = torch.tensor([0, 2, 1], dtype=torch.float64) / 5**0.5
    torch.testing.assert_close(vertex_normals(ridge)[0], wanted)


def test_a_seam_is_welded_and_shows_no_crease() -> None:
    around, high = 24, 5
    cylinder = tube(around, high)
    weld = welded(cylinder)
    assert int(weld.max()) + 1 == around * high
    assert torch.equal(weld[:high], weld[-high:])
    assert torch.equal(weld[: around * high], torch.arange(around * high))
    normals = vertex_normals(cylinder)
    assert torch.equal(normals[:high], normals[-high:])
    outward = cylinder.vertices * torch.tensor([1.0, 1, 0])
    torch.testing.assert_close(normals[1::high], outward[1::high], atol=1e-2, rtol=0)
    assert int(components(cylinder).max()) == 0


def test_welding_is_exact_and_knows_that_minus_zero_is_zero() -> None:
    places = [(0.0, 1, 2), (-0.0, 1, 2), (1e-300, 1, 2), (0, 1, 2 + 1e-15), (0.0, 1, 2)]
    assert welded(mesh(places, [(0, 1, 2)])).tolist() == [0, 0, 1, 2, 0]


def test_edges_of_a_box() -> None:
    pairs, lengths = edges(box(1, 2, 3))
    assert len(pairs) == 18  # 12 sides and 6 diagonals: Euler's 8 - 18 + 12 = 2
    assert (pairs[:, 0] < pairs[:, 1]).all()
    expected = sorted([1.0, 2.0, 3.0] * 4 + [5**0.5, 10**0.5, 13**0.5] * 2)
    assert sorted(lengths.tolist()) == pytest.approx(expected)


def test_edges_and_lengths_over_a_seam() -> None:
    around, high = 12, 3
    pairs, lengths = edges(tube(around, high))
    assert len(pairs) == around * high + around * (high - 1) * 2
    chord = float(2 * torch.sin(torch.tensor(torch.pi / around)))
    assert float(lengths.min()) == pytest.approx(min(chord, 0.5))


def test_components_are_numbered_by_their_first_vertex() -> None:
    solid = everything()
    label = components(solid)
    assert label[0] == 0 and label.max() == 2
    ball = len(sphere(1).vertices)
    assert (label[:ball] == 0).all() and (label[ball:-1] == 1).all() and label[-1] == 2


def test_faces_without_area_and_non_manifold_soups_are_welcome() -> None:
    fan = mesh(
        [(0, 0, 0), (0, 0, 1), (1, 0, 0), (0, 1, 0), (-1, 0, 0), (7, 7, 7)],
        [(0, 1, 2), (0, 1, 3), (0, 1, 4), (0, 0, 1), (0, 1, 1), (5, 5, 5)],
    )
    assert triangle_areas(fan).tolist() == [0.5, 0.5, 0.5, 0, 0, 0]
    assert face_normals(fan)[3:].abs().sum() == 0
    normals = vertex_normals(fan)
    assert normals.isfinite().all() and normals[5].tolist() == [0, 0, 0]
    assert components(fan).tolist() == [0, 0, 0, 0, 0, 1]
    assert len(edges(fan)[0]) == 7


def test_tiny_and_huge_meshes_have_normals() -> None:
    for scale in (1e-60, 1e60):
        small = replace(box(), vertices=box().vertices * scale)
        torch.testing.assert_close(face_normals(small), face_normals(box()))


def test_a_rigid_motion_moves_normals_and_keeps_the_rest() -> None:
    before, matrix = everything(), turned()
    after = transformed(before, matrix)
    torch.testing.assert_close(triangle_areas(after), triangle_areas(before))
    torch.testing.assert_close(vertex_normals(after), vertex_normals(before) @ matrix[:3, :3].T)
    torch.testing.assert_close(edges(after)[1], edges(before)[1])
    assert torch.equal(components(after), components(before))
    assert after.uv is before.uv and after.materials is before.materials


def test_a_mirror_keeps_faces_outwards() -> None:
    mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1]))
    ball = transformed(sphere(3), mirror)
    assert ((vertex_normals(ball) * ball.vertices).sum(1) > 0.9).all()
    with pytest.raises(InputError, match="last row of an affine matrix"):
        transformed(ball, torch.ones(4, 4))


def test_digest_tells_meshes_apart_by_geometry_alone() -> None:
    solid = everything()
    digest = mesh_digest(solid)
    assert len(digest) == 16 and int(digest, 16) >= 0
    assert digest == mesh_digest(Mesh(solid.vertices.clone(), solid.faces.clone()))
    assert digest == mesh_digest(replace(solid, vertices=solid.vertices.float().double()))
    moved = solid.vertices.clone()
    moved[3, 1] += 1e-5
    others = [
        replace(solid, vertices=moved),
        replace(solid, faces=solid.faces[:, [1, 2, 0]]),
        replace(solid, vertices=solid.vertices.flip(0)),
    ]
    assert len({digest, *map(mesh_digest, others)}) == 4


BAD: list[tuple[dict[str, Any], type[GeodistillError], str]] = [
    ({"vertices": torch.zeros(4, 2).double()}, ShapeError, "vertices must have shape"),
    ({"vertices": torch.zeros(4, 3)}, InputError, "vertices must be torch.float64, got"),
    ({"vertices": torch.full((4, 3), torch.nan).double()}, InputError, "12 NaN"),
    ({"faces": torch.zeros(0, 3).long()}, InputError, "at least one face"),
    ({"faces": torch.zeros(1, 4).long()}, ShapeError, "faces must have shape"),
    ({"faces": torch.zeros(1, 3).int()}, InputError, "faces must be torch.int64"),
    ({"faces": torch.tensor([[0, 1, 4]])}, InputError, "number 4, but there are 4 vertices"),
    ({"faces": torch.tensor([[0, 1, -1]])}, InputError, "number -1, but there are 4 vertices"),
    ({"uv": torch.zeros(3, 2)}, ShapeError, r"uv must have shape \[V, 2\], got .*4 from vertices"),
    ({"uv": torch.full((4, 2), torch.inf)}, InputError, "uv holds 8 NaN or infinite"),
    ({"colors": torch.zeros(4, 3).byte()}, ShapeError, "colors must have shape"),
    ({"colors": torch.zeros(4, 4)}, InputError, "colors must be torch.uint8"),
    ({"face_material": torch.tensor([0])}, InputError, "number 0, but there are 0 materials"),
    ({"face_material": torch.tensor([0, 0])}, ShapeError, "face_material must have shape"),
]


@pytest.mark.parametrize(("change", "error", "pattern"), BAD)
def test_what_is_no_mesh_is_refused(
    change: dict[str, Any], error: type[GeodistillError], pattern: str
) -> None:
    good = {"vertices": torch.rand(4, 3).double(), "faces": torch.tensor([[0, 1, 2]])}
    Mesh(**good)
    with pytest.raises(error, match=pattern):
        Mesh(**{**good, **change})


def test_what_is_no_material_is_refused() -> None:
    with pytest.raises(InputError, match=r"material 'm' must be four values in \[0, 1\]"):
        Material("m", (1.0, 2.0, 0.0, 1.0))
    with pytest.raises(ShapeError, match="texture of material 'm' must have shape"):
        Material("m", (1.0, 1.0, 0.0, 1.0), picture(0)[..., :3])
    with pytest.raises(InputError, match=r"texture of material 'm' must be torch\.uint8"):
        Material("m", (1.0, 1.0, 0.0, 1.0), picture(0).float())
