"""A small analytic scene with closed-form density and colour: the oracle of field tests."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geodistill.cameras import Camera, sphere_cameras
from geodistill.geometry.fields.base import Field
from geodistill.io.posed import PosedImages
from geodistill.render.fields import render_view


class AnalyticField(Field):
    """A textured ball on a slab beside a thin rod, with a sharp but finite surface."""

    def __init__(self, sharpness: float = 60.0, peak: float = 120.0) -> None:
        super().__init__("analytic", {})
        self.sharpness, self.peak = sharpness, peak
        size = self.occupancy.shape[0]
        axis = (torch.arange(size) + 0.5) * (2.0 / size) - 1.0
        centers = torch.cartesian_prod(axis, axis, axis)
        near = self._distance(centers) < 2.5 * math.sqrt(3.0) / size
        self.occupancy = near.reshape(self.occupancy.shape)

    def _distance(self, u: Tensor) -> Tensor:
        ball = (u - u.new_tensor([0.1, 0.0, 0.15])).norm(dim=1) - 0.45
        slab = ((u - u.new_tensor([0.0, 0.0, -0.45])).abs() - u.new_tensor([0.7, 0.6, 0.12])).amax(
            1
        )
        rod = torch.maximum((u[:, :2] + 0.5).norm(dim=1) - 0.05, u[:, 2].abs() - 0.6)
        return torch.minimum(torch.minimum(ball, slab), rod)

    def latent(self, u: Tensor) -> Tensor:
        sigma = self.peak * torch.sigmoid(-self.sharpness * self._distance(u))
        albedo = 0.5 + 0.35 * torch.sin(u * u.new_tensor([9.0, 7.0, 11.0]) + 1.0)
        return torch.cat([sigma[:, None], albedo], dim=1)

    def sigma_of(self, latent: Tensor) -> Tensor:
        return latent[:, 0]

    def rgb_of(self, latent: Tensor, directions: Tensor) -> Tensor:
        return (latent[:, 1:] * (0.85 - 0.15 * directions[:, 2:])).clamp(0.0, 1.0)

    def param_groups(self):
        return []


def ring(count: int, resolution: int, seed: int = 0) -> Camera:
    """Cameras all around the unit cube."""
    return sphere_cameras(
        count, torch.zeros(3), 3.2, math.radians(38.0), (resolution, resolution), seed
    )


def photograph(field: Field, cameras: Camera) -> PosedImages:
    """RGBA images of a field, straight alpha, 8 bit."""
    images = []
    for i in range(len(cameras)):
        view = render_view(field, cameras[i])
        rgb = view.color / view.opacity.clamp_min(1e-6)[..., None]
        rgba = torch.cat([rgb, view.opacity[..., None]], dim=-1)
        images.append((rgba.clamp(0, 1) * 255).round().to(torch.uint8))
    names = tuple(f"r_{i}" for i in range(len(cameras)))
    return PosedImages(cameras, torch.stack(images), names, "srgb", {})
