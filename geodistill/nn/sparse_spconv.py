"""Sparse convolution by spconv (2.x), for GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def serves(features: Tensor) -> bool:
    """Whether features [V, C] are on a GPU, in a precision that spconv has, and its build for GPUs
    is installed."""
    known = str(features.dtype) in ("torch.float32", "torch.float16")
    return features.is_cuda and known and is_for_gpus()


@lru_cache
def is_for_gpus() -> bool:
    """Whether spconv is installed, in its build for GPUs."""
    if find_spec("spconv") is None:
        return False
    from spconv import cppconstants

    return not cppconstants.CPU_ONLY_BUILD


def convolve(
    features: Tensor,
    weight: Tensor,
    cells: Tensor,
    shape: Sequence[int],
    count: int,
    shared: dict[Any, Any],
    stride: Sequence[int],
    padding: Sequence[int],
    submanifold: bool,
) -> tuple[Tensor, Tensor]:
    """A convolution of what a `nn.sparse.SparseMap` has.

    Args:
        features: [V, C].
        weight: [z, y, x, C, D].
        cells: int64 [V, 4], grid, z, y and x.
        shape: Z, Y and X.
        count: of grids.
        shared: what layers on the same cells share.
        stride, padding: along z, y and x; of a submanifold convolution 1 and 0.
        submanifold: whether outputs are at the inputs' cells, in their order.

    Returns:
        Features [W, D] and their cells int64 [W, 4].
    """
    from spconv import pytorch as spconv

    *kernel, wide, narrow = weight.shape
    # spconv reads indices as if they were contiguous, whatever their strides.
    x = spconv.SparseConvTensor(
        *(features, cells.int().contiguous(), [*shape], count),
        indice_dict=shared.setdefault("spconv", {}),
    )
    layer = _layer(wide, narrow, tuple(kernel), tuple(stride), tuple(padding), submanifold)
    found = functional_call(layer, {"weight": weight.permute(4, 0, 1, 2, 3).contiguous()}, (x,))
    if submanifold:
        shared["spconv"] = found.indice_dict
        return found.features, cells
    return found.features, found.indices.long()


@lru_cache
def _layer(
    wide: int,
    narrow: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    submanifold: bool,
) -> nn.Module:
    """spconv's layer without weights, and so without drawing any at random."""
    from spconv import pytorch as spconv

    kind: Any = spconv.SubMConv3d if submanifold else spconv.SparseConv3d
    key = f"submanifold {kernel}" if submanifold else None
    with torch.device("meta"):
        return kind(wide, narrow, kernel, stride, padding, bias=False, indice_key=key)
