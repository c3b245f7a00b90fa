"""The C++ kernels as autograd functions: float32 tensors in CPU memory, first derivatives.

Each function here has the meaning of its namesake in `reference`; the arguments have been checked.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_double, c_float, c_int32, c_int64, c_uint32, c_void_p
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from geodistill.checks import ShapeError
from geodistill.kernels.hashspec import HashSpec
from geodistill.kernels.library import LIBRARY, threads
from geodistill.kernels.reference import Samples


def _call(name: str, *arguments: Any) -> Any:
    """Call one function of the library; torch's thread count is always the last argument."""
    function = getattr(LIBRARY, name)
    return function(*(_plain(argument) for argument in arguments), c_int32(threads()))


def _plain(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return c_void_p(argument.data_ptr())
    return c_int64(argument) if isinstance(argument, int) else argument


if LIBRARY is not None:
    LIBRARY.gd_march.restype = c_void_p
    LIBRARY.gd_bad_offset.restype = c_int64


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
        x, table = x.contiguous(), table.contiguous()
        ctx.save_for_backward(x, table)
        ctx.spec = spec
        out = x.new_empty(len(x), spec.width)
        _call("gd_hash_forward", _hash_layout(spec), x, len(x), table, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, table = ctx.saved_tensors
        grad, layout = grads[0].contiguous(), _hash_layout(ctx.spec)
        grad_x = grad_table = None
        if ctx.needs_input_grad[1]:
            grad_table = torch.empty_like(table)
            _call("gd_hash_backward_table", layout, x, len(x), grad, grad_table)
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            _call("gd_hash_backward_x", layout, x, len(x), table, grad, grad_x)
            grad_x = torch.where((x < 0) | (x > 1), 0.0, grad_x)
        return grad_x, grad_table, None


def hash_encode(x: Tensor, table: Tensor, spec: HashSpec) -> Tensor:
    return _HashEncode.apply(x, table, spec)


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
        x, parts = x.contiguous(), tuple(part.contiguous() for part in parts)
        ctx.save_for_backward(x, *parts)
        channels = parts[0].shape[2]
        out = x.new_empty(len(x), 3, channels)
        factors = _factors(parts[:3], parts[3:])
        _call("gd_plane_line_forward", factors, c_int32(channels), x, len(x), out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *parts = ctx.saved_tensors
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
            _call("gd_plane_line_backward", factors, targets, *common)
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            _call("gd_plane_line_backward_x", factors, *common, grad_x)
        return grad_x, *grad_parts


def plane_line(x: Tensor, planes: Sequence[Tensor], lines: Sequence[Tensor]) -> Tensor:
    return _PlaneLine.apply(x, *planes, *lines)


class _Line(ctypes.Structure):
    _fields_ = [("nodes", c_void_p), ("length", c_int32)]


class _LineProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *lines: Tensor) -> Tensor:
        x, lines = x.contiguous(), tuple(line.contiguous() for line in lines)
        ctx.save_for_backward(x, *lines)
        out = x.new_empty(len(x), lines[0].shape[1])
        _call("gd_line_product_forward", *_lines(lines), x, len(x), out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *lines = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_x, grad_lines = None, [None] * 3
        pointers, channels = _lines(lines)
        if any(ctx.needs_input_grad[1:]):
            grad_lines = [torch.empty_like(line) for line in lines]
            targets = _pointers(grad_lines)
            _call("gd_line_product_backward", pointers, targets, channels, x, len(x), grad)
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            _call("gd_line_product_backward_x", pointers, channels, x, len(x), grad, grad_x)
        return grad_x, *grad_lines


def _lines(lines: Sequence[Tensor]) -> tuple[Any, c_int32]:
    rows = (_Line(line.data_ptr(), len(line)) for line in lines)
    return (_Line * 3)(*rows), c_int32(lines[0].shape[1])


def _pointers(tensors: Sequence[Tensor]) -> Any:
    return (c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


def line_product(x: Tensor, lines: Sequence[Tensor]) -> Tensor:
    return _LineProduct.apply(x, *lines)


class _Grid(ctypes.Structure):
    _fields_ = [("links", c_void_p), ("sizes", c_int32 * 3), ("rows", c_int32)]


class _VoxelInterp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, links: Tensor, values: Tensor) -> Tensor:
        x, links = x.contiguous(), links.contiguous()
        # Some channels of a wider table are read where they are.
        if values.stride(1) != 1 and values.shape[1] > 1:
            values = values.contiguous()
        ctx.save_for_backward(x, links, values)
        out = x.new_empty(len(x), values.shape[1])
        _call("gd_voxel_forward", *_voxels(links, values), x, len(x), out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, links, values = ctx.saved_tensors
        grad, grid = grads[0].contiguous(), _voxels(links, values)
        grad_x = grad_values = None
        if ctx.needs_input_grad[2]:
            grad_values = x.new_empty(values.shape)
            _call("gd_voxel_backward", grid[0], grid[3], x, len(x), grad, grad_values)
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            _call("gd_voxel_backward_x", *grid, x, len(x), grad, grad_x)
        return grad_x, None, grad_values


def _voxels(links: Tensor, values: Tensor) -> tuple[Any, Tensor, c_int64, c_int32]:
    grid = _Grid(links.data_ptr(), (c_int32 * 3)(*links.shape), len(values))
    return ctypes.pointer(grid), values, c_int64(values.stride(0)), c_int32(values.shape[1])


def voxel_interp(x: Tensor, links: Tensor, values: Tensor) -> Tensor:
    return _VoxelInterp.apply(x, links, values)


class _Rays(ctypes.Structure):
    _fields_ = [
        ("origins", c_void_p),
        ("directions", c_void_p),
        ("near", c_void_p),
        ("far", c_void_p),
        ("jitter", c_void_p),
        ("step", c_double),
        ("count", c_int64),
        ("max_samples", c_int64),
    ]


def march(
    origins: Tensor,
    directions: Tensor,
    near: Tensor,
    far: Tensor,
    step: float,
    occupancy: Tensor,
    jitter: Tensor | None,
    max_samples: int,
) -> Samples:
    inputs = [v.contiguous() for v in (origins, directions, near, far)]
    shift = None if jitter is None else jitter.contiguous()
    cells = occupancy.contiguous()
    cells = (cells if cells.dtype in (torch.bool, torch.uint8) else cells != 0).view(torch.uint8)
    pointer = None if shift is None else shift.data_ptr()
    rays = _Rays(*(v.data_ptr() for v in inputs), pointer, step, len(origins), max_samples)
    offsets = torch.empty(len(origins) + 1, dtype=torch.int64)
    sizes = (c_int64 * 3)(*cells.shape)
    handle = _call("gd_march", ctypes.byref(rays), cells, sizes, offsets)
    t = origins.new_empty(int(offsets[-1]))
    dt = torch.empty_like(t)
    _call("gd_march_take", c_void_p(handle), c_double(step), t, dt)
    return Samples(offsets, t, dt)


class _RayWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sigma: Tensor, dt: Tensor, offsets: Tensor) -> Tensor:
        sigma, dt = sigma.contiguous(), dt.contiguous()
        weights, after = torch.empty_like(sigma), torch.empty_like(sigma)
        rays = len(offsets) - 1
        _call("gd_ray_weights_forward", sigma, dt, offsets, rays, weights, after)
        ctx.save_for_backward(sigma, dt, offsets, weights, after)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        sigma, dt, offsets, weights, after = ctx.saved_tensors
        grad, rays = grads[0].contiguous(), len(offsets) - 1
        wanted = ctx.needs_input_grad[:2]
        results = [torch.empty_like(sigma) if want else None for want in wanted]
        inputs = (sigma, dt, offsets, rays, weights, after, grad)
        _call("gd_ray_weights_backward", *inputs, *results)
        return *results, None


def ray_weights(sigma: Tensor, dt: Tensor, offsets: Tensor) -> Tensor:
    return _RayWeights.apply(sigma, dt, _checked(offsets))


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, values: Tensor, offsets: Tensor) -> Tensor:
        weights, values = weights.contiguous(), values.contiguous()
        ctx.save_for_backward(weights, values, offsets)
        rays, channels = len(offsets) - 1, values.shape[1]
        out = values.new_empty(rays, channels)
        _call("gd_segment_sum_forward", weights, values, c_int32(channels), offsets, rays, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weights, values, offsets = ctx.saved_tensors
        grad, channels = grads[0].contiguous(), c_int32(values.shape[1])
        grad_weights = torch.empty_like(weights) if ctx.needs_input_grad[0] else None
        grad_values = torch.empty_like(values) if ctx.needs_input_grad[1] else None
        inputs = (weights, values, channels, offsets, len(offsets) - 1, grad)
        _call("gd_segment_sum_backward", *inputs, grad_weights, grad_values)
        return grad_weights, grad_values, None


def segment_sum(weights: Tensor, values: Tensor, offsets: Tensor) -> Tensor:
    return _SegmentSum.apply(weights, values, _checked(offsets))


def _checked(offsets: Tensor) -> Tensor:
    """Offsets the kernels can follow blindly."""
    offsets = offsets.contiguous()
    bad = _call("gd_bad_offset", offsets, len(offsets))
    if bad >= 0:
        raise ShapeError(
            f"offsets must start at 0 and never decrease, got {int(offsets[bad])} at index {bad}"
        )
    return offsets


def sparse_adam_step(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
) -> None:
    features = param.shape[-1]
    if param.numel() == 0:
        return
    tensors = (param, grad, exp_avg, exp_avg_sq)
    rates = (c_double(rate) for rate in (lr, beta1, beta2, eps))
    _call("gd_sparse_adam", *tensors, param.numel() // features, features, *rates, step)


class _Layer(ctypes.Structure):
    _fields_ = [("weight", c_void_p), ("inputs", c_int32), ("outputs", c_int32)]


class _FusedMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> Tensor:
        x, weights = x.contiguous(), tuple(weight.contiguous() for weight in weights)
        ctx.save_for_backward(x, *weights)
        out = x.new_empty(len(x), len(weights[-1]))
        _call("gd_mlp_forward", *_layers(weights), x, len(x), out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_weights = [torch.empty_like(weight) for weight in weights]
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        layers = _layers(weights)
        _call("gd_mlp_backward", *layers, x, len(x), grad, _pointers(grad_weights), grad_x)
        return grad_x, *grad_weights


def _layers(weights: Sequence[Tensor]) -> tuple[Any, c_int32]:
    rows = (_Layer(w.data_ptr(), w.shape[1], w.shape[0]) for w in weights)
    return (_Layer * len(weights))(*rows), c_int32(len(weights))


def fused_mlp(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    return _FusedMlp.apply(x, *weights)
