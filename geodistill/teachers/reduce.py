"""Fewer channels: principal components of tokens that stream by.

What is lifted is a mean of tokens, and a projection of a mean is the mean of the projections, so
reducing first loses nothing but the directions left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.checks import InputError, ShapeError, UsageError, check, check_finite

CHANNELS = 64


@dataclass(frozen=True, eq=False)
class Pca:
    """The directions of largest variance.

    Attributes:
        mean: float32 [C].
        components: float32 [K, C], orthonormal rows, by falling variance; the largest entry of each
            is positive.
        variance: float64 [K], of the tokens along each.
        total_variance: of the tokens along all C.
    """

    mean: Tensor
    components: Tensor
    variance: Tensor
    total_variance: float

    @property
    def channels(self) -> int:
        return self.components.shape[0]

    @property
    def explained(self) -> float:
        """The fraction of the variance that is kept, in [0, 1]."""
        return float(self.variance.sum()) / self.total_variance if self.total_variance > 0 else 1.0

    def apply(self, tokens: Tensor) -> Tensor:
        """[..., C] -> [..., K] along the components. Raises ShapeError for another C."""
        check(tokens=(tokens, "... C"), mean=(self.mean, "C"))
        components, mean = self.components.to(tokens), self.mean.to(tokens)
        return (tokens - mean) @ components.T

    def restore(self, reduced: Tensor) -> Tensor:
        """[..., K] -> [..., C], the nearest tokens that the components can make."""
        return reduced @ self.components.to(reduced) + self.mean.to(reduced)


def fit(batches: Iterable[Tensor], channels: int = CHANNELS) -> Pca:
    """Components of all tokens of all batches, in one pass and C^2 numbers of memory.

    Args:
        batches: [..., C] each; C may be below `channels`, then all C components are kept.
        channels: components to keep.

    Raises:
        ShapeError: batches of different C.
        InputError: no tokens, NaN or infinite values.
    """
    if channels < 1:
        raise UsageError(f"a reduction keeps at least one channel, got {channels}")
    count, shift = 0, torch.zeros(0)
    total, products = torch.zeros(0), torch.zeros(0)
    for batch in batches:
        check_finite(tokens=batch)
        rows = batch.detach().reshape(-1, batch.shape[-1]).double()
        if not len(rows):
            continue
        if not count:  # near the mean, so that the subtraction at the end loses no digits
            shift = rows.mean(dim=0)
            total, products = torch.zeros_like(shift), torch.zeros_like(torch.outer(shift, shift))
        if rows.shape[1] != len(shift):
            raise ShapeError(f"tokens must have {len(shift)} channels, got {rows.shape[1]}")
        rows = rows - shift
        count += len(rows)
        total += rows.sum(dim=0)
        products += rows.T @ rows
    if not count:
        raise InputError("there are no tokens to find the principal components of")
    offset = total / count
    values, vectors = torch.linalg.eigh(products / count - torch.outer(offset, offset))
    components = vectors.T.flip(0)[:channels]
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    values = values.clamp_min(0.0).flip(0)
    return Pca(
        (shift + offset).float(),
        (components * largest.sign()).float(),
        values[:channels],
        float(values.sum()),
    )


def channel_blocks(channels: int, width: int = CHANNELS) -> list[slice]:
    """All channels in blocks of at most `width`, for lifting every one in bounded memory."""
    if min(channels, width) < 1:
        raise UsageError(f"blocks need channels and a width, got {channels} and {width}")
    return [slice(start, min(start + width, channels)) for start in range(0, channels, width)]
