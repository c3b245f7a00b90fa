"""Splats through a camera: projection, colours and image against closed forms; the operator."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from geodistill import rays
from geodistill.cameras import Camera, Similarity, look_at, orbit_cameras, rotations
from geodistill.checks import GeodistillError, UsageError
from geodistill.geometry.splats import Splats
from geodistill.render.splats import (
    LOW_PASS_PX2,
    SplatFootprint,
    near_depth,
    project,
    render_splats,
    splat_colors,
)

# torch warns of what is new in its CSR tensors, which only tests and exact solves ask for.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse")

CAMERA = orbit_cameras(1, (0, 0, 0), 3.0, 0.3, 0.9, (45, 60))[0]
AXIAL = Camera.from_fov(0.8, (33, 41), torch.eye(4))


def cloud(count: int = 200, degree: int = 0, dtype: torch.dtype = torch.float32) -> Splats:
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    return Splats(
        means=0.5 * normal(count, 3),
        rotations=torch.nn.functional.normalize(normal(count, 4), dim=1),
        log_scales=0.5 * normal(count, 3) - 2.8,
        opacity_logits=normal(count),
        sh=0.5 * normal(count, (degree + 1) ** 2, 3),
    )


def one(mean: tuple[float, float, float], deviation: float, logit: float = 0.0) -> Splats:
    return Splats(
        means=torch.tensor([mean]),
        rotations=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        log_scales=torch.full((1, 3), math.log(deviation)),
        opacity_logits=torch.tensor([logit]),
        sh=torch.zeros(1, 1, 3),
    )


def quaternions(vectors: Tensor) -> Tensor:
    """Of the rotations about vectors [..., 3] by their lengths."""
    half = 0.5 * vectors.norm(dim=-1, keepdim=True)
    return torch.cat([half.cos(), half.sin() * torch.nn.functional.normalize(vectors, dim=-1)], -1)


def product(p: Tensor, q: Tensor) -> Tensor:
    """Hamilton's product of quaternions [4] and [N, 4]: first q, then p."""
    scalar = p[0] * q[:, :1] - (q[:, 1:] @ p[1:])[:, None]
    cross = torch.linalg.cross(p[1:].expand(len(q), 3), q[:, 1:])
    return torch.cat([scalar, p[0] * q[:, 1:] + q[:, :1] * p[1:] + cross], dim=1)


# Projection


def test_an_isotropic_splat_on_the_axis_is_a_gaussian() -> None:
    footprint = SplatFootprint.from_camera(one((0, 0, 5.0), 0.3, logit=1.0), AXIAL)
    image = footprint.row_sums().view(AXIAL.size)
    focal_px = float(AXIAL.K[0, 0])
    variance = (focal_px * 0.3 / 5.0) ** 2 + LOW_PASS_PX2
    x, y = torch.arange(41) + 0.5 - 20.5, torch.arange(33) + 0.5 - 16.5
    expected = torch.sigmoid(torch.tensor(1.0)) * torch.exp(
        -(x**2 + y[:, None] ** 2) / (2 * variance)
    )
    expected = expected.where(expected >= 1 / 255, 0.0)
    torch.testing.assert_close(image, expected, rtol=1e-4, atol=1e-6)
    assert 0 < int((expected == 0).sum()) < image.numel()


def test_projection_is_the_linearised_camera() -> None:
    """Covariances by the derivative of what projects points, and by matrices of rotations."""
    draw = torch.Generator().manual_seed(1)
    vectors = torch.randn(20, 3, generator=draw, dtype=torch.float64)
    splats = replace(cloud(20, dtype=torch.float64), rotations=1.7 * quaternions(vectors))
    camera = replace(CAMERA, K=CAMERA.K + torch.tensor([[3.0, 1.5, -2.0], [0, -4, 1], [0, 0, 0]]))
    camera = camera.to(dtype=torch.float64)
    found = project(splats, camera)
    pixels, depths = rays.project(camera, splats.means)
    torch.testing.assert_close(found.means_px, pixels)
    torch.testing.assert_close(found.depths, depths)
    torch.testing.assert_close(found.opacities, torch.sigmoid(splats.opacity_logits))
    for i in range(20):
        slope = torch.autograd.functional.jacobian(
            lambda point: rays.project(camera, point)[0], splats.means[i]
        )
        axes = slope @ rotations(vectors[i]) @ splats.log_scales[i].exp().diag()
        covariance = axes @ axes.T + LOW_PASS_PX2 * torch.eye(2)
        a, b, c = found.conics[i]
        inverse = torch.stack([torch.stack([a, b]), torch.stack([b, c])])
        torch.testing.assert_close(inverse, torch.linalg.inv(covariance))


def test_moving_splats_and_camera_together_changes_nothing() -> None:
    splats = cloud(degree=0)
    before = render_splats(splats, CAMERA.to(dtype=torch.float64), 0.3)
    turn = torch.tensor([0.3, -1.1, 0.7], dtype=torch.float64)
    motion = Similarity(rotations(turn), torch.tensor([4.0, -7.0, 2.5]).double(), 1.0)
    moved = replace(
        splats,
        means=motion.apply(splats.means),
        rotations=product(quaternions(turn).float(), splats.rotations),
    )
    after = render_splats(moved, motion.apply_camera(CAMERA.to(dtype=torch.float64)), 0.3)
    for a, b in zip(after, before, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=5e-5 * float(b.abs().max()))


@pytest.mark.parametrize("s", [7.0, 1e-4])
def test_a_larger_scene_from_further_away_looks_the_same(s: float) -> None:
    splats, camera = cloud(), CAMERA.to(dtype=torch.float64)
    grow = Similarity(torch.eye(3).double(), torch.zeros(3).double(), s)
    grown = replace(splats, means=s * splats.means, log_scales=splats.log_scales + math.log(s))
    a, b = render_splats(splats, camera), render_splats(grown, grow.apply_camera(camera))
    torch.testing.assert_close(a.image, b.image, rtol=0, atol=1e-5)
    torch.testing.assert_close(a.depth, b.depth / s, rtol=1e-4, atol=1e-4)


def test_what_is_far_away_does_not_move_the_near_plane() -> None:
    splats = cloud()
    far = replace(splats, means=torch.cat([splats.means[:-20], 1e4 * splats.means[-20:]]))
    assert near_depth(far) < 1.5 * near_depth(splats) < 0.01


def test_a_scene_far_from_the_origin_keeps_its_precision() -> None:
    splats = cloud()
    splats = replace(splats, means=(splats.means * 8).round() / 8)  # what float32 holds out there
    far = torch.tensor([2.0**20, -(2.0**19), 2.0**18], dtype=torch.float64)
    motion = Similarity(torch.eye(3).double(), far, 1.0)
    camera = CAMERA.to(dtype=torch.float64)
    camera = replace(camera, world_from_cam=camera.world_from_cam.float().double())
    near = render_splats(splats, camera)
    moved = replace(splats, means=motion.apply(splats.means.double()).float())
    there = render_splats(moved, motion.apply_camera(camera))
    torch.testing.assert_close(there.image, near.image, rtol=0, atol=1e-5)
    torch.testing.assert_close(there.depth, near.depth, rtol=0, atol=1e-5)


@pytest.mark.parametrize("z", [-3.0, 0.0, 0.009])
def test_behind_and_at_the_camera_nothing_is_drawn(z: float) -> None:
    splats = one((0.0, 0.0, z), 0.5)
    given = replace(splats, means=splats.means.requires_grad_())
    footprint = SplatFootprint.from_camera(given, AXIAL)
    total = footprint.row_sums().sum()
    assert total == 0 and footprint.column_sums() == 0
    (grad,) = torch.autograd.grad(total, given.means)
    assert torch.equal(grad, torch.zeros(1, 3))


def test_extreme_splats_stay_finite() -> None:
    """Beside the camera, of any size, far away, with quaternions of hardly any length."""
    splats = Splats(
        means=torch.tensor([[5, 0, 0.02], [0, 0, 1], [0, 0, 1], [0, 0, 1e30], [1e30, 0, 1]]),
        rotations=torch.full((5, 4), 1e-20),
        log_scales=torch.tensor([0.0, 80.0, -80.0, 0.0, 0.0])[:, None].expand(5, 3),
        opacity_logits=torch.tensor([9.0, -3.0, 90.0, 0.0, 0.0]),
        sh=torch.zeros(5, 1, 3),
    )
    view = render_splats(splats, AXIAL)
    assert all(v.isfinite().all() for v in view)
    assert view.opacity.min() > 0.04 and view.opacity.max() > 0.9


# Colours


def scipy_basis(directions: Tensor) -> Tensor:
    """[N, 16] real harmonics with the Condon-Shortley phase, from scipy's complex ones."""
    special = pytest.importorskip("scipy.special")
    x, y, z = directions.double().unbind(1)
    polar, azimuth = torch.acos(z).numpy(), torch.atan2(y, x).numpy()
    columns = []
    for band in range(4):
        for order in range(-band, band + 1):
            value = special.sph_harm_y(band, abs(order), polar, azimuth)
            part = value.imag if order < 0 else value.real
            columns.append(torch.from_numpy(part * (math.sqrt(2) if order else 1)))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colours_are_harmonics_of_the_direction_from_the_camera(degree: int) -> None:
    splats = cloud(50, degree, torch.float64)
    splats = replace(splats, sh=4 * splats.sh)
    directions = splats.means - CAMERA.centers.double()
    directions = directions / directions.norm(dim=1, keepdim=True)
    basis = scipy_basis(directions)[:, : (degree + 1) ** 2]
    expected = (0.5 + torch.einsum("nk,nkc->nc", basis, splats.sh)).clamp(min=0)
    torch.testing.assert_close(splat_colors(splats, CAMERA), expected)
    assert 0 < int((expected == 0).sum()) < expected.numel()


@pytest.mark.parametrize(
    "mean, index, value",
    [((0.0, 3, 0), 1, -0.4886025), ((0.0, 0, 3), 2, 0.4886025), ((3.0, 0, 0), 3, -0.4886025)],
)
def test_the_first_band_along_the_axes(
    mean: tuple[float, float, float], index: int, value: float
) -> None:
    splat = one(mean, 0.1)
    splats = replace(splat, sh=splat.sh.new_zeros(1, 4, 3))
    splats.sh[0, index] = torch.tensor([0.3, -0.2, 0.0])
    expected = 0.5 + value * torch.tensor([[0.3, -0.2, 0.0]])
    torch.testing.assert_close(splat_colors(splats, AXIAL), expected)


# The operator


@pytest.fixture(scope="module")
def footprint() -> SplatFootprint:
    return SplatFootprint.from_camera(cloud(), CAMERA)


def test_the_image_of_ones_is_the_row_sums(footprint: SplatFootprint) -> None:
    ones = footprint.render(torch.ones(footprint.elements, 3))
    sums = footprint.row_sums()
    torch.testing.assert_close(ones, sums[:, None].expand(-1, 3), rtol=1e-6, atol=1e-7)
    assert sums.max() <= 1 and sums.min() >= 0 and 0.2 < sums.mean() < 0.9


@pytest.mark.parametrize("channels", [1, 5, 64])
def test_the_adjoint_is_one(footprint: SplatFootprint, channels: int) -> None:
    draw = torch.Generator().manual_seed(1)
    features = torch.randn(footprint.elements, channels, generator=draw)
    pixels = torch.randn(footprint.pixels, channels, generator=draw)
    image, lifted = footprint.render(features).double(), footprint.adjoint(pixels).double()
    gap = (image * pixels).sum() - (features * lifted).sum()
    assert abs(float(gap)) < 1e-6 * float(image.norm() * pixels.norm())


def test_the_matrix_is_the_operator(footprint: SplatFootprint) -> None:
    matrix = footprint.to_csr()
    dense = matrix.to_dense()
    features = torch.randn(footprint.elements, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(matrix @ features, footprint.render(features), rtol=0, atol=2e-6)
    torch.testing.assert_close(dense.sum(0), footprint.column_sums(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(dense.sum(1), footprint.row_sums(), rtol=0, atol=2e-6)
    assert dense.min() == 0


def test_lifting_a_rendered_constant_gives_it_back(footprint: SplatFootprint) -> None:
    constant = torch.tensor([[0.3, -2.0]])
    image = footprint.render(constant.expand(footprint.elements, 2))
    weights = footprint.adjoint(footprint.row_sums()[:, None])
    seen = footprint.column_sums() > 0
    lifted = (footprint.adjoint(image) / weights)[seen]
    torch.testing.assert_close(lifted, constant.expand_as(lifted))
    assert seen.sum() > 100


def test_the_gradient_of_an_image_is_its_difference_quotient() -> None:
    splats = cloud(5, degree=2, dtype=torch.float64)
    splats = replace(splats, log_scales=splats.log_scales + 1.0, sh=splats.sh.abs())
    camera = CAMERA.scaled(0.2)
    parts = [v.clone().requires_grad_() for v in vars(splats).values()]

    assert render_splats(splats, camera).opacity.mean() > 0.1
    assert torch.autograd.gradcheck(lambda *p: tuple(render_splats(Splats(*p), camera, 0.4)), parts)
    footprint = SplatFootprint.from_camera(Splats(*parts), camera)
    features = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(footprint.render, features)


def test_float32_gradients_are_those_of_float64() -> None:
    results = []
    for dtype in (torch.float32, torch.float64):
        splats = cloud(60, degree=1, dtype=dtype)
        parts = [v.clone().requires_grad_() for v in vars(splats).values()]
        view = render_splats(Splats(*parts), CAMERA, 0.4)
        loss = view.image.square().mean() + (view.depth * view.opacity.detach()).mean()
        results.append(torch.autograd.grad(loss, parts))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=2e-4 * float(b.abs().max()))


# The image


def test_a_wall_has_its_distance_and_its_colour_over_the_background() -> None:
    wall = replace(one((0, 0, 4.0), 200.0, logit=1.0), sh=torch.full((1, 1, 3), 0.7))
    wall = replace(wall, log_scales=torch.log(torch.tensor([[200.0, 200.0, 1e-3]])))
    background = torch.tensor([0.1, 0.5, 0.9])
    view = render_splats(wall, AXIAL, background)
    opacity, color = torch.sigmoid(torch.tensor(1.0)), 0.5 + 0.28209479177387814 * 0.7
    torch.testing.assert_close(view.opacity, opacity.expand(33, 41), rtol=1e-4, atol=0)
    expected = opacity * color + (1 - opacity) * background
    torch.testing.assert_close(view.image, expected.expand(33, 41, 3), rtol=1e-4, atol=0)
    directions = rays.camera_rays(AXIAL).directions
    distance = (4.0 / directions[:, 2]).view(33, 41)
    torch.testing.assert_close(view.depth, distance, rtol=1e-4, atol=0)
    picture = torch.rand(33, 41, 3, generator=torch.Generator().manual_seed(0))
    over = render_splats(wall, AXIAL, picture)
    change = (1 - opacity) * (picture - background)
    torch.testing.assert_close(over.image - view.image, change, rtol=0, atol=1e-4)


# What is refused

DISTORTED = replace(AXIAL, distortion=torch.tensor([0.1, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    "splats, camera, kind, message",
    [
        (cloud(3), CAMERA[None], UsageError, r"splats take one camera, got a batch of \[1\]"),
        (cloud(3), DISTORTED, UsageError, "pinhole cameras, this one's lens distorts: undistort"),
    ],
)
def test_refused(splats: Splats, camera: Camera, kind: type[GeodistillError], message: str) -> None:
    with pytest.raises(kind, match=message):
        render_splats(splats, camera)


def test_a_lens_without_distortion_is_a_pinhole() -> None:
    plain = replace(AXIAL, distortion=torch.zeros(4))
    splats = one((0, 0, 5.0), 0.3)
    assert torch.equal(render_splats(splats, plain).image, render_splats(splats, AXIAL).image)


def test_a_camera_that_looks_away_sees_nothing() -> None:
    away = replace(CAMERA, world_from_cam=look_at((3.0, 0, 0), (9.0, 0, 0)))
    assert not render_splats(cloud(), away).opacity.any()
