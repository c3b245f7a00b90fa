"""Triangle rasterisation by the C++ library."""

from __future__ import annotations

from ctypes import c_double
from functools import partial
from typing import Any

import torch
from torch import Tensor

from geodistill.kernels import reference
from geodistill.kernels.cpu.higher import differentiable_gradients
from geodistill.kernels.cpu.rows import scatter_rows
from geodistill.kernels.library import call
from geodistill.kernels.reference import Raster


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, points: Tensor, faces: Tensor, K: Tensor, size: tuple[int, int], near: float
    ) -> tuple[Tensor, ...]:
        triangle = torch.empty(size, dtype=torch.int32)
        weights, depth = points.new_empty(*size, 3), points.new_empty(size)
        inputs = (points, len(points), faces, len(faces), K, c_double(near), *size)
        call("gd_rasterize", *inputs, triangle, weights, depth)
        ctx.save_for_backward(points, faces, K, triangle)
        ctx.size, ctx.near = size, near
        ctx.mark_non_differentiable(triangle, depth)
        return triangle, weights, depth

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        points, faces, K, triangle = ctx.saved_tensors
        if torch.is_grad_enabled():
            run = partial(_reference_weights, faces, K, ctx.size, ctx.near)
            found = differentiable_gradients(run, (points,), (True,), (grads[1],))
            return *found, None, None, None, None
        pixels = triangle.numel()
        rows = points.new_empty(3 * pixels, 3)
        index = torch.empty(3 * pixels, 1, dtype=torch.int32)
        inputs = (points, faces, K, *ctx.size, triangle, grads[1].contiguous())
        call("gd_rasterize_backward", *inputs, rows, index)
        return scatter_rows(rows, index, None, len(points)), None, None, None, None


def _reference_weights(
    faces: Tensor, K: Tensor, size: tuple[int, int], near: float, points: Tensor
) -> Tensor:
    return reference.rasterize(points, faces, K, size, near).weights


def rasterize(
    points: Tensor, faces: Tensor, K: Tensor, size: tuple[int, int], near: float
) -> Raster:
    exact = K.detach().to("cpu", torch.float64).contiguous()
    return Raster(*_Rasterize.apply(points.contiguous(), faces.contiguous(), exact, size, near))
