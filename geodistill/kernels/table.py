"""The one table: kernel -> what runs it, by device and dtype; nothing else knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geodistill.kernels import cpu, cuda, library, reference

KERNELS = (
    "hash_encode",
    "plane_line",
    "line_product",
    "voxel_interp",
    "march",
    "ray_weights",
    "segment_sum",
    "composite",
    "sparse_adam_step",
    "fused_mlp",
    "rasterize",
    "nearest_points",
    "farthest_points",
    "ball_query",
    "nearest_neighbors",
    "gaussian_sums",
    "gather",
    "scatter",
    "splat_plan",
    "splat",
    "splat_adjoint",
)

# What runs a kernel on float32 tensors in CPU memory, where not the reference.
_CPU: dict[str, Callable[..., Any]] = (
    {} if library.LIBRARY is None else {name: getattr(cpu, name) for name in KERNELS}
)


def implementation(kernel: str, *tensors: Tensor) -> Callable[..., Any]:
    if kernel in _CPU and _are_float32(tensors, "cpu"):
        return _CPU[kernel]
    if kernel in cuda.KERNELS and _are_float32(tensors, "cuda") and cuda.rasterizer():
        return getattr(cuda, kernel)
    return getattr(reference, kernel)


def _are_float32(tensors: tuple[Tensor, ...], device: str) -> bool:
    return all(t.dtype == torch.float32 and t.device.type == device for t in tensors)


def backends() -> dict[str, dict[str, str]]:
    """Which implementation serves each kernel: {kernel: {"cpu": "c++", "cuda": "reference"}}.

    It is about float32; other dtypes run the reference.
    """
    return {
        kernel: {
            "cpu": "c++" if kernel in _CPU else "reference",
            "cuda": (kernel in cuda.KERNELS and cuda.library()) or "reference",
        }
        for kernel in KERNELS
    }


def library_status() -> str:
    """One line for `geodistill doctor`: where the C++ library is, or why there is none."""
    return str(library.PATH) if library.LIBRARY is not None else library.REASON
