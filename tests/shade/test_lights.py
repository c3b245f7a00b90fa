"""Lights against the integrals that they stand for."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill.geometry.harmonics import sh_basis
from geodistill.shade.lights import (
    AMBIENT,
    environment,
    headlight,
    irradiance_coefficients,
    unlit,
)

HEIGHT, WIDTH = 64, 128


def directions() -> tuple[Tensor, Tensor]:
    """Directions [H, W, 3] of the map's pixels, z up and the middle along +x, and solid angles."""
    polar = (torch.arange(HEIGHT).double() + 0.5) * math.pi / HEIGHT
    azimuth = math.pi - (torch.arange(WIDTH).double() + 0.5) * 2 * math.pi / WIDTH
    polar, azimuth = polar[:, None], azimuth[None]
    parts = polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos() + 0 * azimuth
    area = polar.sin() * (math.pi / HEIGHT) * (2 * math.pi / WIDTH) + 0 * azimuth
    return torch.stack(parts, -1), area


def normals(count: int = 20) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(count, 3, generator=draw, dtype=torch.float64), dim=-1)


def integrated(radiance: Tensor, normal: Tensor) -> Tensor:
    """Irradiance as the sum over all pixels of the map."""
    d, area = directions()
    cosine = torch.einsum("hwk,nk->nhw", d, normal).clamp_min(0)
    return torch.einsum("nhw,hw,hwc->nc", cosine, area, radiance)


def test_a_white_environment_shows_the_albedo() -> None:
    light = environment(torch.ones(HEIGHT, WIDTH, 3).double())
    albedo = torch.rand(20, 3).double()
    torch.testing.assert_close(light(albedo, normals(), normals()), albedo, rtol=0, atol=1e-3)


def test_smooth_environments_give_the_integral() -> None:
    """Order 2 is exact for radiance of order 2, whose irradiance has no other terms."""
    draw = torch.Generator().manual_seed(1)
    d, _ = directions()
    weights = torch.randn(9, 3, generator=draw, dtype=torch.float64)
    weights[0] += 8
    radiance = sh_basis(d, 2) @ weights
    found = sh_basis(normals(), 2) @ irradiance_coefficients(radiance)
    expected = integrated(radiance, normals())
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-2)


def test_a_bright_half_is_within_a_few_percent() -> None:
    d, _ = directions()
    radiance = (d[..., 1:2] < 0).double().expand(-1, -1, 3)
    found = sh_basis(normals(), 2) @ irradiance_coefficients(radiance)
    error = (found - integrated(radiance, normals())).abs().max()
    assert error < 0.06 * math.pi
    light = environment(radiance)
    faces = torch.tensor([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).double()
    front, back, top = light(torch.ones(3, 3).double(), faces, faces)[:, 0]
    assert front > 0.9 and back < 0.1 and abs(top - 0.5) < 0.01


def test_the_right_half_of_a_map_is_where_y_is_negative() -> None:
    radiance = torch.zeros(HEIGHT, WIDTH, 3)
    radiance[:, WIDTH // 2 : WIDTH * 3 // 4] = 1  # from +x to -y
    light = environment(radiance)
    faces = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]) / math.sqrt(2)
    lit, dark, beside = light(torch.ones(3, 3), faces, faces)[:, 0]
    assert lit > 2 * beside and dark < 0.05


def test_the_headlight_is_white_in_front_and_dim_at_the_edge() -> None:
    albedo = torch.tensor([[0.2, 0.5, 1.0]])
    towards = torch.tensor([[0.0, 0.0, 1.0]])
    torch.testing.assert_close(headlight(albedo, towards, towards), albedo)
    aside = torch.tensor([[1.0, 0.0, 0.0]])
    torch.testing.assert_close(headlight(albedo, aside, towards), AMBIENT * albedo)
    torch.testing.assert_close(headlight(albedo, -towards, towards), AMBIENT * albedo)
    assert torch.equal(unlit(albedo, aside, towards), albedo)


def test_lights_are_differentiable() -> None:
    light = environment(directions()[0].abs())
    albedo = torch.rand(4, 3).double()
    for shade in (light, headlight):
        inputs = albedo.requires_grad_(), normals(4).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda a, n, shade=shade: shade(a, n, normals(4).roll(1, 0)), inputs
        )
