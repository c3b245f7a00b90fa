"""Kernels that a library made for the GPU runs in place of the references: gsplat for splats.

gsplat is imported when the first splats on a GPU are drawn; its first import on a machine builds
its CUDA code, which takes minutes and needs the CUDA toolkit. First derivatives only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from geodistill.kernels.reference import TILE, SplatPlan, Splatted
from geodistill.log import say

KERNELS = ("splat", "splat_adjoint")
CHANNELS = 128
"""Most that are composited in one pass; the derivatives of more do not fit shared memory."""


def library() -> str | None:
    """Its name where it is installed and there is a GPU."""
    return "gsplat" if torch.cuda.is_available() and find_spec("gsplat") else None


@cache
def rasterizer() -> Callable[..., tuple[Tensor, Tensor]] | None:
    """gsplat's, or None where it is not installed or could not be built; the latter is said."""
    if library() is None:
        return None
    try:
        from gsplat import rasterize_to_pixels  # pyright: ignore[reportMissingImports]
        from gsplat.cuda import _backend  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        say(f"gsplat does not build ({reason}): splats are drawn by the slow reference")
        return None
    if _backend._C is None:
        say("gsplat found no CUDA toolkit to build with: splats are drawn by the slow reference")
        return None
    return rasterize_to_pixels


def splat(
    means_px: Tensor, conics: Tensor, opacities: Tensor, features: Tensor, plan: SplatPlan
) -> Splatted:
    """`reference.splat`, but that a Gaussian covers up to 0.999 of a pixel instead of 0.99."""
    count, wanted = features.shape
    if not wanted:  # gsplat needs a channel
        features = torch.cat([features, features.new_zeros(count, 1)], dim=1)
    geometry, draw = (means_px, conics, opacities), rasterizer()
    assert draw is not None
    height, width = plan.size
    tiles = plan.offsets[:-1].int().view(1, -(-height // TILE), -(-width // TILE))
    pixels, opacity = [], []
    for block in features.split(CHANNELS, dim=1):
        means, conic, shown, values = (v[None] for v in (*geometry, block))
        image, alpha = draw(means, conic, values, shown, width, height, TILE, tiles, plan.elements)
        pixels.append(image.reshape(height * width, -1))
        opacity.append(alpha.reshape(-1))
    return Splatted(torch.cat(pixels, dim=1)[:, :wanted], opacity[0])


def splat_adjoint(
    means_px: Tensor, conics: Tensor, opacities: Tensor, pixels: Tensor, plan: SplatPlan
) -> Tensor:
    means, conic, shown = (v.detach() for v in (means_px, conics, opacities))
    zeros = pixels.new_zeros(len(means_px), pixels.shape[1], requires_grad=True)
    with torch.enable_grad():
        drawn = splat(means, conic, shown, zeros, plan).pixels
    return torch.autograd.grad(drawn, zeros, pixels)[0]
