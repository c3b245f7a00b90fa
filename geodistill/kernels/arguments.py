"""Checks of arguments that several kernels share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geodistill.checks import InputError, ShapeError, UsageError, check
from geodistill.kernels import cpu, library, reference


def check_view(K: Tensor, size: tuple[int, int], near: float) -> None:
    if min(size) < 1:
        raise UsageError(f"size must be (height, width) of at least 1, got {size}")
    if not 0 < near < float("inf"):
        raise UsageError(f"near must be positive and finite, got {near}")
    (fx, _, _), (shear, fy, _), bottom = K.tolist()
    if shear != 0 or bottom != [0, 0, 1] or fx == 0 or fy == 0:
        raise UsageError(f"K must be [[fx, s, cx], [0, fy, cy], [0, 0, 1]], got {K.tolist()}")


def check_index(name: str, index: Tensor, dtype: torch.dtype, low: int, count: int) -> None:
    if index.dtype != dtype:
        raise UsageError(f"{name} must be {dtype}, got {index.dtype}: pass {name}.to({dtype})")
    if index.numel():
        least, most = (int(v) for v in index.aminmax())
        if least < low or most >= count:
            wrong = least if least < low else most
            raise InputError(f"{name} holds {wrong}, but there are {count} rows to point at")


def check_three(name: str, tensors: Sequence[Tensor]) -> None:
    if len(tensors) != 3:
        raise ShapeError(f"{name} must hold 3 tensors, one per axis, got {len(tensors)}")


def check_offsets(offsets: Tensor, samples: int) -> None:
    check(offsets=(offsets, "_"))
    if offsets.dtype != torch.int64 or len(offsets) == 0:
        raise ShapeError(
            f"offsets must be int64 of shape [N + 1], got {offsets.dtype} {list(offsets.shape)}"
        )
    compiled = library.LIBRARY is not None and offsets.device.type == "cpu"
    end = (cpu if compiled else reference).offsets_end(offsets)
    if end < 0:
        raise ShapeError("offsets must start at 0 and never decrease, these do not")
    if end != samples:
        raise ShapeError(f"offsets end at {end}, but there are {samples} samples")
