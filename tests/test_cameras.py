"""Cameras, the generators, and similarities."""

from __future__ import annotations

import math

import pytest
import torch

from geodistill.cameras import (
    Camera,
    Similarity,
    look_at,
    opencv_from_opengl,
    opengl_from_opencv,
    orbit_cameras,
    sphere_cameras,
)
from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.rays import camera_rays, pixel_rays, project

SIZE = (30, 40)


def some_similarity(seed: int = 0) -> Similarity:
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    q = q * torch.linalg.det(q)
    return Similarity(q, torch.randn(3, generator=generator, dtype=torch.float64), 0.3 + seed)


def batch(n: int = 5, dtype: torch.dtype = torch.float64) -> Camera:
    return sphere_cameras(n, (0.5, -1.0, 2.0), 3.0, 0.8, SIZE, seed=1).to(dtype=dtype)


def assert_rigid(world_from_cam: torch.Tensor) -> None:
    R = world_from_cam[..., :3, :3].double()
    torch.testing.assert_close(R.mT @ R, torch.eye(3).double().expand_as(R), atol=1e-6, rtol=0)
    assert (torch.linalg.det(R) > 0).all()


def test_opengl_conversion_is_an_involution_and_turns_y_and_z() -> None:
    poses = batch().world_from_cam
    assert torch.equal(opencv_from_opengl(opengl_from_opencv(poses)), poses)
    turned = opencv_from_opengl(poses)
    assert torch.equal(turned[..., 0], poses[..., 0]) and torch.equal(turned[..., 3], poses[..., 3])
    assert torch.equal(turned[..., 1:3], -poses[..., 1:3])


def test_look_at_has_opencv_axes() -> None:
    pose = look_at((0.0, -2.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    torch.testing.assert_close(
        pose[:3], torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, -2], [0, -1, 0, 0]])
    )


def test_look_at_copes_with_a_view_along_up_and_refuses_no_view() -> None:
    eyes = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, -2.0], [1.0, 0.0, 0.0]])
    poses = look_at(eyes, (0.0, 0.0, 0.0))
    assert_rigid(poses)
    torch.testing.assert_close(poses[:, :3, 2], -eyes / eyes.norm(dim=-1, keepdim=True))
    with pytest.raises(UsageError, match="apart from its target"):
        look_at((1.0, 2.0, 3.0), (1.0, 2.0, 3.0))


def test_sphere_cameras_look_at_the_center_evenly_and_depend_on_the_seed() -> None:
    cameras = sphere_cameras(200, (1.0, 2.0, 3.0), 2.5, 0.7, SIZE, seed=0)
    center = torch.tensor([1.0, 2.0, 3.0])
    assert_rigid(cameras.world_from_cam)
    torch.testing.assert_close((cameras.centers - center).norm(dim=-1), torch.full((200,), 2.5))
    xy, depth = project(cameras, center.expand(200, 3))
    torch.testing.assert_close(xy, torch.tensor([20.0, 15.0]).expand(200, 2), atol=1e-3, rtol=0)
    torch.testing.assert_close(depth, torch.full((200,), 2.5))
    directions = (cameras.centers - center) / 2.5
    assert directions.mean(0).norm() < 0.02
    gaps = (directions @ directions.T - 2 * torch.eye(200)).amax(-1).acos()
    assert gaps.min() > 0.7 * gaps.max()
    other = sphere_cameras(200, (1.0, 2.0, 3.0), 2.5, 0.7, SIZE, seed=1)
    again = sphere_cameras(200, (1.0, 2.0, 3.0), 2.5, 0.7, SIZE, seed=0)
    assert not torch.allclose(other.centers, cameras.centers)
    assert torch.equal(again.world_from_cam, cameras.world_from_cam)


def test_orbit_cameras_turn_counter_clockwise_about_up() -> None:
    cameras = orbit_cameras(4, (0.0, 0.0, 1.0), 2.0, math.radians(30), 0.7, SIZE)
    ring, height = 2 * math.cos(math.radians(30)), 1 + 2 * math.sin(math.radians(30))
    expected = torch.tensor(
        [[ring, 0, height], [0, ring, height], [-ring, 0, height], [0, -ring, height]]
    )
    torch.testing.assert_close(cameras.centers, expected)
    assert (cameras.world_from_cam[:, 2, 1] < 0).all(), "the picture's down must point down"
    tilted = orbit_cameras(7, (0.0, 0.0, 0.0), 2.0, 0.4, 0.7, SIZE, up=(1.0, 2.0, 0.5))
    axis = torch.tensor([1.0, 2.0, 0.5]) / torch.tensor([1.0, 2.0, 0.5]).norm()
    torch.testing.assert_close(tilted.centers @ axis, torch.full((7,), 2 * math.sin(0.4)))
    for n in (0, -3):
        with pytest.raises(UsageError, match="at least one camera"):
            orbit_cameras(n, (0.0, 0.0, 0.0), 2.0, 0.4, 0.7, SIZE)


def test_from_fov_spans_the_width() -> None:
    camera = Camera.from_fov(1.0, SIZE, torch.eye(4).double())
    edges = pixel_rays(
        camera, torch.tensor([[0.0, 15.0], [40.0, 15.0]], dtype=torch.float64)
    ).directions
    assert math.acos(float(edges[0] @ edges[1])) == pytest.approx(1.0)
    for wrong in (0.0, math.pi, math.nan):
        with pytest.raises(UsageError, match="field of view"):
            Camera.from_fov(wrong, SIZE, torch.eye(4))


def test_indexing_length_and_moving() -> None:
    cameras = batch()
    assert len(cameras) == 5 and cameras[1:3].batch_shape == (2,) and cameras[2].batch_shape == ()
    assert torch.equal(cameras[torch.tensor([4, 0])].K, cameras.K[[4, 0]])
    assert [
        torch.equal(one.centers, center)
        for one, center in zip(cameras, cameras.centers, strict=True)
    ]
    assert len(cameras[0][None]) == 1
    with pytest.raises(TypeError, match="no length"):
        len(cameras[0])
    distorted = Camera(cameras.K, cameras.world_from_cam, SIZE, torch.ones(5, 4).double())
    single = distorted[3].to("cpu", torch.float32)
    assert single.distortion is not None and single.distortion.shape == (4,)
    assert single.dtype == single.K.dtype == single.distortion.dtype == torch.float32


def test_cam_from_world_inverts() -> None:
    cameras = batch()
    product = cameras.cam_from_world @ cameras.world_from_cam
    torch.testing.assert_close(product, torch.eye(4).double().expand(5, 4, 4))


@pytest.mark.parametrize("factor", [0.5, 2.0, 0.33])
def test_scaled_cameras_see_the_same_field(factor: float) -> None:
    camera = batch()[0]
    scaled = camera.scaled(factor)
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.3, 0.8]], dtype=torch.float64)
    before = pixel_rays(camera, corners * torch.tensor([40.0, 30.0])).directions
    after = pixel_rays(scaled, corners * torch.tensor(scaled.size[::-1])).directions
    torch.testing.assert_close(before, after)
    assert scaled.size == (round(30 * factor), round(40 * factor))


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ShapeError, match="K must have shape"):
        Camera(torch.eye(4), torch.eye(4), SIZE)
    with pytest.raises(ShapeError, match="different batches"):
        Camera(torch.eye(3).expand(2, 3, 3), torch.eye(4).expand(3, 4, 4), SIZE)
    with pytest.raises(ShapeError, match="distortion must have shape"):
        Camera(torch.eye(3), torch.eye(4), SIZE, torch.zeros(5))
    with pytest.raises(UsageError, match="size"):
        Camera(torch.eye(3), torch.eye(4), (0, 4))


def test_similarity_inverse_compose_and_matrix() -> None:
    a, b = some_similarity(0), some_similarity(1)
    points = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(a.inverse().apply(a.apply(points)), points)
    torch.testing.assert_close(a.compose(b).apply(points), a.apply(b.apply(points)))
    homogeneous = torch.cat([points, torch.ones(7, 1).double()], dim=1)
    torch.testing.assert_close((homogeneous @ a.matrix().T)[:, :3], a.apply(points))
    again = Similarity.from_matrix(a.matrix())
    torch.testing.assert_close(again.matrix(), a.matrix())
    assert again.s == pytest.approx(a.s)
    torch.testing.assert_close(Similarity.identity().apply(points), points)
    assert a.apply(points.float()).dtype == torch.float32
    torch.testing.assert_close(a.rotate(points).norm(dim=-1), points.norm(dim=-1))


def test_a_moved_camera_sees_the_moved_scene_alike() -> None:
    similarity, camera = some_similarity(2), batch()[1]
    points = torch.randn(20, 3, dtype=torch.float64) * 0.3 + torch.tensor([0.5, -1.0, 2.0])
    xy, depth = project(camera, points)
    moved_xy, moved_depth = project(similarity.apply_camera(camera), similarity.apply(points))
    torch.testing.assert_close(moved_xy, xy)
    torch.testing.assert_close(moved_depth, similarity.s * depth)


@pytest.mark.parametrize(
    "matrix",
    [
        torch.diag(torch.tensor([1.0, 2.0, 1.0, 1.0])),
        torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0])),
        torch.zeros(4, 4),
        torch.full((4, 4), torch.nan),
    ],
)
def test_what_is_no_similarity_is_refused(matrix: torch.Tensor) -> None:
    with pytest.raises(InputError, match="determinant"):
        Similarity.from_matrix(matrix)
    with pytest.raises(UsageError, match="positive"):
        Similarity(torch.eye(3), torch.zeros(3), -1.0)


def test_cameras_stay_on_their_device(device: torch.device) -> None:
    cameras = batch(dtype=torch.float32).to(device)
    rays = camera_rays(cameras[0])
    assert rays.origins.device.type == rays.directions.device.type == device.type
    assert cameras.scaled(0.5).K.device.type == cameras.cam_from_world.device.type == device.type
    assert look_at(cameras.centers, torch.zeros(3)).device.type == device.type
