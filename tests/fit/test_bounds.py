"""Where the scene is: the carved space holds all of it and little more."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scenes import AnalyticField, photograph, ring
from torch import Tensor
from torch.nn import functional as F

from geodistill.cameras import (
    Camera,
    Similarity,
    look_at,
    opencv_from_opengl,
    orbit_cameras,
    sphere_cameras,
)
from geodistill.checks import InputError
from geodistill.fit import bounds
from geodistill.fit.bounds import carve_scene, focus, open_scene
from geodistill.rays import camera_rays, project

CELLS = 64


@pytest.fixture(autouse=True)
def fewer_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "OCCUPANCY_RESOLUTION", CELLS)


def cell_of(cube: Similarity, x: Tensor, size: int) -> Tensor:
    """Cells [N, 3] of world points; those outside the cube have indices outside the grid."""
    return torch.floor((cube.inverse().apply(x.double()) + 1) * (size / 2)).long()


def kept(cube: Similarity, cells: Tensor, x: Tensor) -> Tensor:
    """Which world points lie in a cell that was kept. bool [N]"""
    index = cell_of(cube, x, cells.shape[0])
    inside = ((index >= 0) & (index < cells.shape[0])).all(dim=1)
    return inside & cells[tuple(index.clamp(0, cells.shape[0] - 1).unbind(-1))]


def centers(cube: Similarity, size: int) -> Tensor:
    axis = (torch.arange(size, dtype=torch.float64) + 0.5) * (2.0 / size) - 1.0
    return cube.apply(torch.cartesian_prod(axis, axis, axis))


def hull(cameras: Camera, alpha: Tensor, points: Tensor, slack_px: int) -> tuple[Tensor, Tensor]:
    """The visual hull by its definition: points within some pixels of foreground in every image.

    Returns bool [N], and the fraction of cameras that see each point [N].
    """
    height, width = cameras.size
    mask = F.max_pool2d((alpha > 0).double()[:, None], 2 * slack_px + 1, 1, slack_px)[:, 0] > 0
    inside, count = torch.ones(len(points), dtype=torch.bool), torch.zeros(len(points))
    for v in range(len(cameras)):
        uv, _ = project(cameras[v].to(dtype=torch.float64), points)
        x, y = uv.nan_to_num(-1.0).floor().long().unbind(-1)
        seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        count += seen
        inside &= ~seen | mask[v][y.clamp(0, height - 1), x.clamp(0, width - 1)]
    return inside, count / len(cameras)


def silhouettes(cameras: Camera, center: Tensor, radius: float) -> Tensor:
    """Alpha [V, H, W] of a ball, by the distance of each pixel's ray from its centre."""
    images = []
    for v in range(len(cameras)):
        rays = camera_rays(cameras[v].to(dtype=torch.float64))
        offset = center - rays.origins
        along = (offset * rays.directions).sum(dim=1)
        distance = (offset - along[:, None] * rays.directions).norm(dim=1)
        images.append(((distance < radius) & (along > 0)).float().reshape(cameras.size))
    return torch.stack(images)


def points_in_ball(center: Tensor, radius: float, count: int = 4000) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    way = torch.randn(count, 3, generator=draw, dtype=torch.float64)
    length = torch.rand(count, 1, generator=draw, dtype=torch.float64) ** (1 / 3)
    return center + radius * length * F.normalize(way, dim=1)


# -- focus -----------------------------------------------------------------------------------


def test_cameras_on_a_ring_focus_on_its_centre() -> None:
    center = torch.tensor([4.0, -7.0, 2.0], dtype=torch.float64)
    point, distance = focus(orbit_cameras(9, center, 3.5, 0.4, 0.8, (8, 8)))
    torch.testing.assert_close(point, center, rtol=0, atol=1e-6)
    assert distance == pytest.approx(3.5)


def test_the_focus_moves_with_the_cameras() -> None:
    cameras = orbit_cameras(5, (0.0, 0.0, 0.0), 3.0, 0.2, 0.8, (8, 8))
    motion = Similarity(look_at((1.0, 2.0, 3.0), (0.0, 0.0, 0.0))[:3, :3], torch.ones(3) * 8, 4.0)
    point, distance = focus(motion.apply_camera(cameras))
    torch.testing.assert_close(point, torch.ones(3).double() * 8, rtol=0, atol=1e-4)
    assert distance == pytest.approx(12.0, rel=1e-4)


def test_parallel_cameras_have_a_focus_too() -> None:
    eyes = torch.tensor([[0.0, 0.0, 5.0], [1.0, 0.0, 5.0], [0.0, 1.0, 6.0]])
    cameras = Camera.from_fov(0.7, (8, 8), look_at(eyes, eyes - torch.tensor([0.0, 0.0, 1.0])))
    point, distance = focus(cameras)
    assert point.isfinite().all() and math.isfinite(distance)
    torch.testing.assert_close(point[:2], torch.tensor([1 / 3, 1 / 3]).double(), rtol=0, atol=1e-4)


def test_cameras_in_one_place_have_no_focus() -> None:
    eyes = torch.tensor([[2.0, 1.0, 0.0]]).expand(3, 3)
    cameras = Camera.from_fov(0.7, (8, 8), look_at(eyes, eyes + torch.eye(3)[[0, 1, 1]]))
    with pytest.raises(InputError, match="stand in one place"):
        focus(cameras)


def test_poses_with_opengl_axes_are_noticed() -> None:
    cameras = orbit_cameras(6, (0.0, 0.0, 0.0), 3.0, 0.4, 0.8, (8, 8))
    flipped = replace(cameras, world_from_cam=opencv_from_opengl(cameras.world_from_cam))
    with pytest.raises(InputError, match="check the axes of their poses"):
        focus(flipped)


# -- carving ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene() -> tuple[AnalyticField, Camera, Tensor]:
    field = AnalyticField()
    data = photograph(field, ring(20, 56))
    return field, data.cameras, data.images[..., 3]


def test_carving_keeps_all_of_the_scene(scene: tuple[AnalyticField, Camera, Tensor]) -> None:
    field, cameras, alpha = scene
    cube, cells = carve_scene(cameras, alpha)
    x = torch.rand(60_000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    solid = x[field.sigma(x) > 0.5 * field.peak]
    assert len(solid) > 3000
    assert kept(cube, cells, solid).all()


def test_carving_keeps_the_hull_and_at_most_two_pixels_around_it(
    scene: tuple[AnalyticField, Camera, Tensor],
) -> None:
    _, cameras, alpha = scene
    cube, cells = carve_scene(cameras, alpha)
    kept_cells, points = cells.reshape(-1), centers(cube, CELLS)
    exact, seen = hull(cameras, alpha, points, 0)
    assert kept_cells[exact & (seen > 0.55)].all()  # what few cameras see is left out
    wide, _ = hull(cameras, alpha, points, 2)
    assert not (kept_cells & ~wide).any()
    assert cells.sum() < 1.5 * exact.sum()


def test_the_cube_is_tight_around_the_cells(scene: tuple[AnalyticField, Camera, Tensor]) -> None:
    _, cameras, alpha = scene
    _, cells = carve_scene(cameras, alpha)
    index = cells.nonzero()
    extent = (index.amax(dim=0) - index.amin(dim=0) + 1) / CELLS
    assert 0.85 < float(extent.max()) <= 1.0
    margins = torch.stack([index.amin(dim=0), CELLS - 1 - index.amax(dim=0)])
    assert ((margins[0] - margins[1]).abs() <= 4).all()  # and centred


@pytest.mark.parametrize(
    ("fov", "distance", "size", "center"),
    [
        (0.7, 3.2, (64, 64), (0.5, 0.2, -0.3)),
        (0.7, 3.2, (300, 200), (0.0, 0.0, 0.0)),  # masks are reduced to half
        (1.6, 1.5, (128, 128), (0.5, 0.3, 0.2)),  # wide and near
        (0.25, 9.0, (64, 64), (0.4, 0.4, 0.4)),
    ],
)
def test_carving_keeps_a_ball_wherever_it_is(
    fov: float, distance: float, size: tuple[int, int], center: tuple[float, float, float]
) -> None:
    cameras = sphere_cameras(14, torch.zeros(3).double(), distance, fov, size, seed=3)
    middle = torch.tensor(center, dtype=torch.float64)
    cube, cells = carve_scene(cameras, silhouettes(cameras, middle, 0.4))
    assert kept(cube, cells, points_in_ball(middle, 0.39)).all()
    volume = float(cells.sum()) * (2 * cube.s / CELLS) ** 3
    assert volume < 2.2 * 4 / 3 * math.pi * 0.4**3


@pytest.mark.parametrize("stretch", [(1.0, 4.0), (4.0, 1.0)])
def test_pixels_need_not_be_square(stretch: tuple[float, float]) -> None:
    """Stretching a picture with its intrinsics changes what a pixel is, not what is seen."""
    cameras = sphere_cameras(14, torch.zeros(3).double(), 3.0, 0.7, (60, 60), seed=2)
    sx, sy = stretch
    K = cameras.K * torch.tensor([[sx], [sy], [1.0]], dtype=torch.float64)
    cameras = replace(cameras, K=K, size=(round(60 * sy), round(60 * sx)))
    middle = torch.tensor([0.1, 0.35, -0.3], dtype=torch.float64)
    cube, cells = carve_scene(cameras, silhouettes(cameras, middle, 0.12))
    assert kept(cube, cells, points_in_ball(middle, 0.116)).all()


def test_carving_follows_a_scene_that_is_moved_and_scaled() -> None:
    cameras = sphere_cameras(10, torch.zeros(3).double(), 3.0, 0.7, (40, 40), seed=1)
    middle = torch.tensor([0.2, 0.1, -0.2], dtype=torch.float64)
    alpha = silhouettes(cameras, middle, 0.5)
    motion = Similarity(torch.eye(3).double(), torch.tensor([50.0, 3.0, -8.0]).double(), 7.0)
    cube, cells = carve_scene(cameras, alpha)
    moved, again = carve_scene(motion.apply_camera(cameras), alpha)
    torch.testing.assert_close(moved.matrix(), motion.compose(cube).matrix(), rtol=1e-6, atol=1e-5)
    assert (cells != again).float().mean() < 1e-3


def test_a_cell_that_few_cameras_see_is_not_part_of_the_scene() -> None:
    """Wide pictures see far beyond the object; there the masks would carve nothing."""
    cameras = orbit_cameras(12, (0.0, 0.0, 0.0), 3.0, 0.3, 0.9, (48, 48)).to(dtype=torch.float64)
    cube, cells = carve_scene(cameras, silhouettes(cameras, torch.zeros(3).double(), 0.4))
    assert cube.s < 0.6
    behind = 2.0 * F.normalize(points_in_ball(torch.zeros(3).double(), 1.0), dim=1)
    assert not kept(cube, cells, behind).any()


@pytest.mark.parametrize("masks", ["empty", "contradictory"])
def test_masks_that_agree_on_nothing_are_an_error(masks: str) -> None:
    cameras = orbit_cameras(8, (0.0, 0.0, 0.0), 3.0, 0.5, 0.7, (40, 40))
    alpha = torch.zeros(8, 40, 40)
    if masks == "contradictory":
        alpha[::2, :4, :4] = 1.0
        alpha[1::2, -4:, :4] = 1.0
    with pytest.raises(InputError, match=r"check the .*alpha channel"):
        carve_scene(cameras, alpha)


def test_a_picture_without_foreground_has_no_say() -> None:
    cameras = sphere_cameras(9, torch.zeros(3).double(), 3.0, 0.7, (32, 32), seed=0)
    alpha = silhouettes(cameras, torch.zeros(3).double(), 0.5)
    alpha[4] = 0.0
    cube, cells = carve_scene(cameras, alpha)
    assert kept(cube, cells, points_in_ball(torch.zeros(3).double(), 0.48)).all()


def test_any_alpha_above_zero_is_foreground() -> None:
    cameras = sphere_cameras(8, torch.zeros(3).double(), 3.0, 0.7, (32, 32), seed=0)
    solid = silhouettes(cameras, torch.zeros(3).double(), 0.5)
    (a, cells), (b, faint) = carve_scene(cameras, solid), carve_scene(cameras, solid * 0.01)
    assert torch.equal(cells, faint) and torch.equal(a.matrix(), b.matrix())


def test_an_open_scene_is_the_cube_between_the_cameras() -> None:
    cameras = orbit_cameras(8, (1.0, 2.0, 3.0), 4.0, 0.0, 0.7, (8, 8))
    cube, cells = open_scene(cameras)
    torch.testing.assert_close(cube.t, torch.tensor([1.0, 2.0, 3.0]).double(), rtol=0, atol=1e-5)
    assert cube.s == pytest.approx(4.0) and cells.all()
