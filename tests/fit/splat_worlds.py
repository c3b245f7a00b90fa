"""A small known scene of splats, and pictures of it."""

from __future__ import annotations

import torch
from scenes import ring

from geodistill.cameras import Camera, Similarity, nearest_rotation
from geodistill.geometry.splats import Splats
from geodistill.io.posed import PosedImages
from geodistill.render.splats import render_splats

PLACE = Similarity(
    nearest_rotation(torch.tensor([[1.0, 2, 0], [0, 1, 3], [2, 0, 1]], dtype=torch.float64)),
    torch.tensor([30.0, -4.0, 7.0], dtype=torch.float64),
    2.5,
)
"""A world that is not the scene's own frame."""


def known_splats(count: int = 150, seed: int = 0) -> Splats:
    """A ball of coloured, rather opaque splats around the origin."""
    draw = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=draw), dim=1)
    scales = 0.06 + 0.12 * torch.rand(count, 3, generator=draw)
    sh = 1.2 * torch.randn(count, 1, 3, generator=draw)
    rotations = torch.randn(count, 4, generator=draw)
    return Splats(0.7 * direction, rotations, scales.log(), torch.full((count,), 3.0), sh)


def pictures(splats: Splats, cameras: Camera, alpha: bool = True) -> PosedImages:
    """8-bit pictures, with straight alpha or on white."""
    images = []
    for i in range(len(cameras)):
        seen = render_splats(splats, cameras[i], 0.0 if alpha else 1.0)
        image = seen.image
        if alpha:
            straight = image / seen.opacity.clamp_min(1e-6)[..., None]
            image = torch.cat([straight, seen.opacity[..., None]], dim=-1)
        images.append((image.clamp(0, 1) * 255).round().to(torch.uint8))
    names = tuple(f"r_{i}" for i in range(len(cameras)))
    return PosedImages(cameras, torch.stack(images), names, "srgb", {})


def views(count: int, size: int, seed: int = 0) -> Camera:
    return ring(count, size, seed)
