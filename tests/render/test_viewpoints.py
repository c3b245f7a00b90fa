"""Viewpoints: they frame the scene, stay near the cameras it was made from, and repeat."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geodistill.cameras import Camera, Similarity, orbit_cameras
from geodistill.geometry.fields import Field, build_field
from geodistill.geometry.fields.tensorf import TensorfCpConfig
from geodistill.rays import project
from geodistill.render.samples import cube_interval
from geodistill.render.viewpoints import SWAY_RAD, random_rays, viewpoints

CENTER = torch.tensor([5.0, -3.0, 1.0], dtype=torch.float64)


def field(views: Camera | None, scale: float = 2.0) -> Field:
    made = build_field("tensorf-cp", TensorfCpConfig(resolution=8, density_rank=1, color_rank=1))
    made.world_from_field = Similarity(torch.eye(3).double(), CENTER, scale).matrix()
    made.views = views
    return made


def front_views(count: int = 12, size: tuple[int, int] = (60, 80)) -> Camera:
    """Cameras on a circle around the scene's centre, from a low elevation."""
    return orbit_cameras(count, CENTER, 7.0, 0.3, 0.8, size)


def angles(a: Tensor, b: Tensor) -> Tensor:
    """Between the rotations [A, 3, 3] and [B, 3, 3], in radians. [A, B]"""
    trace = torch.einsum("aij,bij->ab", a.double(), b.double())
    return torch.arccos(((trace - 1) / 2).clamp(-1, 1))


def test_without_cameras_the_cube_is_seen_from_all_sides() -> None:
    cameras = viewpoints(field(None), 40, 64, seed=0)
    assert len(cameras) == 40 and cameras.size == (64, 64)
    uv, depth = project(cameras, CENTER.expand(40, 3).to(cameras.dtype))
    torch.testing.assert_close(uv, torch.full_like(uv, 32.0), rtol=0, atol=1e-3)
    assert (depth > 0).all()
    around = torch.nn.functional.normalize(cameras.centers.double() - CENTER, dim=1)
    assert around.mean(dim=0).norm() < 0.1
    spread = (around.t() @ around / 40 - torch.eye(3) / 3).abs().max()
    assert spread < 0.1


def test_without_cameras_a_ball_in_the_cube_fits_the_picture() -> None:
    cameras = viewpoints(field(None), 10, 64, seed=0)
    around = torch.nn.functional.normalize(torch.randn(500, 3, dtype=torch.float64), dim=1)
    ball = (CENTER + 2.0 * around).to(cameras.dtype)
    for i in range(10):
        uv, _ = project(cameras[i], ball)
        assert (uv > 0).all() and (uv < 64).all()
        assert (uv.amax(dim=0) - uv.amin(dim=0)).max() > 0.5 * 64


def test_they_are_a_function_of_the_seed() -> None:
    for views in (None, front_views()):
        scene = field(views)
        first, again, other = (viewpoints(scene, 6, 32, s).world_from_cam for s in (1, 1, 2))
        assert torch.equal(first, again) and not torch.allclose(first, other)


@pytest.mark.parametrize("count", [5, 12, 30])
def test_they_are_the_cameras_turned_a_little_about_the_centre(count: int) -> None:
    base = front_views()
    cameras = viewpoints(field(base), count, 40, seed=4)
    assert len(cameras) == count and cameras.size == (30, 40)
    distance = (cameras.centers.double() - CENTER).norm(dim=1)
    torch.testing.assert_close(distance, torch.full_like(distance, 7.0), rtol=1e-5, atol=0)
    nearest = angles(cameras.world_from_cam[:, :3, :3], base.world_from_cam[:, :3, :3]).amin(dim=1)
    assert nearest.max() > 0.01  # they do move
    assert nearest.median() < SWAY_RAD and nearest.max() < 3 * SWAY_RAD
    # The centre stays where the camera had it in the picture.
    uv, _ = project(cameras, CENTER.to(cameras.dtype).expand(count, 3))
    torch.testing.assert_close(uv, uv.new_tensor([20.0, 15.0]).expand_as(uv), rtol=0, atol=1e-2)


def test_no_camera_is_used_twice_while_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodistill.render.viewpoints.SWAY_RAD", 0.0)
    base = front_views()
    cameras = viewpoints(field(base), 12, 80, seed=0)
    gaps = (cameras.centers[:, None].double() - base.centers[None].double()).norm(dim=-1)
    nearest, index = gaps.min(dim=1)
    assert nearest.max() < 1e-5 and sorted(index.tolist()) == list(range(12))


@pytest.mark.parametrize("size", [(60, 80), (90, 30)])
def test_the_longer_side_has_the_resolution_and_the_angle_stays(size: tuple[int, int]) -> None:
    base = front_views(size=size)
    cameras = viewpoints(field(base), 3, 20, seed=0)
    assert max(cameras.size) == 20
    assert cameras.size == tuple(round(side * 20 / max(size)) for side in size)
    torch.testing.assert_close(
        cameras.K[:, 0, 0] / cameras.size[1], base.K[:3, 0, 0].to(cameras.K) / size[1]
    )


def test_viewpoints_follow_a_scene_that_grows() -> None:
    small, large = field(front_views(), 2.0), field(front_views(), 6.0)
    grow = Similarity(torch.eye(3).double(), -2 * CENTER, 3.0)  # x -> 3 x - 2 CENTER
    large.views = grow.apply_camera(front_views().to(dtype=torch.float64))
    a = grow.apply_camera(viewpoints(small, 5, 16, seed=3).to(dtype=torch.float64))
    b = viewpoints(large, 5, 16, seed=3)
    torch.testing.assert_close(a.world_from_cam, b.world_from_cam.double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("views", [None, front_views()], ids=["no cameras", "cameras"])
def test_random_rays_start_outside_the_unit_cube_and_mostly_meet_it(views: Camera | None) -> None:
    rays = random_rays(field(views), 2000, seed=0, cameras=16)
    again, other = (random_rays(field(views), 2000, seed=s, cameras=16) for s in (0, 1))
    assert torch.equal(rays.directions, again.directions)
    assert not torch.equal(rays.directions, other.directions)
    length = rays.directions.norm(dim=1)
    torch.testing.assert_close(length, torch.ones(2000))
    assert (rays.origins.abs().amax(dim=1) > 1).all()
    near, far = cube_interval(rays)
    assert (far > near).float().mean() > 0.5
    assert math.isclose(len(rays.origins.unique(dim=0)), 16)
