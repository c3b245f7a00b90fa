"""A network from points in space to unit features: smooth because coordinates enter as they are."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CoordinateNetwork(nn.Module):
    """Five blocks of linear, ReLU, layer norm, then a linear layer and L2 normalisation.

    No positional encoding: the bias of the plain network towards low frequencies is what makes the
    features, and the weights made from them, vary smoothly over a surface.
    Source: Liu, Lang and Hanocka, "Deep Feature Deformation Weights", 2026.

    Args:
        channels: of the output.
        width: of the hidden layers; blocks: their number.
        seed: of the initial parameters.
    """

    def __init__(self, channels: int, width: int = 256, blocks: int = 5, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sizes = [3, *[width] * blocks]
            self.layers = nn.ModuleList(
                nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.LayerNorm(b))
                for a, b in pairwise(sizes)
            )
            self.last = nn.Linear(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3] -> [N, channels], of length 1"""
        for layer in self.layers:
            x = layer(x)
        return F.normalize(self.last(x), dim=-1)
