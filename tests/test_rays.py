"""Pixels to rays and back, with and without a distorting lens."""

from __future__ import annotations

import math

import pytest
import torch

from geodistill.cameras import Camera, look_at
from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.rays import (
    all_pixels,
    camera_rays,
    distort,
    fold_radius2,
    pixel_rays,
    project,
    undistort,
)

SIZE = (60, 80)
LENSES = {
    "pinhole": None,
    "barrel": (-0.3, 0.08, 0.001, -0.002),
    "pincushion": (0.25, 0.1, -0.003, 0.001),
    "wave": (0.4, -0.35, 0.0, 0.0),
    "phone": (0.05, -0.1, 1e-4, 2e-4),
}


def camera(lens: str, dtype: torch.dtype = torch.float64) -> Camera:
    K = torch.tensor([[70.0, 0.5, 41.0], [0.0, 75.0, 28.0], [0.0, 0.0, 1.0]], dtype=dtype)
    pose = look_at(torch.tensor([1.0, 2.0, 0.5], dtype=dtype), (0.1, -0.2, 0.3), (0.2, 0.1, 1.0))
    coefficients = LENSES[lens]
    distortion = None if coefficients is None else torch.tensor(coefficients, dtype=dtype)
    return Camera(K, pose, SIZE, distortion)


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize(("dtype", "tolerance_px"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_projecting_a_ray_gives_its_pixel(
    lens: str, dtype: torch.dtype, tolerance_px: float
) -> None:
    view = camera(lens, dtype)
    rays = camera_rays(view)
    depths = torch.linspace(0.5, 4.0, len(rays), dtype=dtype)[:, None]
    xy, _ = project(view, rays.origins + depths * rays.directions)
    torch.testing.assert_close(xy, all_pixels(SIZE).to(dtype) + 0.5, atol=tolerance_px, rtol=0)


@pytest.mark.parametrize("lens", LENSES)
def test_the_ray_of_a_projection_meets_its_point(lens: str) -> None:
    view = camera(lens)
    points = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)).double() - 0.5
    xy, depth = project(view, points)
    rays = pixel_rays(view, xy)
    offset = points - rays.origins
    along = (offset * rays.directions).sum(-1, keepdim=True)
    assert (offset - along * rays.directions).norm(dim=-1).max() < 1e-9
    torch.testing.assert_close(depth, offset @ view.world_from_cam[:3, 2])
    torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones(200).double())


def test_a_pinhole_ray_by_hand() -> None:
    """Pixel (3, 1) of a camera at the origin that looks along +z: x right, y down, centre +0.5."""
    K = torch.tensor([[10.0, 0.0, 4.0], [0.0, 20.0, 3.0], [0.0, 0.0, 1.0]])
    rays = camera_rays(Camera(K, torch.eye(4), (6, 8)), torch.tensor([[3, 1]]))
    expected = torch.tensor([[-0.05, -0.075, 1.0]])
    torch.testing.assert_close(rays.directions, expected / expected.norm())
    assert rays.origins.is_contiguous() and rays.directions.is_contiguous()


def test_opencv_distortion_by_hand() -> None:
    """The formula of the OpenCV documentation, written out for one point."""
    x, y, k1, k2, p1, p2 = 0.3, -0.2, -0.1, 0.02, 0.003, -0.004
    r2 = x**2 + y**2
    radial = 1 + k1 * r2 + k2 * r2**2
    expected = (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
        y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
    )
    got = distort(torch.tensor([x, y]).double(), torch.tensor([k1, k2, p1, p2]).double())
    torch.testing.assert_close(got, torch.tensor(expected).double())


def test_all_pixels_run_row_by_row() -> None:
    assert all_pixels((2, 3)).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
    view = camera("barrel")
    chosen = torch.tensor([[5, 7], [79, 59]])
    few, every = camera_rays(view, chosen), camera_rays(view).directions.reshape(*SIZE, 3)
    torch.testing.assert_close(few.directions, every[chosen[:, 1], chosen[:, 0]])


def test_batches_broadcast() -> None:
    one, two = camera("barrel"), camera("phone")
    assert one.distortion is not None and two.distortion is not None
    both = Camera(
        torch.stack([one.K, two.K]),
        torch.stack([one.world_from_cam, two.world_from_cam]),
        SIZE,
        torch.stack([one.distortion, two.distortion]),
    )
    xy = torch.rand(7, 2).double() * 50
    grid = pixel_rays(both[:, None], xy)
    torch.testing.assert_close(grid.directions[0], pixel_rays(one, xy).directions)
    torch.testing.assert_close(grid.directions[1], pixel_rays(two, xy).directions)
    index = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    mixed = pixel_rays(both[index], xy)
    torch.testing.assert_close(mixed.directions, grid.directions[index, torch.arange(7)])
    torch.testing.assert_close(mixed.origins, both.centers[index])
    seen, _ = project(both[:, None], grid.origins + grid.directions)
    torch.testing.assert_close(seen, xy.expand(2, 7, 2), atol=1e-8, rtol=0)


def test_undistortion_is_exact_up_to_the_fold_for_random_lenses() -> None:
    generator = torch.Generator().manual_seed(3)
    k = (torch.rand(400, 1, 2, generator=generator).double() - 0.5) * torch.tensor([1.5, 1.0])
    lens = torch.cat([k, torch.zeros(400, 1, 2)], dim=-1)
    limit = fold_radius2(lens).sqrt().clamp_max(2.0) * 0.995
    angle = torch.rand(400, 60, generator=generator).double() * 2 * math.pi
    radius = torch.rand(400, 60, generator=generator).double() * limit
    ideal = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
    found = undistort(distort(ideal, lens), lens, 1e-12)
    torch.testing.assert_close(found, ideal, atol=1e-7, rtol=0)


def test_the_fold_is_where_the_model_stops_growing() -> None:
    lens = torch.tensor(
        [[-0.3, 0, 0, 0], [0.4, -0.35, 0, 0], [0.2, 0.1, 0, 0], [0, 0, 0, 0], [-0.3, 0.2, 0, 0]]
    )
    lens = lens.double()
    fold = fold_radius2(lens).sqrt()
    assert torch.isinf(fold).tolist() == [False, False, True, True, True]
    for k, radius in zip(lens[:2], fold[:2], strict=True):
        around = radius + torch.tensor([-1e-3, 0.0, 1e-3]).double()
        value = distort(torch.stack([around, torch.zeros(3).double()], dim=-1), k)[:, 0]
        assert value[1] > value[0] and value[1] > value[2]


def test_a_pixel_beyond_the_fold_is_a_clear_error() -> None:
    view = camera("pinhole")
    folded = Camera(view.K, view.world_from_cam, SIZE, torch.tensor([-1.2, 0.0, 0.0, 0.0]).double())
    with pytest.raises(InputError, match=r"of 4800 pixels have no ray: .*k1=-1.2 .*folds over"):
        camera_rays(folded)


def test_points_that_no_pixel_shows_have_no_coordinates() -> None:
    view = Camera(
        camera("barrel").K, torch.eye(4).double(), SIZE, torch.tensor([-0.3, 0, 0, 0]).double()
    )
    points = torch.tensor([[0.0, 0, 1], [0, 0, -1], [0, 0, 0], [1.2, 0, 1], [0.9, 0, 1]]).double()
    xy, depth = project(view, points)
    assert xy.isnan().any(-1).tolist() == [False, True, True, True, False]
    assert depth.tolist() == [1, -1, 0, 1, 1]


def test_gradients_pass_through_rays_and_projections() -> None:
    view = camera("barrel")
    assert view.distortion is not None
    xy = torch.tensor([[3.0, 4.0], [60.0, 50.0]], dtype=torch.float64, requires_grad=True)
    inputs = (xy, view.K.clone().requires_grad_(), view.distortion.clone().requires_grad_())

    def directions(xy: torch.Tensor, K: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        return pixel_rays(Camera(K, view.world_from_cam, SIZE, lens), xy).directions

    assert torch.autograd.gradcheck(directions, inputs)
    points = torch.tensor(
        [[0.0, 0.1, 0.2], [3.0, 4.0, 0.7]], dtype=torch.float64, requires_grad=True
    )
    xy, _ = project(view, points)
    assert xy[1].isnan().all(), "the second point is behind the camera"
    xy[0].sum().backward()
    assert points.grad is not None and points.grad.isfinite().all() and (points.grad[0] != 0).any()


def test_wrong_use_is_named() -> None:
    view = camera("pinhole")
    with pytest.raises(UsageError, match="takes one camera"):
        camera_rays(view[None])
    with pytest.raises(ShapeError, match="pixels must have shape"):
        camera_rays(view, torch.zeros(3))
    with pytest.raises(ShapeError, match="points must have shape"):
        project(view, torch.zeros(3, 2))


def test_rays_on_the_device(device: torch.device) -> None:
    view = camera("barrel", torch.float32)
    torch.testing.assert_close(
        camera_rays(view.to(device)).directions.cpu(),
        camera_rays(view).directions,
        atol=1e-6,
        rtol=0,
    )
