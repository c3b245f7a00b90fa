"""Transforms, poses and mirrored edits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geodistill.cameras import rotations
from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.deform.blend import (
    linear_pose,
    pose,
    pose_normals,
    published_pose,
)
from geodistill.deform.mirror import (
    gate,
    mirrored,
    reflect,
    symmetric_edit,
    symmetrised,
)
from geodistill.deform.symmetry import Plane
from geodistill.deform.transforms import (
    Transforms,
    axis_angle,
    joined,
    matrices,
    quaternion_rotation,
    transform,
)
from geodistill.geometry.mesh import area_weighted_normals
from tests.deform.shapes import grid, sphere

POSES = [pose, linear_pose, published_pose]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shares(count: int, handles: int, seed: int = 0, total: float = 1.0) -> Tensor:
    """Weights [V, K] with sums of `total`."""
    w = torch.rand(count, handles, generator=torch.Generator().manual_seed(seed))
    return total * w / w.sum(1, keepdim=True)


def some_maps(count: int, seed: int = 0) -> Transforms:
    stretch = draw(count, 3, 3, seed=seed)
    stretch = torch.eye(3).double() + 0.05 * (stretch + stretch.mT)
    pivot, rotation, move = (draw(count, 3, seed=seed + i) for i in (1, 2, 3))
    return Transforms(pivot, rotation, stretch, move)


def apply(maps: Transforms, k: int, points: Tensor) -> Tensor:
    return points @ matrices(maps)[k, :, :3].T + matrices(maps)[k, :, 3]


# Transforms


def test_a_map_scales_then_turns_then_moves_about_its_pivot() -> None:
    maps = transform((1, 0, 0), (0, 0, 5), (0, 0, math.pi / 2), (2, 1, 1))
    moved = apply(maps, 0, torch.tensor([[1.0, 0, 0], [2, 0, 0]]).double())
    expected = torch.tensor([[1.0, 0, 5], [1, 2, 5]]).double()
    torch.testing.assert_close(moved, expected)


def test_quaternions_and_axes() -> None:
    half = math.pi / 6
    expected = axis_angle((1, 2, 2), 2 * half)
    assert expected == pytest.approx([math.pi / 9, 2 * math.pi / 9, 2 * math.pi / 9])
    q = (math.cos(half), *(v / 3 * math.sin(half) for v in (1, 2, 2)))
    assert quaternion_rotation(q) == pytest.approx(expected)
    assert quaternion_rotation([-2 * v for v in q]) == pytest.approx(expected)
    assert quaternion_rotation((1, 0, 0, 0)) == (0, 0, 0)
    for call in (lambda: axis_angle((0, 0, 0), 1), lambda: quaternion_rotation((0, 0, 0, 0))):
        with pytest.raises(UsageError, match="must not be zero"):
            call()


# Identities


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identity_is_exact(dtype: torch.dtype) -> None:
    x = (1e3 + draw(500, 3)).to(dtype)
    maps = joined([transform((1, 2, 3)), transform((-4, 0.1, 7))])
    assert torch.equal(pose(x, shares(500, 2), maps), x)
    assert torch.equal(linear_pose(x, shares(500, 2), maps), x)


def test_rows_without_weight_stay_bit_by_bit() -> None:
    x, w = draw(500, 3), shares(500, 2)
    w[::3] = 0
    moved = pose(x, w, some_maps(2))
    assert torch.equal(moved[::3], x[::3]) and (moved[1::3] != x[1::3]).any(1).all()
    assert torch.equal(pose(x, 0 * w, some_maps(2)), x)


@pytest.mark.parametrize("posing", POSES)
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_one_motion_of_all_handles_moves_all(posing, offset: float) -> None:
    """Whatever the pivots: weights add to 1. Errors are relative to the diagonal."""
    x = offset + draw(800, 3)
    turn, move = draw(3, seed=4), draw(3, seed=5)
    pivots = offset + draw(4, 3, seed=6)
    moved = pivots @ rotations(turn).T + move - offset * rotations(turn).sum(1) + offset
    maps = Transforms(
        pivots, turn.expand(4, 3), torch.eye(3).double().expand(4, 3, 3), moved - pivots
    )
    expected = (x - offset) @ rotations(turn).T + move + offset
    diagonal = float((x.amax(0) - x.amin(0)).norm())
    error = (posing(x, shares(800, 4), maps) - expected).norm(dim=1).max() / diagonal
    assert error < (1e-6 if posing is pose or not offset else 1e-2)


@pytest.mark.parametrize("posing", POSES)
def test_one_affine_map_is_reproduced(posing) -> None:
    x, one = draw(300, 3), some_maps(1)
    pivots = draw(3, 3, seed=8)
    maps = Transforms(
        pivots,
        one.rotation.expand(3, 3),
        one.stretch.expand(3, 3, 3),
        apply(one, 0, pivots) - pivots,
    )
    torch.testing.assert_close(posing(x, shares(300, 3), maps), apply(one, 0, x), atol=5e-6, rtol=0)


@pytest.mark.parametrize("posing", POSES)
def test_a_vertex_of_weight_one_follows_its_handle(posing) -> None:
    x, maps = draw(4, 3), some_maps(4)
    moved = posing(x, torch.eye(4), maps)
    for k in range(4):
        torch.testing.assert_close(moved[k], apply(maps, k, x[k]), atol=2e-6, rtol=0)


def test_without_rotation_it_is_the_linear_blend() -> None:
    x, w, maps = draw(400, 3), shares(400, 3, total=0.8), some_maps(3)
    still = Transforms(maps.pivot, 0 * maps.rotation, maps.stretch, maps.translation)
    torch.testing.assert_close(pose(x, w, still), linear_pose(x, w, still), atol=3e-6, rtol=0)
    assert not torch.allclose(pose(x, w, maps), linear_pose(x, w, maps), atol=0.05)


def test_the_formula_vertex_by_vertex() -> None:
    x, w, maps = draw(60, 3), shares(60, 3, total=0.9), some_maps(3)
    moved = pose(x, w, maps)
    one = torch.eye(3).double()
    for i in range(60):
        ws = w[i].double()
        pull = [float(ws[k] * maps.rotation[k].norm()) for k in range(3)]
        c = sum(pull[k] * maps.pivot[k] for k in range(3)) / sum(pull)
        r = sum(ws[k] * maps.rotation[k] for k in range(3))
        y = x[i] + sum(ws[k] * (maps.stretch[k] - one) @ (x[i] - maps.pivot[k]) for k in range(3))
        t = sum(ws[k] * maps.translation[k] for k in range(3))
        expected = c + rotations(r) @ (y - c) + t
        torch.testing.assert_close(moved[i], expected, atol=5e-6, rtol=0)


def test_one_handle_turns_by_its_weight_and_nothing_collapses() -> None:
    """A half turn: at weight 1/2 the linear blend is at the axis, this one a quarter turn on."""
    x = torch.tensor([[1.0, 0, 0], [0, 2, 1]]).double()
    maps, half = transform((0, 0, 0), rotate=(0, 0, math.pi)), torch.full((2, 1), 0.5)
    expected = torch.tensor([[0.0, 1, 0], [-2, 0, 1]]).double()
    torch.testing.assert_close(pose(x, half, maps), expected, atol=1e-6, rtol=0)
    assert linear_pose(x, half, maps)[0].norm() < 1e-12
    twice = transform((0, 0, 0), rotate=(0, 0, 4 * math.pi))
    opposite = x * x.new_tensor([-1, -1, 1])
    torch.testing.assert_close(pose(x, half / 2, twice), opposite, atol=2e-6, rtol=0)


def test_published_form_depends_on_the_origin_where_weights_exceed_one() -> None:
    x, w = draw(50, 3), shares(50, 2, total=1.5)
    identity = joined([transform((0, 0, 0))] * 2)
    torch.testing.assert_close(published_pose(x, w, identity), 1.5 * x, atol=1e-5, rtol=0)
    torch.testing.assert_close(published_pose(x, w / 2, identity), x, atol=1e-6, rtol=0)


def test_normals_turn_with_the_surface() -> None:
    mesh = sphere(30)
    normals = area_weighted_normals(mesh.vertices, mesh.faces)
    w = torch.ones(len(normals), 1)
    maps = transform((0.2, 0, 0), (1, 2, 3), (0.3, -0.7, 0.4), (1.5, 0.6, 1))
    exact = area_weighted_normals(pose(mesh.vertices, w, maps), mesh.faces)
    seen = exact.norm(dim=1) > 0
    torch.testing.assert_close(pose_normals(normals, w, maps)[seen], exact[seen], atol=0.02, rtol=0)
    assert torch.equal(
        pose_normals(normals, 0 * w, maps)[seen].norm(dim=1).round(), w[seen, 0].double()
    )


def test_shapes_are_checked() -> None:
    x, maps = draw(5, 3), some_maps(2)
    for weights in (torch.ones(4, 2), torch.ones(5, 3)):
        with pytest.raises(ShapeError, match="must have shape"):
            pose(x, weights, maps)


# Mirrored edits

PLANE = Plane(torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64), 0.3)


def test_a_mirrored_map_is_the_conjugate() -> None:
    maps, x = some_maps(3), draw(20, 3)
    for k in range(3):
        conjugate = reflect(PLANE, apply(maps, k, reflect(PLANE, x)))
        torch.testing.assert_close(apply(mirrored(maps, PLANE), k, x), conjugate)
        twice = mirrored(mirrored(maps, PLANE), PLANE)
        torch.testing.assert_close(apply(twice, k, x), apply(maps, k, x))
    own = symmetrised(maps, PLANE)
    torch.testing.assert_close(matrices(own), matrices(mirrored(own, PLANE)))


def test_the_gate_is_smooth_and_halves_at_the_plane() -> None:
    normal = PLANE.normal
    s = torch.linspace(-0.4, 0.4, 401).double()
    g = gate(PLANE, (0.3 + s)[:, None] * normal, 2 * normal, 0.2)
    assert g[200] == pytest.approx(0.5) and (g[s < -0.201] == 0).all()
    assert (g[s > 0.201] == 1).all()
    assert g.diff().max() < 1.6 * 0.002 / 0.4 and (g.diff() >= 0).all()
    other = gate(PLANE, (0.3 + s)[:, None] * normal, -2 * normal, 0.2)
    torch.testing.assert_close(other, 1 - g)


@pytest.mark.parametrize("planes", [1, 2])
def test_a_mirrored_edit_of_a_symmetric_shape_is_symmetric(planes: int) -> None:
    mesh = grid(31, 31, (2.0, 2.0))
    x = mesh.vertices - 1
    mirrors = [
        Plane(torch.tensor([1.0, 0, 0]).double(), 0.0),
        Plane(torch.tensor([0, 1.0, 0]).double(), 0.0),
    ][:planes]
    w = torch.stack([torch.exp(-(x**2).sum(1)), (x[:, 0] ** 2) / 9], 1).float()
    maps, places = some_maps(2), [torch.tensor([[0.8, 0.5, 0]]), torch.tensor([[0.5, -0.6, 0]])]
    columns, all_maps = symmetric_edit(x, w, maps, [p.double() for p in places], mirrors, 0.2)
    assert columns.shape == (961, 2 * 2**planes)
    torch.testing.assert_close(columns.sum(1), w.sum(1))
    moved = pose(x, columns, all_maps).view(31, 31, 3)
    assert (moved.view(-1, 3) - x).norm(dim=1).max() > 0.3
    for axis, mirror in enumerate(mirrors):
        torch.testing.assert_close(reflect(mirror, moved).flip(axis), moved, atol=3e-6, rtol=0)
    for k, place in enumerate(places):
        own = (x - place).norm(dim=1).argmin()
        assert columns[own, k * 2**planes] == w[own, k]


def test_a_handle_near_the_plane_keeps_its_whole_weight() -> None:
    x = draw(50, 3)
    plane = Plane(torch.tensor([1.0, 0, 0]).double(), 0.0)
    x[0] = torch.tensor([0.05, 0, 0])
    columns, _ = symmetric_edit(x, torch.ones(50, 1), some_maps(1), [x[:1]], [plane], 0.5)
    assert columns[0].tolist() == [1, 0]


def test_a_handle_on_the_plane_moves_within_it() -> None:
    x = torch.tensor([[-1.0, 0, 0], [0, 0, 0], [1, 0, 0], [0.1, 1, 0], [-0.1, 1, 0]]).double()
    plane = Plane(torch.tensor([1.0, 0, 0]).double(), 0.0)
    for place in (x[1:2], x[3:5]):
        columns, maps = symmetric_edit(x, torch.ones(5, 1), some_maps(1), [place], [plane], 0.5)
        assert columns.shape == (5, 1)
        moved = pose(x, columns, maps)
        torch.testing.assert_close(reflect(plane, moved)[[2, 1, 0, 4, 3]], moved, atol=3e-6, rtol=0)


def test_planes_of_an_edit_stand_at_right_angles() -> None:
    x, other = draw(9, 3), Plane(torch.tensor([1.0, 0, 0]).double(), 0.0)
    with pytest.raises(InputError, match="right angles"):
        symmetric_edit(x, torch.ones(9, 1), some_maps(1), [x[:1]], [PLANE, other], 0.1)
    with pytest.raises(UsageError, match="seam must be positive"):
        symmetric_edit(x, torch.ones(9, 1), some_maps(1), [x[:1]], [PLANE], 0.0)
