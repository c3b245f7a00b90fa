"""Diffuse light on surfaces: from the camera, from an environment, or none at all.

A light is a function of linear albedo, unit normal and unit direction to the viewer, all [..., 3],
that returns the linear colour that is seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from geodistill.checks import check
from geodistill.geometry.harmonics import sh_basis

Light = Callable[[Tensor, Tensor, Tensor], Tensor]

AMBIENT = 0.25
"""How much of the headlight comes from all sides: surfaces seen from their edge stay visible."""


def unlit(albedo: Tensor, normal: Tensor, view_direction: Tensor) -> Tensor:
    """The albedo itself."""
    return albedo


def headlight(albedo: Tensor, normal: Tensor, view_direction: Tensor) -> Tensor:
    """A light at the camera on a Lambertian surface, white where that faces the camera."""
    cosine = (normal * view_direction).sum(-1, keepdim=True).clamp_min(0.0)
    return albedo * (AMBIENT + (1 - AMBIENT) * cosine)


def environment(radiance: Tensor) -> Light:
    """The light of an environment map on Lambertian surfaces, without shadows.

    Args:
        radiance: linear [H, W, 3], equirectangular: the first row around +z of the world, the last
            one around -z, the middle column along +x, and to the right of it -y.

    Irradiance by spherical harmonics to order 2, which is within a few percent of the integral
    (Ramamoorthi and Hanrahan, "An efficient representation for irradiance environment maps", 2001).
    """
    coefficients = irradiance_coefficients(radiance)

    def light(albedo: Tensor, normal: Tensor, view_direction: Tensor) -> Tensor:
        irradiance = sh_basis(normal, 2) @ coefficients.to(normal)
        return albedo * irradiance.clamp_min(0.0) / math.pi

    return light


def irradiance_coefficients(radiance: Tensor) -> Tensor:
    """Irradiance of a map [H, W, 3], as `environment` takes it, in spherical harmonics. [9, 3]"""
    check(radiance=(radiance, "H W 3"))
    height, width = radiance.shape[:2]
    polar = (torch.arange(height, device=radiance.device) + 0.5) * (math.pi / height)
    azimuth = (0.5 - (torch.arange(width, device=radiance.device) + 0.5) / width) * (2 * math.pi)
    sine, cosine = polar.sin()[:, None], polar.cos()[:, None]
    parts = sine * azimuth.cos(), sine * azimuth.sin(), cosine.expand(height, width)
    # Solid angles of whole rows: exact, whatever the height.
    edges = (torch.arange(height + 1, device=radiance.device) * (math.pi / height)).cos()
    angle = ((edges[:-1] - edges[1:]) * (2 * math.pi / width))[:, None, None]
    basis = sh_basis(torch.stack(parts, -1).to(radiance), 2)
    sums = torch.einsum("hwk,hwc->kc", basis * angle.to(radiance), radiance)
    # How a clamped cosine scales each order (their eq. 8).
    lobe = sums.new_tensor([math.pi] + [2 * math.pi / 3] * 3 + [math.pi / 4] * 5)
    return lobe[:, None] * sums
