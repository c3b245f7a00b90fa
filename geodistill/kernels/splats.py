"""Screen-space Gaussians, composited front to back."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill.checks import InputError, ShapeError, UsageError, check, check_finite
from geodistill.kernels.reference import (
    SplatPlan,
    Splatted,
)
from geodistill.kernels.table import implementation


def splat_plan(
    means_px: Tensor, conics: Tensor, opacities: Tensor, depths: Tensor, size: tuple[int, int]
) -> SplatPlan:
    """Sort Gaussians into the tiles of one view, front to back. No gradient.

    The plan is made once and serves `splat`, its backward pass and `splat_adjoint` as long as the
    means, conics and opacities are the ones it was made of.

    means_px: [N, 2] in pixels, the first of which spans [0, 1].  conics: [N, 3] inverse covariances
    (a, b, c) = [[a, b], [b, c]].  opacities: [N] in [0, 1].  depths: [N], nearer is smaller; equal
    ones keep their order.  size: (H, W).
    Raises InputError for NaN, opacities outside [0, 1] and conics that are not positive
    semi-definite.
    """
    check(
        means_px=(means_px, "N 2"),
        conics=(conics, "N 3"),
        opacities=(opacities, "N"),
        depths=(depths, "N"),
    )
    if min(size) < 1:
        raise UsageError(f"size must be (height, width) of at least 1, got {size}")
    check_finite(means_px=means_px, conics=conics, opacities=opacities, depths=depths)
    _check_each("opacities", (opacities >= 0) & (opacities <= 1), "outside [0, 1]")
    a, b, c = conics.detach().double().unbind(1)
    # A needle's conic is singular to float32.
    proper = (a >= 0) & (c >= 0) & (b * b <= a * c * (1 + 1e-5))
    _check_each("conics", proper, "not positive semi-definite")
    run = implementation("splat_plan", means_px, conics, opacities, depths)
    return run(means_px, conics, opacities, depths, size)


def splat(
    means_px: Tensor, conics: Tensor, opacities: Tensor, features: Tensor, plan: SplatPlan
) -> Splatted:
    """Composite Gaussians front to back. Gradients: means_px, conics, opacities, features.

    alpha = opacity exp(-(a dx^2 + c dy^2) / 2 - b dx dy), at most 0.99 and nothing below 1/255;
    weight = alpha times the product of 1 - alpha over what is in front; a pixel ends before less
    than 1e-4 of the light would be left (`reference.splats` says why).

    means_px, conics, opacities: as given to `splat_plan`.  features: [N, C], any C.
    Returns Splatted(pixels [H * W, C], opacity [H * W]).
    Source: Kerbl et al., "3D Gaussian Splatting", 2023, eq. 3, with its constants.
    """
    _check_splats(means_px, conics, opacities, plan)
    check(means_px=(means_px, "N 2"), features=(features, "N C"))
    run = implementation("splat", means_px, conics, opacities, features)
    return run(means_px, conics, opacities, features, plan)


def splat_adjoint(
    means_px: Tensor, conics: Tensor, opacities: Tensor, pixels: Tensor, plan: SplatPlan
) -> Tensor:
    """Sums over the image of weight times pixel, for every Gaussian: the adjoint of `splat`.

    means_px, conics, opacities: as given to `splat_plan`.  pixels: [H * W, C].
    Returns [N, C]; no gradient.
    """
    _check_splats(means_px, conics, opacities, plan)
    check(pixels=(pixels, f"{plan.size[0] * plan.size[1]} C"))
    run = implementation("splat_adjoint", means_px, conics, opacities, pixels)
    with torch.no_grad():
        return run(means_px, conics, opacities, pixels, plan)


def _check_splats(means_px: Tensor, conics: Tensor, opacities: Tensor, plan: SplatPlan) -> None:
    check(means_px=(means_px, "N 2"), conics=(conics, "N 3"), opacities=(opacities, "N"))
    if len(plan.extents) != len(means_px):
        raise ShapeError(
            f"the plan was made of {len(plan.extents)} splats, but means_px holds {len(means_px)}"
        )


def _check_each(name: str, good: Tensor, what: str) -> None:
    count = int((~good).sum())
    if count:
        first = int((~good).nonzero()[0, 0])
        raise InputError(
            f"{name} holds {count} of {len(good)} that are {what}, the first at index {first}"
        )
