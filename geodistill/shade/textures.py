"""Colours from images at texture coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill.checks import UsageError, check


def sample_texture(texture: Tensor, uv: Tensor) -> Tensor:
    """Bilinear look-ups that wrap around, in the colour space of the texture. Gradient: uv.

    Args:
        texture: uint8 [H, W, 4], first row at the top; texels are spots at +0.5.
        uv: [..., 2], (0, 0) at the lower left corner and (1, 1) at the upper right.

    Returns [..., 4] in [0, 1].
    """
    check(texture=(texture, "H W 4"), uv=(uv, "... 2"))
    if texture.dtype != torch.uint8:
        raise UsageError(f"texture must be torch.uint8, got {texture.dtype}")
    height, width = texture.shape[:2]
    x = (uv[..., 0] - uv[..., 0].detach().floor()) * width - 0.5
    y = (1 - (uv[..., 1] - uv[..., 1].detach().floor())) * height - 0.5
    left, top = x.detach().floor(), y.detach().floor()
    columns = [(left + step).long() % width for step in (0, 1)]
    rows = [(top + step).long() % height for step in (0, 1)]
    right, lower = (x - left)[..., None], (y - top)[..., None]
    texels = texture.view(-1, 4)

    def row(i: int) -> Tensor:
        a, b = (texels[rows[i] * width + columns[j]].to(uv.dtype) for j in (0, 1))
        return a + (b - a) * right

    upper = row(0)
    return (upper + (row(1) - upper) * lower) / 255
