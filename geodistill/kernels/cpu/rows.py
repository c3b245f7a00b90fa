"""Weighted sums of rows by index, and their adjoint, by the C++ library."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from geodistill.kernels import reference
from geodistill.kernels.cpu.higher import differentiable_gradients
from geodistill.kernels.library import call


def gather_rows(features: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """`gather` of contiguous tensors, without a graph."""
    out = features.new_empty(len(index), features.shape[1])
    call("gd_gather", features, *features.shape, index, weights, *index.shape, out)
    return out


def scatter_rows(pixels: Tensor, index: Tensor, weights: Tensor | None, elements: int) -> Tensor:
    """`scatter` of contiguous tensors, without a graph; no weights: all are 1."""
    out = pixels.new_empty(elements, pixels.shape[1])
    call("gd_scatter", pixels, pixels.shape[1], index, weights, *index.shape, out, elements)
    return out


def _products(features: Tensor, pixels: Tensor, index: Tensor) -> Tensor:
    """pixels[p] . features[index[p, k]], [P, K]"""
    out = pixels.new_empty(index.shape)
    call("gd_row_products", features, *features.shape, pixels, index, *index.shape, out)
    return out


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(features, index, weights)
        return gather_rows(features, index, weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        features, index, weights = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0], ctx.needs_input_grad[2]
        if torch.is_grad_enabled():
            run = partial(_reference_gather, index)
            found = differentiable_gradients(run, (features, weights), wanted, grads)
            return found[0], None, found[1]
        grad = grads[0].contiguous()
        return (
            scatter_rows(grad, index, weights, len(features)) if wanted[0] else None,
            None,
            _products(features, grad, index) if wanted[1] else None,
        )


def _reference_gather(index: Tensor, features: Tensor, weights: Tensor) -> Tensor:
    return reference.gather(features, index, weights)


def gather(features: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    return _Gather.apply(features.contiguous(), index.contiguous(), weights.contiguous())


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pixels: Tensor, index: Tensor, weights: Tensor, elements: int) -> Tensor:
        ctx.save_for_backward(pixels, index, weights)
        ctx.elements = elements
        return scatter_rows(pixels, index, weights, elements)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        pixels, index, weights = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0], ctx.needs_input_grad[2]
        if torch.is_grad_enabled():
            run = partial(_reference_scatter, index, ctx.elements)
            found = differentiable_gradients(run, (pixels, weights), wanted, grads)
            return found[0], None, found[1], None
        grad = grads[0].contiguous()
        return (
            gather_rows(grad, index, weights) if wanted[0] else None,
            None,
            _products(grad, pixels, index) if wanted[1] else None,
            None,
        )


def _reference_scatter(index: Tensor, elements: int, pixels: Tensor, weights: Tensor) -> Tensor:
    return reference.scatter(pixels, index, weights, elements)


def scatter(pixels: Tensor, index: Tensor, weights: Tensor, elements: int) -> Tensor:
    inputs = (v.contiguous() for v in (pixels, index, weights))
    return _Scatter.apply(*inputs, elements)
