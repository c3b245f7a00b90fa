"""Screen-space Gaussians by the C++ library."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_int64, c_void_p
from functools import partial
from typing import Any

import torch
from torch import Tensor

from geodistill.kernels import reference
from geodistill.kernels.cpu.higher import differentiable_gradients
from geodistill.kernels.library import call
from geodistill.kernels.reference import SplatPlan, Splatted


class _View(ctypes.Structure):
    _fields_ = [
        ("means", c_void_p),
        ("conics", c_void_p),
        ("opacities", c_void_p),
        ("extents", c_void_p),
        ("offsets", c_void_p),
        ("elements", c_void_p),
        ("count", c_int64),
        ("height", c_int64),
        ("width", c_int64),
    ]


def _view(geometry: Sequence[Tensor], plan: SplatPlan) -> Any:
    parts = (*geometry, plan.extents, plan.offsets, plan.elements)
    return ctypes.byref(_View(*(v.data_ptr() for v in parts), len(plan.extents), *plan.size))


def splat_plan(
    means_px: Tensor, conics: Tensor, opacities: Tensor, depths: Tensor, size: tuple[int, int]
) -> SplatPlan:
    geometry = [v.detach().contiguous() for v in (means_px, conics, opacities)]
    order = torch.sort(depths.detach(), stable=True).indices
    tiles = -(-size[0] // reference.TILE) * -(-size[1] // reference.TILE)
    extents, offsets = means_px.new_empty(len(order), 2), torch.empty(tiles + 1, dtype=torch.int64)
    plan = SplatPlan(size, extents, offsets, torch.empty(0, dtype=torch.int32))
    call("gd_splat_count", _view(geometry, plan), extents, offsets)
    plan = SplatPlan(size, extents, offsets, torch.empty(int(offsets[-1]), dtype=torch.int32))
    call("gd_splat_fill", _view(geometry, plan), order, plan.elements)
    return plan


class _Splat(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, means_px: Tensor, conics: Tensor, opacities: Tensor, features: Tensor, plan: Any
    ) -> tuple[Tensor, Tensor]:
        count, channels = plan.size[0] * plan.size[1], features.shape[1]
        pixels, opacity = features.new_empty(count, channels), features.new_empty(count)
        view = _view((means_px, conics, opacities), plan)
        call("gd_splat_forward", view, features, channels, pixels, opacity)
        ctx.save_for_backward(means_px, conics, opacities, features, pixels, opacity)
        ctx.plan = plan
        return pixels, opacity

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *geometry, features, pixels, opacity = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:4]
        if torch.is_grad_enabled():
            run = partial(reference.splat, plan=ctx.plan)
            return *differentiable_gradients(run, (*geometry, features), wanted, grads), None
        shaped = any(wanted[:3])
        grad_geometry = [torch.empty_like(v) if shaped else None for v in geometry]
        grad_features = torch.zeros_like(features) if wanted[3] else None
        grad_pixels, grad_opacity = (grad.contiguous() for grad in grads)
        inputs = (features, features.shape[1], pixels, opacity, grad_pixels, grad_opacity)
        outputs = (grad_features, *grad_geometry)
        call("gd_splat_backward", _view(geometry, ctx.plan), *inputs, *outputs)
        found = (g if want else None for g, want in zip(grad_geometry, wanted, strict=False))
        return *found, grad_features, None


def splat(
    means_px: Tensor, conics: Tensor, opacities: Tensor, features: Tensor, plan: SplatPlan
) -> Splatted:
    inputs = (v.contiguous() for v in (means_px, conics, opacities, features))
    return Splatted(*_Splat.apply(*inputs, plan))


def splat_adjoint(
    means_px: Tensor, conics: Tensor, opacities: Tensor, pixels: Tensor, plan: SplatPlan
) -> Tensor:
    geometry = [v.contiguous() for v in (means_px, conics, opacities)]
    given = pixels.contiguous()
    out = given.new_zeros(len(means_px), given.shape[1])
    call("gd_splat_adjoint", _view(geometry, plan), given, given.shape[1], out)
    return out
