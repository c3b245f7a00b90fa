"""Weighted sums of rows by index, and their adjoint."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gather(features: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    # One more row, of zeros, for the indices that stand for nothing.
    padded = F.pad(features, (0, 0, 0, 1))
    rows = _rows(index, len(features))
    out = features.new_zeros(len(index), features.shape[1])
    for k in range(index.shape[1]):
        out = out + weights[:, k, None] * padded.index_select(0, rows[:, k])
    return out


def scatter(pixels: Tensor, index: Tensor, weights: Tensor, elements: int) -> Tensor:
    rows = _rows(index, elements)
    out = pixels.new_zeros(elements + 1, pixels.shape[1])
    for k in range(index.shape[1]):
        out = out.index_add(0, rows[:, k], weights[:, k, None] * pixels)
    return out[:-1]


def _rows(index: Tensor, elements: int) -> Tensor:
    return torch.where(index < 0, elements, index.long())
