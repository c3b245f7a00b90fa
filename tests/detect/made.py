"""Boxes that tests share."""

from __future__ import annotations

import torch
from torch import Tensor


def random_boxes(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(count, 3, generator=generator, dtype=torch.float64) * 4
    size = 0.2 + 4 * torch.rand(count, 3, generator=generator, dtype=torch.float64)
    yaw = 8 * torch.randn(count, 1, generator=generator, dtype=torch.float64)
    return torch.cat([place, size, yaw], 1)
