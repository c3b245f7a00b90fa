"""Rays by the C++ library: marching and compositing."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_double, c_int32, c_int64, c_void_p
from functools import partial
from typing import Any

import torch
from torch import Tensor

from geodistill.kernels import reference
from geodistill.kernels.cpu.higher import differentiable_gradients
from geodistill.kernels.library import call
from geodistill.kernels.reference import Composite, Samples


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
    handle = call("gd_march", ctypes.byref(rays), cells, sizes, offsets)
    t = origins.new_empty(int(offsets[-1]))
    dt = torch.empty_like(t)
    call("gd_march_take", c_void_p(handle), c_double(step), t, dt)
    return Samples(offsets, t, dt)


def offsets_end(offsets: Tensor) -> int:
    return call("gd_offsets_end", offsets.contiguous(), len(offsets) - 1)


class _RayWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sigma: Tensor, dt: Tensor, offsets: Tensor) -> Tensor:
        rays = len(offsets) - 1
        weights, opacity = torch.empty_like(sigma), sigma.new_empty(rays)
        call("gd_ray_weights_forward", sigma, dt, offsets, rays, weights, opacity)
        ctx.save_for_backward(sigma, dt, offsets, weights, opacity)
        return weights

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        sigma, dt, offsets, weights, opacity = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            run = partial(reference.ray_weights, offsets=offsets)
            return *differentiable_gradients(run, (sigma, dt), wanted, grads), None
        grad, rays = grads[0].contiguous(), len(offsets) - 1
        results = [torch.empty_like(sigma) if want else None for want in wanted]
        inputs = (sigma, dt, offsets, rays, weights, opacity, grad)
        call("gd_ray_weights_backward", *inputs, *results)
        return *results, None


def ray_weights(sigma: Tensor, dt: Tensor, offsets: Tensor) -> Tensor:
    return _RayWeights.apply(sigma.contiguous(), dt.contiguous(), offsets.contiguous())


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, values: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(weights, values, offsets)
        rays, channels = len(offsets) - 1, values.shape[1]
        out = values.new_empty(rays, channels)
        call("gd_segment_sum_forward", weights, values, c_int32(channels), offsets, rays, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weights, values, offsets = ctx.saved_tensors
        if torch.is_grad_enabled():
            run = partial(reference.segment_sum, offsets=offsets)
            wanted = ctx.needs_input_grad[:2]
            return *differentiable_gradients(run, (weights, values), wanted, grads), None
        grad, channels = grads[0].contiguous(), c_int32(values.shape[1])
        grad_weights = torch.empty_like(weights) if ctx.needs_input_grad[0] else None
        grad_values = torch.empty_like(values) if ctx.needs_input_grad[1] else None
        inputs = (weights, values, channels, offsets, len(offsets) - 1, grad)
        call("gd_segment_sum_backward", *inputs, grad_weights, grad_values)
        return grad_weights, grad_values, None


def segment_sum(weights: Tensor, values: Tensor, offsets: Tensor) -> Tensor:
    return _SegmentSum.apply(weights.contiguous(), values.contiguous(), offsets.contiguous())


def _composited(*columns: Sequence[Tensor | None]) -> Any:
    """Rows of (values, sums, grad, grad_values) -> an array of the library's `Composited`."""
    words = []
    for row in zip(*columns, strict=True):
        words += (0 if tensor is None else tensor.data_ptr() for tensor in row)
        words.append(row[0].shape[1])
    return (c_int64 * len(words))(*words)


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, sigma: Tensor, dt: Tensor, offsets: Tensor, *values: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        rays, none = len(offsets) - 1, [None] * len(values)
        weights, opacity = torch.empty_like(sigma), sigma.new_empty(rays)
        sums = [sigma.new_empty(rays, v.shape[1]) for v in values]
        parts = _composited(values, sums, none, none)
        inputs = (sigma, dt, offsets, rays)
        call("gd_composite_forward", *inputs, weights, opacity, parts, len(values))
        ctx.save_for_backward(sigma, dt, offsets, weights, opacity, *values)
        return weights, opacity, *sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        sigma, dt, offsets, weights, opacity, *values = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        if torch.is_grad_enabled():
            inputs, needed = (sigma, dt, *values), (*wanted[:2], *wanted[3:])
            run = partial(_reference_composite, offsets)
            first, second, *others = differentiable_gradients(run, inputs, needed, grads)
            return first, second, None, *others
        rays = len(offsets) - 1
        grad_weights = None if grads[0] is None else grads[0].contiguous()
        grad_opacity, *grad_sums = (
            sigma.new_zeros(shape) if grad is None else grad.contiguous()
            for grad, shape in zip(
                grads[1:], [(rays,), *((rays, v.shape[1]) for v in values)], strict=True
            )
        )
        grad_sigma, grad_dt = (torch.empty_like(sigma) if want else None for want in wanted[:2])
        pairs = zip(values, wanted[3:], strict=True)
        grad_values = [torch.empty_like(v) if want else None for v, want in pairs]
        parts = _composited(values, [None] * len(values), grad_sums, grad_values)
        inputs = (sigma, dt, offsets, rays, weights, opacity, grad_opacity, parts, len(values))
        call("gd_composite_backward", *inputs, grad_weights, grad_sigma, grad_dt)
        return grad_sigma, grad_dt, None, *grad_values


def _reference_composite(
    offsets: Tensor, sigma: Tensor, dt: Tensor, *values: Tensor
) -> tuple[Tensor, ...]:
    seen = reference.composite(sigma, dt, values, offsets)
    return seen.weights, seen.opacity, *seen.sums


def composite(sigma: Tensor, dt: Tensor, values: Sequence[Tensor], offsets: Tensor) -> Composite:
    inputs = (v.contiguous() for v in (sigma, dt, offsets, *values))
    weights, opacity, *sums = _Composite.apply(*inputs)
    return Composite(weights, opacity, tuple(sums))
