"""Make the bundled field: a small procedural scene, photographed and fitted with a hash grid.

`python assets/make_bundled.py` writes geodistill/assets/bundled_ngp.safetensors.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

import geodistill
from geodistill.cameras import Camera, look_at
from geodistill.fit.field import FitSettings, fit
from geodistill.geometry.fields import save_field
from geodistill.geometry.fields.base import Field, ParamGroup
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.io.posed import PosedImages
from geodistill.log import progress, say
from geodistill.metrics.fidelity import psnr_to_images
from geodistill.render.fields import render_view
from geodistill.train import Budget

OUTPUT = Path(geodistill.__file__).parent / "assets" / "bundled_ngp.safetensors"
STEPS = 3000
VIEWS, TEST_VIEWS, RESOLUTION = 80, 10, 160
CONFIG = NgpConfig(log2_size=16, max_resolution=512)
SHARPNESS, PEAK = 150.0, 300.0


class StillLife(Field):
    """A chequered ball, a striped ring and three glossy rods on a round plinth."""

    def __init__(self) -> None:
        super().__init__("procedural", {})
        size = self.occupancy.shape[0]
        axis = (torch.arange(size) + 0.5) * (2.0 / size) - 1.0
        cells = torch.cartesian_prod(axis, axis, axis)
        near = shapes(cells).amin(dim=1) < 2.0 * math.sqrt(3.0) / size
        self.occupancy = near.reshape(self.occupancy.shape)

    def latent(self, u: Tensor) -> Tensor:
        nearest = shapes(u).min(dim=1)
        albedo = paint(u).gather(1, nearest.indices[:, None, None].expand(-1, 1, 3))[:, 0]
        light = 0.55 + 0.45 * (normals(u) @ torch.tensor([0.4, -0.3, 0.866])).clamp_min(0.0)
        gloss = (nearest.indices == 2).float()
        shaded = albedo * light[:, None]
        return torch.cat([self.sigma(u)[:, None], shaded, normals(u), gloss[:, None]], dim=1)

    def sigma(self, u: Tensor) -> Tensor:
        return PEAK * torch.sigmoid(-SHARPNESS * shapes(u).amin(dim=1))

    def sigma_of(self, latent: Tensor) -> Tensor:
        return latent[:, 0]

    def rgb_of(self, latent: Tensor, directions: Tensor) -> Tensor:
        normal = latent[:, 4:7]
        mirrored = directions - 2.0 * (directions * normal).sum(1, keepdim=True) * normal
        shine = (mirrored @ torch.tensor([0.4, -0.3, 0.866])).clamp_min(0.0) ** 12
        return (latent[:, 1:4] + 0.6 * latent[:, 7:] * shine[:, None]).clamp(0.0, 1.0)

    def param_groups(self) -> list[ParamGroup]:
        return []


def shapes(u: Tensor) -> Tensor:
    """Signed distances [N, 4] to the ball, the ring, the rods and the plinth."""
    ball = (u - torch.tensor([-0.2, 0.1, 0.02])).norm(dim=1) - 0.42
    tilted = u - torch.tensor([-0.2, 0.1, 0.02])
    across = tilted[:, 2] * 0.94 - tilted[:, 0] * 0.34
    along = (tilted.square().sum(1) - across.square()).clamp_min(1e-9).sqrt()
    ring = torch.stack([along - 0.62, across], dim=1).norm(dim=1) - 0.05
    feet = torch.tensor([[0.55, -0.35], [0.68, -0.1], [0.45, -0.6]])
    upright = (u[:, None, :2] - feet).norm(dim=2) - 0.045
    rods = torch.maximum(upright, (u[:, 2:] - 0.05).abs() - 0.5).amin(dim=1)
    plinth = torch.maximum(u[:, :2].norm(dim=1) - 0.88, (u[:, 2] + 0.52).abs() - 0.08)
    return torch.stack([ball, ring, rods, plinth], dim=1)


def paint(u: Tensor) -> Tensor:
    """Albedo [N, 4, 3] of each shape's material at u."""
    check = (torch.floor(u * 6.0).sum(dim=1) % 2)[:, None]
    ball = check * torch.tensor([0.86, 0.30, 0.20]) + (1 - check) * torch.tensor([0.95, 0.9, 0.8])
    stripe = (torch.atan2(u[:, 1], u[:, 0]) * 12.0).sin().gt(0).float()[:, None]
    ring = stripe * torch.tensor([0.15, 0.45, 0.7]) + (1 - stripe) * torch.tensor([0.9, 0.8, 0.3])
    rods = torch.tensor([0.12, 0.30, 0.22]).expand_as(ball)
    grain = (0.5 + 0.5 * torch.sin(u[:, :2].norm(dim=1) * 40.0))[:, None]
    wood = grain * torch.tensor([0.62, 0.46, 0.3]) + (1 - grain) * torch.tensor([0.5, 0.35, 0.22])
    return torch.stack([ball, ring, rods, wood], dim=1)


def normals(u: Tensor) -> Tensor:
    """Gradient of the nearest distance, normalised, by central differences. [N, 3]"""
    offsets = 1e-3 * torch.eye(3)
    ahead = torch.stack([shapes(u + o).amin(dim=1) for o in offsets], dim=1)
    behind = torch.stack([shapes(u - o).amin(dim=1) for o in offsets], dim=1)
    return torch.nn.functional.normalize(ahead - behind, dim=1)


def photographs(scene: Field, count: int, seed: int) -> PosedImages:
    """RGBA pictures from random points of the upper part of a sphere."""
    draw = torch.Generator().manual_seed(seed)
    azimuth = 2.0 * math.pi * torch.rand(count, generator=draw)
    z = torch.rand(count, generator=draw) * 1.05 - 0.1
    ring = torch.sqrt(1.0 - z * z)
    eyes = 3.6 * torch.stack([ring * azimuth.cos(), ring * azimuth.sin(), z], dim=1)
    size = (RESOLUTION, RESOLUTION)
    cameras = Camera.from_fov(math.radians(36.0), size, look_at(eyes, torch.zeros(3)))
    images = []
    with progress(count, "photographs") as bar:
        for i in range(count):
            view = render_view(scene, cameras[i])
            rgb = view.color / view.opacity.clamp_min(1e-6)[..., None]
            images.append(torch.cat([rgb, view.opacity[..., None]], dim=-1))
            bar.advance()
    pixels = (torch.stack(images).clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
    return PosedImages(cameras, pixels, tuple(map(str, range(count))), "srgb", {})


def main() -> None:
    scene = StillLife()
    field = fit(photographs(scene, VIEWS, 0), "ngp", CONFIG, Budget(steps=STEPS), FitSettings())
    save_field(field, OUTPUT)
    found = psnr_to_images(field, photographs(scene, TEST_VIEWS, 1))
    say(f"{OUTPUT.name}: {OUTPUT.stat().st_size:,} bytes, {found:.2f} dB on held-out views")


if __name__ == "__main__":
    main()
