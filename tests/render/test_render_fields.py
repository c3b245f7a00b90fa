"""Volume rendering against closed forms, against itself in another frame, and as a function."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from scenes import AnalyticField, ring
from torch import Tensor

from geodistill.cameras import Camera, Similarity, look_at
from geodistill.geometry.fields import ARCHITECTURES, Field, build_field
from geodistill.geometry.fields.composite import CompositeConfig
from geodistill.geometry.fields.mlp import MlpConfig
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.fields.plenoxels import CHANNELS, Plenoxels, PlenoxelsConfig
from geodistill.geometry.fields.tensorf import TensorfConfig, TensorfCpConfig
from geodistill.metrics.image import psnr
from geodistill.rays import Rays, camera_rays
from geodistill.render.fields import (
    GBuffer,
    composite,
    render_rays,
    render_view,
    render_views,
)
from geodistill.render.samples import RayFootprint, march, unit_camera


class Medium(Field):
    """A cube of homogeneous or graded smoke in one colour: everything about it is known."""

    def __init__(self, sigma: Callable[[Tensor], Tensor], color: tuple[float, float, float]):
        super().__init__("medium", {})
        self.law, self.rgb = sigma, color

    def latent(self, u: Tensor) -> Tensor:
        return self.law(u)[:, None]

    def sigma_of(self, latent: Tensor) -> Tensor:
        return latent[:, 0]

    def rgb_of(self, latent: Tensor, directions: Tensor) -> Tensor:
        return latent.new_tensor(self.rgb).expand(len(latent), 3)


def smoke(sigma: float) -> Medium:
    return Medium(lambda u: torch.full_like(u[:, 0], sigma), (0.9, 0.5, 0.1))


ALONG_X = Rays(torch.tensor([[-3.0, 0.2, -0.4]]), torch.tensor([[1.0, 0.0, 0.0]]))


@pytest.fixture(scope="module")
def scene() -> AnalyticField:
    return AnalyticField()


@pytest.fixture
def movable(scene: AnalyticField) -> AnalyticField:
    return copy.deepcopy(scene)


@pytest.mark.parametrize("sigma", [0.019, 0.05, 0.7, 3.0])
def test_homogeneous_smoke_obeys_beer_and_lambert(sigma: float) -> None:
    view = render_rays(smoke(sigma), ALONG_X)
    opacity = 1 - math.exp(-2 * sigma)
    # The mean of an exponential distribution that is cut off after the length 2.
    depth = 2.0 + 1 / sigma - 2.0 * math.exp(-2 * sigma) / opacity
    assert float(view.opacity) == pytest.approx(opacity, abs=2e-3)
    assert float(view.depth) == pytest.approx(depth, abs=5e-3)
    torch.testing.assert_close(
        view.color, torch.tensor([[0.9, 0.5, 0.1]]) * opacity, rtol=0, atol=2e-3
    )


def test_opacity_depends_on_the_integral_of_density_alone() -> None:
    graded = Medium(lambda u: 0.4 + 0.3 * u[:, 0], (1.0, 1.0, 1.0))
    oblique = Rays(torch.tensor([[-2.0, -1.0, 0.0]]), torch.tensor([[0.8, 0.6, 0.0]]))
    # The ray is inside for x from -1 to 2/3 and leaves where y = 1; the integral is exact.
    length = (2 / 3 + 1) / 0.8
    mean = 0.4 + 0.3 * (2 / 3 - 1) / 2
    expected = 1 - math.exp(-mean * length)
    assert float(render_rays(graded, oblique).opacity) == pytest.approx(expected, abs=2e-3)


def test_smoke_outside_the_occupancy_grid_is_not_seen() -> None:
    field = smoke(0.7)
    field.occupancy = torch.zeros(4, 4, 4, dtype=torch.bool)
    field.occupancy[1] = True  # x in [-1/2, 0)
    view = render_rays(field, ALONG_X)
    assert float(view.opacity) == pytest.approx(1 - math.exp(-0.35), abs=2e-3)
    assert 2.5 < float(view.depth) < 3.0


def test_depth_is_in_world_units() -> None:
    field = smoke(0.7)
    unit = render_rays(field, ALONG_X)
    field.world_from_field = torch.diag(torch.tensor([5.0, 5.0, 5.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(render_rays(field, ALONG_X).depth, 5.0 * unit.depth)
    torch.testing.assert_close(render_rays(field, ALONG_X).opacity, unit.opacity)


def test_rays_that_meet_nothing_are_transparent_black() -> None:
    away = Rays(torch.tensor([[3.0, 3.0, 3.0]]), torch.tensor([[0.0, 0.0, 1.0]]))
    view = render_rays(smoke(50.0), away, normals=True)
    assert view.normal is not None
    for channel in (view.color, view.opacity, view.depth, view.normal):
        assert torch.equal(channel, torch.zeros_like(channel))


def test_a_view_over_a_background() -> None:
    view = GBuffer(torch.tensor([[0.2, 0.1, 0.0]]), torch.tensor([0.25]), torch.zeros(1))
    torch.testing.assert_close(view.over(1.0), torch.tensor([[0.95, 0.85, 0.75]]))
    torch.testing.assert_close(
        view.over(torch.tensor([0.0, 0.4, 0.8])), torch.tensor([[0.2, 0.4, 0.6]])
    )


def test_a_view_is_its_rays_row_by_row(scene: AnalyticField) -> None:
    camera = ring(1, 20)[0]
    camera = Camera(camera.K, camera.world_from_cam, (14, 20))
    view = render_view(scene, camera)
    assert view.color.shape == (14, 20, 3)
    rays = camera_rays(unit_camera(scene, camera), torch.tensor([[3, 11], [19, 0], [8, 6]]))
    some = render_rays(scene, rays)
    for i, (x, y) in enumerate([(3, 11), (19, 0), (8, 6)]):
        torch.testing.assert_close(view.color[y, x], some.color[i])
        torch.testing.assert_close(view.depth[y, x], some.depth[i])
        torch.testing.assert_close(view.opacity[y, x], some.opacity[i])


def test_chunks_do_not_show(scene: AnalyticField, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = ring(1, 20)[0]
    whole = render_view(scene, camera, normals=True)
    monkeypatch.setattr("geodistill.render.fields.RAYS_PER_CHUNK", 37)
    parts = render_view(scene, camera, normals=True)
    assert whole.normal is not None and parts.normal is not None
    torch.testing.assert_close(whole.color, parts.color, rtol=0, atol=1e-5)
    torch.testing.assert_close(whole.depth, parts.depth, rtol=0, atol=1e-5)
    torch.testing.assert_close(whole.normal, parts.normal, rtol=0, atol=1e-3)


def test_views_come_one_after_the_other(scene: AnalyticField) -> None:
    cameras = ring(3, 8)
    views = list(render_views(scene, cameras))
    assert len(views) == 3
    assert torch.equal(views[2].color, render_view(scene, cameras[2]).color)


def test_the_scene_converges_with_the_step(scene: AnalyticField) -> None:
    camera = ring(1, 24, seed=3)[0]
    limit = render_view(scene, camera, step=1 / 800)
    errors = [
        float((render_view(scene, camera, step=1 / n).color - limit.color).abs().mean())
        for n in (24, 48, 96, 192)
    ]
    assert limit.opacity.max() > 0.99 and limit.opacity.min() < 0.01
    assert all(fine < 0.75 * coarse for coarse, fine in pairwise(errors))
    assert errors[-1] < 3e-3


def moved(scene: AnalyticField, camera: Camera) -> tuple[Similarity, Camera]:
    """Put the scene somewhere else, turned and scaled, and the camera with it."""
    skew = torch.tensor([[0.0, -0.4, 0.9], [0.4, 0.0, 0.2], [-0.9, -0.2, 0.0]], dtype=torch.float64)
    motion = Similarity(torch.linalg.matrix_exp(skew), torch.tensor([30.0, -4, 9]).double(), 2.5)
    scene.world_from_field = motion.compose(scene.frame).matrix()
    return motion, motion.apply_camera(camera.to(dtype=torch.float64))


def test_moving_the_scene_with_its_camera_changes_nothing(movable: AnalyticField) -> None:
    camera = ring(1, 24)[0]
    before = render_view(movable, camera, normals=True)
    motion, follows = moved(movable, camera)
    after = render_view(movable, follows, normals=True)
    assert psnr(before.color, after.color) > 60.0
    torch.testing.assert_close(after.opacity, before.opacity, rtol=0, atol=1e-2)
    solid = before.opacity > 0.9
    torch.testing.assert_close(
        after.depth[solid], motion.s * before.depth[solid], rtol=1e-3, atol=1e-3
    )
    assert before.normal is not None and after.normal is not None
    turned = motion.rotate(before.normal[solid])
    assert (after.normal[solid] * turned).sum(dim=-1).median() > 0.9999


def test_normals_of_the_ball_point_outwards(movable: AnalyticField) -> None:
    above = look_at(torch.tensor([1.2, -1.4, 2.4]), torch.zeros(3))
    motion, camera = moved(movable, Camera.from_fov(0.66, (40, 40), above))
    view = render_view(movable, camera, normals=True)
    assert view.normal is not None
    rays = camera_rays(camera)
    hit = rays.origins + view.depth.reshape(-1, 1) * rays.directions
    offset = motion.inverse().apply(hit) - hit.new_tensor([0.1, 0.0, 0.15])
    on_ball = ((offset.norm(dim=1) - 0.45).abs() < 0.02) & (view.opacity.reshape(-1) > 0.99)
    assert on_ball.sum() > 50
    outward = motion.rotate(torch.nn.functional.normalize(offset[on_ball], dim=1))
    cosine = (outward * view.normal.reshape(-1, 3)[on_ball]).sum(dim=1)
    assert cosine.median() > 0.99 and cosine.quantile(0.1) > 0.9
    length = view.normal[view.opacity > 0.9].norm(dim=-1)
    torch.testing.assert_close(length, torch.ones_like(length))


def test_training_rays_and_whole_views_agree(scene: AnalyticField) -> None:
    rays = camera_rays(unit_camera(scene, ring(1, 24)[0]))
    samples = march(rays, scene.occupancy, 1 / 192)
    everywhere = torch.arange(len(samples))
    color, opacity, sigma, other = composite(scene, samples, everywhere, samples.u)
    view = render_rays(scene, rays)
    # In one batch, as training has them: the last bits of exp depend on a number's place in it.
    twice = scene.sigma(torch.cat([samples.u, samples.u]))
    assert torch.equal(torch.cat([sigma, other]), twice)
    torch.testing.assert_close(color, view.color, rtol=0, atol=6e-3)
    torch.testing.assert_close(opacity, view.opacity, rtol=0, atol=6e-3)


def test_what_is_not_lit_is_black(scene: AnalyticField) -> None:
    samples = march(camera_rays(unit_camera(scene, ring(1, 16)[0])), scene.occupancy, 1 / 96)
    lit = torch.arange(0, len(samples), 2)
    color, opacity, *_ = composite(scene, samples, lit, samples.u[:0])
    footprint = RayFootprint.from_density(scene.sigma(samples.u), samples)
    rgb = scene.rgb_of(scene.latent(samples.u), samples.d)
    rgb[1::2] = 0.0
    torch.testing.assert_close(color, footprint.render(rgb))
    torch.testing.assert_close(opacity, footprint.row_sums())


NGP = NgpConfig(levels=2, log2_size=6, base_resolution=3, max_resolution=6, hidden=8)
VM = TensorfConfig(resolution=8, density_rank=2, color_rank=2, floor=0.5)
TINY = {
    "ngp": NGP,
    "tensorf": VM,
    "tensorf-cp": TensorfCpConfig(resolution=8, density_rank=3, color_rank=4, floor=0.5),
    "plenoxels": PlenoxelsConfig(resolution=8),
    "mlp": MlpConfig(depth=3, width=16, octaves=2, bf16=False),
    "composite": CompositeConfig(NGP, VM),
}


def tiny(architecture: str) -> Field:
    field = build_field(architecture, TINY[architecture], seed=1).double()
    draw = torch.Generator().manual_seed(2)
    if isinstance(field, Plenoxels):
        values = torch.rand(512, CHANNELS, generator=draw, dtype=torch.float64) + 0.1
        field.allocate(torch.ones(8, 8, 8, dtype=torch.bool), values)
    for name, p in field.named_parameters():
        if "table" in name or "lines" in name or "planes" in name:
            p.data = torch.randn(p.shape, generator=draw, dtype=torch.float64)
    return field


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_gradient_of_an_image_is_its_difference_quotient(architecture: str) -> None:
    """In float64, along random directions through all parameters at once."""
    field = tiny(architecture)
    draw = torch.Generator().manual_seed(3)
    origins = torch.randn(12, 3, generator=draw, dtype=torch.float64) * 0.3 - 1.5
    directions = torch.nn.functional.normalize(-origins + 0.3 * torch.randn(12, 3, generator=draw))
    samples = march(Rays(origins, directions), torch.ones(2, 2, 2, dtype=torch.bool), 0.23)
    target = torch.rand(12, 4, generator=draw, dtype=torch.float64)
    everywhere = torch.arange(len(samples))
    parameters = list(field.parameters())

    def loss() -> Tensor:
        color, opacity, *_ = composite(field, samples, everywhere, samples.u[:0])
        return (torch.cat([color, opacity[:, None]], dim=1) - target).square().sum()

    gradient = torch.autograd.grad(loss(), parameters)
    h = 1e-7  # short enough to step over no kink of a ReLU
    for _ in range(3):
        way = [torch.randn(p.shape, generator=draw, dtype=torch.float64) for p in parameters]
        slope = float(sum((g * w).sum() for g, w in zip(gradient, way, strict=True)))
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, w in zip(parameters, way, strict=True):
                    p += sign * h * w
                ends.append(float(loss()))
                for p, w in zip(parameters, way, strict=True):
                    p -= sign * h * w
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-4, abs=1e-6)
        assert abs(slope) > 1e-4


def test_rays_without_samples_composite_to_nothing() -> None:
    field = tiny("tensorf").float()
    rays = Rays(torch.full((3, 3), 4.0), torch.tensor([[1.0, 0.0, 0.0]]).expand(3, 3))
    samples, none = march(rays, field.occupancy, 0.1), torch.zeros(0, dtype=torch.long)
    color, opacity, *_ = composite(field, samples, none, samples.u)
    assert torch.equal(color, torch.zeros(3, 3)) and torch.equal(opacity, torch.zeros(3))
