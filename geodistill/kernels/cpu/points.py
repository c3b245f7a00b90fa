"""The nearest points whose discs cover each pixel, by the C++ library."""

from __future__ import annotations

from ctypes import c_double

import torch
from torch import Tensor

from geodistill.kernels.library import call


def nearest_points(
    points: Tensor, radius: float, K: Tensor, size: tuple[int, int], near: float, most: int
) -> Tensor:
    exact = K.detach().to("cpu", torch.float64).contiguous()
    index = torch.empty(*size, most, dtype=torch.int32)
    inputs = (points.detach().contiguous(), len(points), c_double(radius), exact, c_double(near))
    call("gd_nearest_points", *inputs, *size, most, index)
    return index
