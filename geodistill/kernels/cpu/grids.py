"""Grids by the C++ library: hash tables, planes and lines, sparse voxels."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_float, c_int32, c_int64, c_uint32, c_void_p
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from geodistill.kernels import reference
from geodistill.kernels.cpu.higher import differentiable_gradients
from geodistill.kernels.hashspec import HashSpec
from geodistill.kernels.library import call, pointers


class _HashLayout(ctypes.Structure):
    _fields_ = [
        ("levels", c_int32),
        ("features", c_int32),
        ("shift", c_float),
        ("scales", ctypes.POINTER(c_float)),
        ("strides", ctypes.POINTER(c_uint32)),
        ("sizes", ctypes.POINTER(c_uint32)),
        ("offsets", ctypes.POINTER(c_int64)),
    ]


@lru_cache(maxsize=64)
def _hash_layout(spec: HashSpec) -> Any:
    layout = _HashLayout(
        spec.levels,
        spec.features,
        spec.shift,
        (c_float * spec.levels)(*spec.scales),
        (c_uint32 * spec.levels)(*spec.strides),
        (c_uint32 * spec.levels)(*spec.sizes),
        (c_int64 * (spec.levels + 1))(*spec.offsets),
    )
    return ctypes.pointer(layout)


class _HashEncode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, spec: HashSpec) -> Tensor:
        ctx.save_for_backward(x, table)
        ctx.spec = spec
        out = x.new_empty(len(x), spec.width)
        call("gd_hash_forward", _hash_layout(spec), x, len(x), table, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, table = ctx.saved_tensors
        if torch.is_grad_enabled():
            run = partial(reference.hash_encode, spec=ctx.spec)
            wanted = ctx.needs_input_grad[:2]
            return *differentiable_gradients(run, (x, table), wanted, grads), None
        grad, layout = grads[0].contiguous(), _hash_layout(ctx.spec)
        grad_x = grad_table = None
        if ctx.needs_input_grad[1]:
            grad_table = torch.empty_like(table)
            call("gd_hash_backward_table", layout, x, len(x), grad, grad_table)
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            call("gd_hash_backward_x", layout, x, len(x), table, grad, grad_x)
            grad_x = torch.where((x < 0) | (x > 1), 0.0, grad_x)
        return grad_x, grad_table, None


def hash_encode(x: Tensor, table: Tensor, spec: HashSpec) -> Tensor:
    return _HashEncode.apply(x.contiguous(), table.contiguous(), spec)


class _Factor(ctypes.Structure):
    _fields_ = [
        ("plane", c_void_p),
        ("line", c_void_p),
        ("rows", c_int32),
        ("columns", c_int32),
        ("length", c_int32),
    ]


class _FactorGrad(ctypes.Structure):
    _fields_ = [("plane", c_void_p), ("line", c_void_p)]


def _factors(planes: Sequence[Tensor], lines: Sequence[Tensor]) -> Any:
    return (_Factor * 3)(
        *(
            _Factor(plane.data_ptr(), line.data_ptr(), plane.shape[0], plane.shape[1], len(line))
            for plane, line in zip(planes, lines, strict=True)
        )
    )


class _PlaneLine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *parts: Tensor) -> Tensor:
        ctx.save_for_backward(x, *parts)
        channels = parts[0].shape[2]
        out = x.new_empty(len(x), 3, channels)
        factors = _factors(parts[:3], parts[3:])
        call("gd_plane_line_forward", factors, c_int32(channels), x, len(x), out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *parts = ctx.saved_tensors
        if torch.is_grad_enabled():
            run = lambda x, *parts: reference.plane_line(x, parts[:3], parts[3:])  # noqa: E731
            return differentiable_gradients(run, (x, *parts), ctx.needs_input_grad, grads)
        grad, factors = grads[0].contiguous(), _factors(parts[:3], parts[3:])
        common = (c_int32(parts[0].shape[2]), x, len(x), grad)
        grad_x, grad_parts = None, [None] * 6
        if any(ctx.needs_input_grad[1:]):
            grad_parts = [torch.empty_like(part) for part in parts]
            targets = (_FactorGrad * 3)(
                *(
                    _FactorGrad(plane.data_ptr(), line.data_ptr())
                    for plane, line in zip(grad_parts[:3], grad_parts[3:], strict=True)
                )
            )
            call("gd_plane_line_backward", factors, targets, *common)
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            call("gd_plane_line_backward_x", factors, *common, grad_x)
        return grad_x, *grad_parts


def plane_line(x: Tensor, planes: Sequence[Tensor], lines: Sequence[Tensor]) -> Tensor:
    return _PlaneLine.apply(*(v.contiguous() for v in (x, *planes, *lines)))


class _Line(ctypes.Structure):
    _fields_ = [("nodes", c_void_p), ("length", c_int32)]


class _LineProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *lines: Tensor) -> Tensor:
        ctx.save_for_backward(x, *lines)
        out = x.new_empty(len(x), lines[0].shape[1])
        call("gd_line_product_forward", *_lines(lines), x, len(x), out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *lines = ctx.saved_tensors
        if torch.is_grad_enabled():
            run = lambda x, *lines: reference.line_product(x, lines)  # noqa: E731
            return differentiable_gradients(run, (x, *lines), ctx.needs_input_grad, grads)
        grad = grads[0].contiguous()
        grad_x, grad_lines = None, [None] * 3
        nodes, channels = _lines(lines)
        if any(ctx.needs_input_grad[1:]):
            grad_lines = [torch.empty_like(line) for line in lines]
            targets = pointers(grad_lines)
            call("gd_line_product_backward", nodes, targets, channels, x, len(x), grad)
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            call("gd_line_product_backward_x", nodes, channels, x, len(x), grad, grad_x)
        return grad_x, *grad_lines


def _lines(lines: Sequence[Tensor]) -> tuple[Any, c_int32]:
    rows = (_Line(line.data_ptr(), len(line)) for line in lines)
    return (_Line * 3)(*rows), c_int32(lines[0].shape[1])


def line_product(x: Tensor, lines: Sequence[Tensor]) -> Tensor:
    return _LineProduct.apply(x.contiguous(), *(line.contiguous() for line in lines))


class _Grid(ctypes.Structure):
    _fields_ = [("links", c_void_p), ("sizes", c_int32 * 3), ("rows", c_int32)]


class _VoxelInterp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, links: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(x, links, values)
        out = x.new_empty(len(x), values.shape[1])
        call("gd_voxel_forward", *_voxels(links, values), x, len(x), out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, links, values = ctx.saved_tensors
        if torch.is_grad_enabled():
            run = lambda x, values: reference.voxel_interp(x, links, values)  # noqa: E731
            wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[2])
            grad_x, grad_values = differentiable_gradients(run, (x, values), wanted, grads)
            return grad_x, None, grad_values
        grad, grid = grads[0].contiguous(), _voxels(links, values)
        grad_x = grad_values = None
        if ctx.needs_input_grad[2]:
            grad_values = x.new_empty(values.shape)
            call("gd_voxel_backward", grid[0], grid[3], x, len(x), grad, grad_values)
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            call("gd_voxel_backward_x", *grid, x, len(x), grad, grad_x)
        return grad_x, None, grad_values


def _voxels(links: Tensor, values: Tensor) -> tuple[Any, Tensor, c_int64, c_int32]:
    grid = _Grid(links.data_ptr(), (c_int32 * 3)(*links.shape), len(values))
    return ctypes.pointer(grid), values, c_int64(values.stride(0)), c_int32(values.shape[1])


def voxel_interp(x: Tensor, links: Tensor, values: Tensor) -> Tensor:
    # Some channels of a wider table are read where they are.
    if values.stride(1) != 1 and values.shape[1] > 1:
        values = values.contiguous()
    return _VoxelInterp.apply(x.contiguous(), links.contiguous(), values)
