"""Depths of views fused into one closed surface."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from geodistill.cameras import Camera, Similarity, orbit_cameras, rotations, sphere_cameras
from geodistill.checks import InputError
from geodistill.convert.fusion import DistanceGrid, _cosines, fused
from geodistill.convert.isosurface import isosurface, without_specks, without_unseen
from geodistill.geometry.manifold import open_edges
from geodistill.geometry.mesh import Mesh, components, corners, face_normals
from geodistill.rays import camera_rays
from geodistill.render.surfaces import SurfaceView
from tests.shape_fields import Shape, ball, ring, slab, union

PLACED = Similarity(
    rotations(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)),
    torch.tensor([1000.0, -2000.0, 500.0], dtype=torch.float64),
    3.0,
)


def looks(
    shape: Shape, count: int = 16, size: int = 80, frame: Similarity | None = None
) -> list[SurfaceView]:
    """Views of a shape in the unit cube, found by sphere tracing, placed in the world."""
    cameras = sphere_cameras(count, torch.zeros(3).double(), 3.5, 0.7, (size, size), 0)
    frame = frame or Similarity.identity()
    return [_look(shape, cameras[i], frame) for i in range(count)]


def _look(shape: Shape, camera: Camera, frame: Similarity) -> SurfaceView:
    rays = camera_rays(camera)
    depth = torch.zeros(len(rays)).double()
    for _ in range(80):
        depth += shape(rays.origins + depth[:, None] * rays.directions)
    depth = torch.where(depth < 6, depth, torch.inf).float().reshape(camera.size)
    opacity = depth.isfinite().float()
    color = torch.ones(*camera.size, 3) * opacity[..., None]
    return SurfaceView(frame.apply_camera(camera), color, opacity, depth * float(frame.s))


def euler(mesh: Mesh) -> int:
    return len(mesh.vertices) - len(mesh.faces) * 3 // 2 + len(mesh.faces)


def volume(mesh: Mesh) -> float:
    a, b, c = corners(mesh).unbind(1)
    return float((torch.linalg.cross(a, b, dim=-1) * c).sum() / 6)


def test_a_ball_is_closed_true_and_looks_outwards() -> None:
    grid = fused(looks(ball((0.1, 0.0, -0.1), 0.6)), 64)
    made = isosurface(grid)
    off = made.vertices - torch.tensor([0.1, 0.0, -0.1])
    assert open_edges(made) == 0 and euler(made) == 2
    assert float((off.norm(dim=1) - 0.6).abs().max()) < 0.7 * grid.step
    assert float((off.norm(dim=1) - 0.6).mean().abs()) < 0.2 * grid.step
    normals = face_normals(made)
    middles = corners(made).mean(1) - torch.tensor([0.1, 0.0, -0.1])
    assert float(((normals * middles).sum(1) > 0).double().mean()) > 0.999
    assert volume(made) == pytest.approx(4 / 3 * torch.pi * 0.6**3, rel=0.03)
    assert max(grid.values.shape) == pytest.approx(64 + 7, abs=2)


def test_it_goes_where_the_scene_goes() -> None:
    here = isosurface(fused(looks(ball((0, 0, 0), 0.6), frame=PLACED), 32))
    away = (here.vertices - PLACED.t).norm(dim=1)
    assert float((away - 1.8).abs().max()) < 0.06 and volume(here) > 0


def test_a_ring_keeps_its_hole() -> None:
    made = isosurface(fused(looks(ring(0.6, 0.2), 24), 64))
    assert open_edges(made) == 0 and euler(made) == 0
    assert float(ring(0.6, 0.2)(made.vertices).abs().max()) < 0.04


def test_two_things_are_two() -> None:
    two = union(ball((-0.5, 0, 0), 0.3), ball((0.5, 0, 0.2), 0.25))
    made = isosurface(fused(looks(two), 64))
    assert len(components(made).unique()) == 2 and euler(made) == 4
    assert float(two(made.vertices).abs().max()) < 0.03


@pytest.mark.parametrize("steps", [1.5, 3.0])
def test_a_thin_plate_stays_thin_and_whole(steps: float) -> None:
    step = 1.4 / 64
    plate = slab((0.7, 0.7, steps * step / 2))
    made = isosurface(fused(looks(plate, 24, 120), 64))
    assert open_edges(made) == 0 and euler(made) == 2 and len(components(made).unique()) == 1
    inner = made.vertices[(made.vertices[:, :2].abs() < 0.6).all(1)]
    thick = inner[inner[:, 2] > 0, 2].mean() - inner[inner[:, 2] < 0, 2].mean()
    assert float(thick) == pytest.approx(steps * step, abs=1.2 * step)


def test_what_is_inside_leaves_no_trace() -> None:
    """A ball inside a shell, and a hollow that no view looks into."""
    shell = union(ball((0, 0, 0), 0.2), lambda u: (u.norm(dim=1) - 0.6).abs() - 0.1)
    made = isosurface(fused(looks(shell), 48))
    assert len(components(made).unique()) == 1
    assert float(made.vertices.norm(dim=1).min()) > 0.65


def test_what_few_views_look_past_does_not_hang_below() -> None:
    """A thick plate, mostly seen from above: its lower side is where the few low views end."""
    shape, origin = slab((0.8, 0.8, 0.15)), torch.zeros(3).double()
    cameras = [
        orbit_cameras(n, origin, 3.5, elevation, 0.7, (80, 80))
        for n, elevation in ((6, 0.0), (30, 0.9))
    ]
    views = [
        _look(shape, some[i], Similarity.identity()) for some in cameras for i in range(len(some))
    ]
    grid = fused(views, 96)
    made = isosurface(grid)
    assert float(made.vertices[:, 2].min()) > -0.15 - 2 * grid.step


def test_hollows_are_filled() -> None:
    values = torch.ones(9, 9, 9)
    values[1:8, 1:8, 1:8] = -1
    values[3:5, 3:5, 3:5] = 1
    made = isosurface(DistanceGrid(values, torch.zeros(3).double(), 1.0))
    assert len(components(made).unique()) == 1 and euler(made) == 2


def test_what_reaches_the_border_ends_there() -> None:
    values = -torch.ones(5, 5, 5)
    values[:, :, 3:] = 1
    made = isosurface(DistanceGrid(values, torch.tensor([2.0, 2.0, 2.0]).double(), 0.5))
    assert open_edges(made) == 0
    assert float(made.vertices.amin()) > 1.5 and float(made.vertices.amax()) < 4.5


def test_a_node_on_the_surface_makes_no_flat_face() -> None:
    axis = torch.arange(-4.0, 5.0)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    made = isosurface(DistanceGrid(x.abs() + y.abs() + z.abs() - 3, torch.zeros(3).double(), 1.0))
    assert open_edges(made) == 0 and euler(made) == 2
    assert bool((face_normals(made).norm(dim=1) > 0.5).all())


def test_floaters_go_and_parts_stay() -> None:
    scene = union(ball((0, 0, 0), 0.5), ball((0.8, 0, 0.3), 0.06), ball((-0.75, 0.2, 0), 0.15))
    made = isosurface(fused(looks(scene), 64))
    assert len(components(made).unique()) == 3
    left = without_specks(made, 0.05)
    assert len(components(left).unique()) == 2
    assert float(ball((0.8, 0, 0.3), 0.06)(left.vertices).min()) > 0.1
    assert open_edges(left) == 0
    assert len(without_specks(made, 0.0).faces) == len(made.faces)


def test_a_speck_far_off_does_not_spend_the_grid() -> None:
    views = looks(ball((0, 0, 0), 0.3))
    views[0].depth[0, 0] = 60.0
    grid = fused(views, 32)
    assert grid.step < 0.7 / 32


def test_a_ghost_in_one_view_is_outvoted() -> None:
    """One of the views sees something in front of the ball that the others see through."""
    views = looks(ball((0, 0, 0), 0.5))
    views[3].depth[30:50, 30:50] = 2.4
    made = isosurface(fused(views, 48))
    assert float(ball((0, 0, 0), 0.5)(made.vertices).abs().max()) < 0.04


def test_a_leak_in_one_view_does_not_dig() -> None:
    """A few rays of one view go through the near side and end at the far one."""
    views = looks(ball((0, 0, 0), 0.5), 40)
    views[3].depth[36:38, 36:38] += 0.9
    made = isosurface(fused(views, 48))
    assert float(ball((0, 0, 0), 0.5)(made.vertices).min()) > -0.1


def test_what_no_view_shows_can_be_left_out() -> None:
    above = [v for v in looks(ball((0, 0, 0), 0.5), 40) if float(v.camera.centers[2]) > 1.5]
    made = isosurface(fused(above, 48))
    assert open_edges(made) == 0
    shown = without_unseen(made, above, 0.03)
    assert open_edges(shown) > 0
    below = [(m.vertices[:, :2].norm(dim=1) < 0.2) & (m.vertices[:, 2] < 0) for m in (made, shown)]
    assert int(below[0].sum()) > 20 and int(below[1].sum()) == 0
    upper = made.vertices[:, 2] > 0.1
    assert int((shown.vertices[:, 2] > 0.1).sum()) == int(upper.sum())


def test_nothing_seen_is_an_error() -> None:
    with pytest.raises(InputError, match="no surface to make a mesh of: the scene is empty"):
        fused(looks(lambda u: u.norm(dim=1) + 1.0, 2, 16), 32)
    empty = DistanceGrid(torch.ones(4, 4, 4), torch.zeros(3).double(), 1.0)
    with pytest.raises(InputError, match="views see through everything"):
        isosurface(empty)


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    grid = DistanceGrid(-torch.ones(4, 4, 4), torch.zeros(3).double(), 1.0)
    with pytest.raises(InputError, match=r"package skimage: pip install 'geodistill\[mesh\]'"):
        isosurface(grid)


def _slow(views: list[SurfaceView], place: Tensor, step: float) -> float:
    """The vote of all views on one place, from the formulas alone."""
    total = weight = 0.0
    for view in views:
        camera = view.camera.to(dtype=torch.float64)
        local = camera.world_from_cam[:3, :3].T @ (place - camera.centers)
        pixel = camera.K @ local
        x, y = (int(v) for v in (pixel[:2] / pixel[2]).floor())
        height, width = camera.size
        if not (float(local[2]) > 0 and 0 <= x < width and 0 <= y < height):
            continue
        depth, cos = float(view.depth[y, x]), max(float(_cosines(view)[y, x]), 0.1)
        value = max(-2 * step, min(2 * step, (depth - float(local.norm())) * cos))
        own = 0.3 if depth == float("inf") else cos
        own *= max(0.014, min(1.0, 1 + value / (2 * step)))
        total, weight = total + own * value, weight + own
    return total / weight if weight else 2 * step


def test_values_are_the_weighted_mean_of_the_views() -> None:
    views = looks(ball((0, 0, 0), 0.5), 6, 40)
    grid = fused(views, 24)
    draw = torch.Generator().manual_seed(0)
    near = (grid.values.abs() < 1.9 * grid.step).nonzero()
    for index in near[torch.randperm(len(near), generator=draw)[:40]]:
        place = grid.low + grid.step * index.double()
        wanted = _slow(views, place, grid.step)
        assert float(grid.values[tuple(index)]) == pytest.approx(float(wanted), abs=2e-4)


def test_cosines_are_those_of_the_surface() -> None:
    view = looks(ball((0, 0, 0), 0.5), 1, 120)[0]
    points = view.points()
    rays = torch.nn.functional.normalize(points - view.camera.centers, dim=1)
    wanted = -(points * rays).sum(1) / points.norm(dim=1)
    found = _cosines(view)[view.depth.isfinite()]
    inner = wanted > 0.4
    assert float((found - wanted)[inner].abs().max()) < 0.03
