"""The plain vision transformer of DINOv2 (Oquab et al. 2023; registers: Darcet et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPSILON = 1e-6  # of layer normalisation, as in training


@dataclass(frozen=True)
class VitConfig:
    """DINOv2 ViT-S/14 by default."""

    patch_px: int = 14
    width: int = 384
    depth: int = 12
    heads: int = 6
    grid: int = 37
    """Side of the square of patches that the position embedding was trained on."""
    registers: int = 0
    """Extra tokens between the class token and the patches."""


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        y = F.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(x)), split(self.value(x))
        )
        return self.out(y.transpose(1, 2).flatten(2))


class VitBlock(nn.Module):
    """x + scale * attention(norm(x)), then the same with a two-layer perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, _EPSILON) for _ in range(2))
        self.attention = Attention(width, heads)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale1, self.scale2 = (nn.Parameter(torch.ones(width)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale1 * self.attention(self.norm1(x))
        return x + self.scale2 * self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Vit(nn.Module):
    """Images of any whole number of patches to one token a patch."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patches = nn.Conv2d(3, width, config.patch_px, config.patch_px)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.class_position = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, config.grid**2, width))
        self.registers = nn.Parameter(torch.zeros(1, config.registers, width))
        self.blocks = nn.ModuleList(VitBlock(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, _EPSILON)

    def forward(self, images: Tensor, blocks: int | None = None) -> Tensor:
        """[B, 3, H, W] normalised images -> [B, h, w, width] normalised patch tokens.

        `blocks` stops behind that many blocks; the final normalisation always applies.
        """
        patches = self.patches(images)
        batch, _, height, width = patches.shape
        x = patches.flatten(2).mT + self._positions_at(height, width)
        first = (self.class_token + self.class_position).expand(batch, -1, -1)
        x = torch.cat([first, self.registers.expand(batch, -1, -1), x], dim=1)
        for block in self.blocks[:blocks]:
            x = block(x)
        return self.norm(x[:, 1 + self.config.registers :]).unflatten(1, (height, width))

    def _positions_at(self, height: int, width: int) -> Tensor:
        """The position embedding on another grid, by bicubic interpolation."""
        side = self.config.grid
        if (height, width) == (side, side):
            return self.positions
        square = self.positions.float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return F.interpolate(square, (height, width), mode="bicubic").flatten(2).mT
