"""Sums of 3D Gaussians at points, by the C++ library."""

from __future__ import annotations

from ctypes import c_float

import torch
from torch import Tensor

from geodistill.kernels.library import call
from geodistill.kernels.reference.gaussians import REACH, Gaussians


def gaussian_sums(x: Tensor, gaussians: Gaussians, features: Tensor) -> Tensor:
    out = torch.empty(len(x), 1 + features.shape[1])
    x, features = x.detach().contiguous(), features.detach().contiguous()
    grid = (gaussians.starts, gaussians.members, gaussians.side, gaussians.shapes)
    call("gd_gaussian_sums", x, len(x), *grid, c_float(REACH**2), features, features.shape[1], out)
    return out
