"""Networks and optimisers by the C++ library."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_double, c_int32, c_void_p
from typing import Any

import torch
from torch import Tensor

from geodistill.kernels import reference
from geodistill.kernels.cpu.higher import differentiable_gradients
from geodistill.kernels.library import call, pointers


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
    call("gd_sparse_adam", *tensors, param.numel() // features, features, *rates, step)


class _Layer(ctypes.Structure):
    _fields_ = [("weight", c_void_p), ("inputs", c_int32), ("outputs", c_int32)]


class _FusedMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, *weights)
        out = x.new_empty(len(x), len(weights[-1]))
        call("gd_mlp_forward", *_layers(weights), x, len(x), out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        if torch.is_grad_enabled():
            run = lambda x, *weights: reference.fused_mlp(x, weights)  # noqa: E731
            return differentiable_gradients(run, (x, *weights), ctx.needs_input_grad, grads)
        grad = grads[0].contiguous()
        grad_weights = [torch.empty_like(weight) for weight in weights]
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        layers = _layers(weights)
        call("gd_mlp_backward", *layers, x, len(x), grad, pointers(grad_weights), grad_x)
        return grad_x, *grad_weights


def _layers(weights: Sequence[Tensor]) -> tuple[Any, c_int32]:
    rows = (_Layer(w.data_ptr(), w.shape[1], w.shape[0]) for w in weights)
    return (_Layer * len(weights))(*rows), c_int32(len(weights))


def fused_mlp(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    return _FusedMlp.apply(x.contiguous(), *(weight.contiguous() for weight in weights))
