"""Sparse 3D convolution. In plain torch, on any device: sorted keys tell which outputs meet which
inputs, and each offset of the kernel is one matrix product. On a GPU spconv takes its place where
it is installed.

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
from geodistill.nn import sparse_spconv

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
        shared: what layers on these cells share, and networks that look at the same voxels: of
            submanifold convolutions, by kernel, their pairs; of strided ones, by kernel, stride and
            padding, the cells that they reach, their pairs, and what layers on those cells share.
    """

    features: Tensor
    cells: Tensor
    shape: Triple
    count: int
    shared: dict[Any, Any] = field(default_factory=dict)

    def with_features(self, features: Tensor) -> SparseMap:
        """Other features of the same cells."""
        return SparseMap(features, self.cells, self.shape, self.count, self.shared)

    def dense(self) -> Tensor:
        """[B, C, Z, Y, X], zero where nothing is."""
        whole = self.features.new_zeros(self.count, self.features.shape[1], *self.shape)
        scan, z, y, x = self.cells.unbind(1)
        whole[scan, :, z, y, x] = self.features
        return whole


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
        if sparse_spconv.serves(x.features):
            found = sparse_spconv.convolve(
                *(x.features, self.weight, x.cells, x.shape, x.count, x.shared),
                *((1, 1, 1), (0, 0, 0), True),
            )
            return x.with_features(found[0])
        if self.kernel not in x.shared:
            x.shared[self.kernel] = submanifold_pairs(x.cells, x.shape, self.kernel)
        pairs = x.shared[self.kernel]
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
        key = self.kernel, self.stride, self.padding
        if sparse_spconv.serves(x.features):
            features, cells = sparse_spconv.convolve(
                *(x.features, self.weight, x.cells, x.shape, x.count, {}),
                *(self.stride, self.padding, False),
            )
            order = _keys(cells, shape).argsort()  # spconv's is another one each time
            shared = x.shared.setdefault(("spconv", *key), {})
            return SparseMap(_rows(features, order), _rows(cells, order), shape, x.count, shared)
        if key not in x.shared:
            x.shared[key] = (*strided_pairs(x.cells, shape, *key), {})
        cells, pairs, shared = x.shared[key]
        features = convolve(x.features, self.weight, pairs, len(cells))
        return SparseMap(features, cells, shape, x.count, shared)


def submanifold_pairs(cells: Tensor, shape: Triple, kernel: Triple) -> Pairs:
    """Which cells are neighbours: of each offset, from the lowest z, y and x on."""
    check(cells=(cells, "V 4"))
    reach_z, reach_y, reach_x = reach = [k // 2 for k in kernel]
    own = torch.arange(len(cells), device=cells.device)
    if not len(cells):
        return [(own, own)] * math.prod(kernel)
    # With a rim about the grid, so that neighbours beyond an edge are nobody's keys.
    _, y, x = (n + 2 * r for n, r in zip(shape, reach, strict=True))
    rim = cells.clone()
    rim[:, 1:] += cells.new_tensor(reach)
    keys, order = _keys(rim, (shape[0] + 2 * reach_z, y, x)).sort()
    # What an offset brings to a cell, its opposite brings back: one half is looked for.
    half: Pairs = []
    for dz, dy in itertools.product(range(-reach_z, 1), range(-reach_y, reach_y + 1)):
        if (dz, dy) > (0, 0):
            break
        wanted = keys + ((dz * y + dy) * x - reach_x)
        at = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        for _ in range(kernel[2] if (dz, dy) < (0, 0) else reach_x):
            hit = _rows(keys, at) == wanted
            found = hit.nonzero()[:, 0]
            half.append((_rows(order, _rows(at, found)), _rows(order, found)))
            # Keys are sorted: the next along x, if it is there, comes next.
            at = (at + hit).clamp_(max=len(keys) - 1)
            wanted = wanted + 1
    return [*half, (own, own), *((out, into) for into, out in reversed(half))]


def strided_pairs(
    cells: Tensor, shape: Triple, kernel: Triple, stride: Triple, padding: Triple
) -> tuple[Tensor, Pairs]:
    """Cells [W, 4] that a strided kernel reaches in a grid of `shape`, and how."""
    check(cells=(cells, "V 4"))
    # Axis by axis, the cells that an offset takes somewhere, and the keys of where.
    met = [(torch.arange(len(cells), device=cells.device), cells[:, 0])]
    for axis, size in enumerate(shape):
        before, met = met, []
        steps = [
            _reached(cells[:, axis + 1] + padding[axis] - step, size, stride[axis])
            for step in range(kernel[axis])
        ]
        for (into, keys), (hit, place) in itertools.product(before, steps):
            kept = _rows(hit, into).nonzero()[:, 0]
            into = _rows(into, kept)
            met.append((into, _rows(keys, kept) * size + _rows(place, into)))
    inputs, keys = zip(*met, strict=True)
    found, which = torch.cat(keys).unique(return_inverse=True)
    outputs = which.split([len(part) for part in keys])
    return _cells(found, shape), list(zip(inputs, outputs, strict=True))


def _reached(places: Tensor, size: int, stride: int) -> tuple[Tensor, Tensor]:
    """Whether a stride meets each place, and as which of `size`."""
    to = places.div(stride, rounding_mode="floor")
    return (to * stride == places) & (to >= 0) & (to < size), to


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
            if into is to:
                out.addmm_(features, own)
            elif len(into):
                out.index_add_(0, to, _rows(features, into) @ own)
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
            if into is to:
                torch.mm(features.T, grad, out=to_weight[k])
                if to_features is not None:
                    to_features.addmm_(grad, weight[k].T)
                continue
            given = _rows(grad, to)
            torch.mm(_rows(features, into).T, given, out=to_weight[k])
            if to_features is not None:
                to_features.index_add_(0, into, given @ weight[k].T)
        return to_features, to_weight, None, None


def _weight(kernel: Triple, channels_in: int, channels_out: int) -> nn.Parameter:
    weight = torch.empty(*kernel, channels_in, channels_out)
    bound = 1 / math.sqrt(channels_in * math.prod(kernel))  # as torch's own convolutions begin
    return nn.Parameter(nn.init.uniform_(weight, -bound, bound))


def _rows(values: Tensor, index: Tensor) -> Tensor:
    return values.index_select(0, index)  # several times as fast as values[index]


def _keys(cells: Tensor, shape: Triple) -> Tensor:
    z, y, x = shape
    return ((cells[:, 0] * z + cells[:, 1]) * y + cells[:, 2]) * x + cells[:, 3]


def _cells(keys: Tensor, shape: Triple) -> Tensor:
    z, y, x = shape
    rows = keys // x
    return torch.stack([rows // y // z, rows // y % z, rows % y, keys % x], 1)
