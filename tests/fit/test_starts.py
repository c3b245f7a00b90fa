"""Where splats begin, and the pictures that they are trained on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scenes import AnalyticField, photograph, ring

from geodistill.checks import InputError
from geodistill.fit.photographs import pinholes, premultiplied, reduced, shrunk
from geodistill.fit.starts import EXTENT, frame_of, points_of_data, splats_at
from geodistill.geometry.points import Points
from geodistill.geometry.splats import rotation_matrices
from geodistill.io.posed import PosedImages
from geodistill.rays import distort, project
from geodistill.render.splats import splat_colors
from tests.fit.splat_worlds import PLACE, known_splats, pictures, views

pytestmark = pytest.mark.usefixtures("coarse_hulls")


@pytest.fixture(scope="module")
def photos() -> PosedImages:
    return photograph(AnalyticField(), ring(12, 32))


def test_the_frame_follows_the_cameras() -> None:
    cameras = PLACE.apply_camera(views(9, 16).to(dtype=torch.float64))
    local = frame_of(cameras).inverse().apply_camera(cameras)
    assert float(local.centers.mean(0).norm()) < 1e-9
    assert float(local.centers.norm(dim=1).max()) == pytest.approx(1 / EXTENT)
    one_place = replace(cameras, world_from_cam=cameras.world_from_cam[:1].expand(9, 4, 4))
    with pytest.raises(InputError, match="all cameras stand in one place"):
        frame_of(one_place)


def test_points_of_masks_lie_on_the_hull_in_the_colours_of_the_pictures(
    photos: PosedImages,
) -> None:
    field = AnalyticField()
    points = points_of_data(photos, None, 400, 0)
    away = field._distance(points.positions.float())
    assert float(away.abs().median()) < 0.15
    draw = torch.Generator().manual_seed(0)
    anywhere = field._distance(torch.rand(2000, 3, generator=draw) * 2 - 1)
    assert float(away.abs().mean()) < 0.6 * float(anywhere.abs().mean())
    assert float(points.positions.std(0).min()) > 0.1
    assert points.colors is not None
    shown = points.colors[:, :3].float() / 255
    true = field.rgb_of(field.latent(points.positions.float()), torch.zeros(400, 3))
    grey = (true - true.mean(0)).abs().mean()
    assert float((shown - true).abs().mean()) < float(grey)
    again = points_of_data(photos, None, 400, 0)
    assert torch.equal(again.positions, points.positions)
    assert not torch.equal(points_of_data(photos, None, 400, 1).positions, points.positions)


def test_points_without_masks_fill_the_box_about_the_focus(photos: PosedImages) -> None:
    opaque = replace(photos, images=photos.images[..., :3])
    points = points_of_data(opaque, 1.0, 500, 0)
    low, high = points.positions.amin(0), points.positions.amax(0)
    assert bool((low < -2.8).all()) and bool((high > 2.8).all())
    assert float(points.positions.abs().max()) < 3.6


def test_splats_at_points() -> None:
    draw = torch.Generator().manual_seed(0)
    positions = 10 + torch.rand(60, 3, generator=draw).double()
    positions[1] = positions[0]  # coincident points are no reason for nothing
    colors = torch.randint(0, 256, (60, 4), generator=draw).to(torch.uint8)
    made = splats_at(Points(positions, colors), PLACE, 0.5, 0.2, 2)
    assert torch.allclose(PLACE.apply(made.means.double()), positions, atol=1e-4)
    distances = torch.cdist(made.means.double(), made.means.double())
    nearest = distances.sort(dim=1).values[:, 1:4]
    wanted = 0.5 * nearest.square().mean(1).sqrt()
    assert torch.allclose(made.log_scales.exp(), wanted[:, None].expand(60, 3).float(), rtol=1e-3)
    assert torch.allclose(made.opacity_logits.sigmoid(), torch.full((60,), 0.2))
    assert made.degree == 2 and not made.sh[:, 1:].any()
    shown = splat_colors(made, views(1, 8)[0])
    assert torch.allclose(shown, colors[:, :3] / 255, atol=1e-5)
    assert torch.allclose(rotation_matrices(made.rotations), torch.eye(3).expand(60, 3, 3))


def test_a_smaller_picture_is_the_mean_of_squares_through_the_same_lens() -> None:
    data = pictures(known_splats(), replace(views(2, 23), size=(21, 23)))
    camera, image = reduced(data, 1, 4)
    assert camera.size == (5, 5) and image.shape == (5, 5, 4)
    whole = premultiplied(data, data.images[1])
    by_hand = torch.stack(
        [
            torch.stack(
                [whole[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean((0, 1)) for x in range(5)]
            )
            for y in range(5)
        ]
    )
    assert torch.allclose(image, by_hand, atol=1e-6)
    points = torch.rand(9, 3) - 0.5
    assert torch.allclose(4 * project(camera, points)[0], project(data.cameras[1], points)[0])


def test_a_shrunk_data_set_is_its_reduced_pictures(photos: PosedImages) -> None:
    made = shrunk(photos, 4)
    for view in (0, 3):
        camera, image = reduced(photos, view, 4)
        assert made.cameras[view].size == camera.size
        assert torch.allclose(made.cameras[view].K, camera.K)
        # colours are stored as bytes beside their alpha
        assert torch.allclose(premultiplied(made, made.images[view]), image, atol=0.004)
    assert shrunk(photos, 1) is photos


def test_pictures_without_distortion_stay(photos: PosedImages) -> None:
    assert torch.equal(pinholes(photos).images, photos.images)
    zeros = replace(photos.cameras, distortion=torch.zeros(12, 4))
    same = pinholes(replace(photos, cameras=zeros))
    assert same.cameras.distortion is None and torch.equal(same.cameras.K, photos.cameras.K)


@pytest.mark.parametrize("k1", [-0.2, 0.25])
def test_distorted_pictures_become_those_of_pinholes(k1: float) -> None:
    """A smooth function of the distorted ray, seen through the lens and through the pinhole."""
    cameras = views(2, 40).to(dtype=torch.float64)
    lens = torch.tensor([[k1, 0.02, 0.01, -0.005]] * 2, dtype=torch.float64)
    cameras = replace(cameras, distortion=lens)
    y, x = torch.meshgrid(*[torch.arange(40, dtype=torch.float64) + 0.5] * 2, indexing="ij")
    place = torch.stack([x, y], dim=-1)
    image = torch.stack([place[..., 0] / 40, place[..., 1] / 40, 0 * x + 0.5, 0 * x + 1], dim=-1)
    data = PosedImages(cameras, image.float().expand(2, -1, -1, -1), ("a", "b"), "srgb", {})
    made = pinholes(data)
    assert made.cameras.distortion is None
    K = made.cameras.K[0]
    zoom = float(K[0, 0] / cameras.K[0, 0, 0])
    assert zoom == 1.0 if k1 < 0 else 1.0 < zoom < 1.2
    slopes = (place - K[:2, 2]) / torch.stack([K[0, 0], K[1, 1]])
    focal_px, center_px = cameras.K[0].diagonal()[:2], cameras.K[0, :2, 2]
    wanted = (distort(slopes, lens[0]) * focal_px + center_px) / 40
    inside = ((wanted > 0.5 / 40) & (wanted < 1 - 0.5 / 40)).all(-1)
    assert torch.allclose(made.images[0, inside, :2].double(), wanted[inside], atol=1e-5)
    assert bool(((wanted >= 0) & (wanted <= 1)).all())


def test_a_lens_that_folds_over_is_refused() -> None:
    cameras = replace(views(1, 24), distortion=torch.tensor([[-40.0, 0.0, 0.0, 0.0]]))
    data = PosedImages(cameras, torch.zeros(1, 24, 24, 3), ("fish.png",), "srgb", {})
    with pytest.raises(InputError, match=r"the lens of fish\.png distorts so strongly"):
        pinholes(data)
