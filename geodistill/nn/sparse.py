"""Sparse 3D convolution in plain torch: sorted keys tell which outputs meet which inputs, and each
offset of the kernel is one matrix product.

Source: Graham et al., "3D Semantic Segmentation with Submanifold Sparse Convolutional Networks"
(CVPR 2018); Yan et al., "SECOND" (2018).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from geodistill.checks import check

Triple = tuple[int, int, int]
Pairs = list[tuple[Tensor, Tensor]]
"""Of each offset of a kernel: inputs, and the outputs that they add to."""


@dataclass(frozen=True, eq=False)
class SparseMap:
    """Features of the cells of B grids in which something is.

    Attributes:
        features: [V, C].
        cells: int64 [V, 4], grid, z, y and x, no two alike.
        shape: Z, Y and X.
        count: B.
        pairs: of submanifold convolutions on these cells, by kernel: layers share them, and so do
            networks that look at the same scan.
    """

    features: Tensor
    cells: Tensor
    shape: Triple
    count: int
    pairs: dict[Triple, Pairs] = field(default_factory=dict)

    def with_features(self, features: Tensor) -> SparseMap:
        """Other features of the same cells."""
        return SparseMap(features, self.cells, self.shape, self.count, self.pairs)

    def dense(self) -> Tensor:
        """[B, C, Z, Y, X], zero where nothing is."""
        z, y, x = self.shape
        flat = self.features.new_zeros(self.count * z * y * x, self.features.shape[1])
        flat = flat.index_copy(0, _keys(self.cells, self.shape), self.features)
        return flat.reshape(self.count, z, y, x, -1).permute(0, 4, 1, 2, 3).contiguous()


class SubmanifoldConv(nn.Module):
    """A convolution whose outputs are at the cells of its inputs.

    Args:
        channels_in, channels_out: of features.
        kernel: along z, y and x, all odd.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: Triple = (3, 3, 3)) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = _weight(kernel, channels_in, channels_out)

    def forward(self, x: SparseMap) -> SparseMap:
        if self.kernel not in x.pairs:
            x.pairs[self.kernel] = submanifold_pairs(x.cells, x.shape, self.kernel)
        pairs = x.pairs[self.kernel]
        return x.with_features(convolve(x.features, self.weight, pairs, len(x.cells)))


class StridedConv(nn.Module):
    """A convolution whose outputs are at all cells that it reaches.

    Args:
        channels_in, channels_out: of features.
        kernel, stride, padding: along z, y and x.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: Triple, stride: Triple, padding: Triple
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.weight = _weight(kernel, channels_in, channels_out)

    def forward(self, x: SparseMap) -> SparseMap:
        sizes = zip(x.shape, self.kernel, self.stride, self.padding, strict=True)
        z, y, w = ((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)
        shape = (z, y, w)
        cells, pairs = strided_pairs(x.cells, shape, self.kernel, self.stride, self.padding)
        features = convolve(x.features, self.weight, pairs, len(cells))
        return SparseMap(features, cells, shape, x.count)


def submanifold_pairs(cells: Tensor, shape: Triple, kernel: Triple) -> Pairs:
    """Which cells are neighbours: of each offset, from the lowest z, y and x on."""
    check(cells=(cells, "V 4"))
    reach = [k // 2 for k in kernel]
    # With a rim about the grid, so that neighbours beyond an edge are nobody's keys.
    z, y, x = (n + 2 * r for n, r in zip(shape, reach, strict=True))
    rim = cells.clone()
    rim[:, 1:] += cells.new_tensor(reach)
    keys = _keys(rim, (z, y, x))
    ordered, order = keys.sort()
    half: Pairs = []
    offsets = list(itertools.product(*(range(-r, r + 1) for r in reach)))
    middle = len(offsets) // 2
    for dz, dy, dx in offsets[:middle]:
        wanted = keys + (dz * y + dy) * x + dx
        at = torch.searchsorted(ordered, wanted).clamp(max=max(len(keys) - 1, 0))
        out = (ordered[at] == wanted).nonzero()[:, 0] if len(keys) else at
        half.append((order[at[out]], out))
    own = torch.arange(len(keys), device=cells.device)
    # What an offset brings to a cell, its opposite brings back.
    return [*half, (own, own), *((out, into) for into, out in reversed(half))]


def strided_pairs(
    cells: Tensor, shape: Triple, kernel: Triple, stride: Triple, padding: Triple
) -> tuple[Tensor, Pairs]:
    """Cells [W, 4] that a strided kernel reaches in a grid of `shape`, and how."""
    check(cells=(cells, "V 4"))
    step, rim = cells.new_tensor(stride), cells.new_tensor(padding)
    limit = cells.new_tensor(shape)
    inputs, keys = [], []
    for offset in itertools.product(*map(range, kernel)):
        place = cells[:, 1:] + rim - cells.new_tensor(offset)
        to = place.div(step, rounding_mode="floor")
        hit = ((to * step == place) & (to >= 0) & (to < limit)).all(1).nonzero()[:, 0]
        inputs.append(hit)
        keys.append(_keys(torch.cat([cells[hit, :1], to[hit]], 1), shape))
    found, which = torch.cat(keys).unique(return_inverse=True)
    outputs = which.split([len(part) for part in keys])
    return _cells(found, shape), list(zip(inputs, outputs, strict=True))


def convolve(features: Tensor, weight: Tensor, pairs: Pairs, count: int) -> Tensor:
    """Sum over offsets k and pairs (i, o) of k: out[o] += features[i] @ weight[k].

    Args:
        features: [V, C].
        weight: [z, y, x, C, D], a kernel of K offsets.
        pairs: K of them.
        count: W, how many outputs there are.

    Returns:
        [W, D].

    Raises ShapeError for other shapes.
    """
    check(features=(features, "V C"), weight=(weight, "z y x C D"))
    found = _Convolve.apply(features, weight.flatten(0, 2), pairs, count)
    assert isinstance(found, Tensor)
    return found


class _Convolve(torch.autograd.Function):
    """Keeps the inputs only, where autograd would keep what is gathered for each offset."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, pairs: Pairs, count: int) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs = pairs
        out = features.new_zeros(count, weight.shape[2])
        for own, (into, to) in zip(weight, pairs, strict=True):
            if len(into):
                out.index_add_(0, to, features[into] @ own)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grads
        features, weight = ctx.saved_tensors
        to_features = torch.zeros_like(features) if ctx.needs_input_grad[0] else None
        to_weight = torch.zeros_like(weight)
        for k, (into, to) in enumerate(ctx.pairs):
            if not len(into):
                continue
            given = grad[to]
            to_weight[k] = features[into].T @ given
            if to_features is not None:
                to_features.index_add_(0, into, given @ weight[k].T)
        return to_features, to_weight, None, None


def _weight(kernel: Triple, channels_in: int, channels_out: int) -> nn.Parameter:
    weight = torch.empty(*kernel, channels_in, channels_out)
    bound = 1 / math.sqrt(channels_in * math.prod(kernel))  # as torch's own convolutions begin
    return nn.Parameter(nn.init.uniform_(weight, -bound, bound))


def _keys(cells: Tensor, shape: Triple) -> Tensor:
    z, y, x = shape
    return ((cells[:, 0] * z + cells[:, 1]) * y + cells[:, 2]) * x + cells[:, 3]


def _cells(keys: Tensor, shape: Triple) -> Tensor:
    z, y, x = shape
    rows = keys // x
    return torch.stack([rows // y // z, rows // y % z, rows % y, keys % x], 1)
