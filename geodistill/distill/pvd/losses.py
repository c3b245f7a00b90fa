"""Point and ray losses between a student and cached teacher samples."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill import kernels
from geodistill.render.samples import RaySamples


def alpha_error(sigma: Tensor, teacher_sigma: Tensor, dt: Tensor) -> Tensor:
    """Squared difference of the opacity of one march step, alpha = 1 - exp(-sigma dt). [S]

    Where density is indistinguishable in an image, alpha is too: there is nothing to clamp
    (KiloNeRF, Reiser et al. 2021, distils in alpha as well).
    """
    return (torch.exp(-sigma * dt) - torch.exp(-teacher_sigma * dt)).square()


def point_loss(value: Tensor, teacher_value: Tensor, weights: Tensor) -> Tensor:
    """Squared difference of [N, C] weighted by what each sample contributes to its ray."""
    error = (value - teacher_value).square().sum(dim=1)
    return (error * weights).sum() / weights.sum().clamp_min(1e-6)


def ray_loss(
    sigma: Tensor, rgb: Tensor, samples: RaySamples, color: Tensor, opacity: Tensor, behind: Tensor
) -> Tensor:
    """Mean squared difference of composited colours over a random background per ray.

    Args:
        sigma: [S]; rgb: [S, 3] of the student at the samples.
        color: [R, 3] premultiplied teacher colour; opacity: [R].
        behind: [R, 3] background.
    """
    seen = kernels.composite(sigma, samples.dt, (rgb,), samples.offsets)
    error = seen.sums[0] - color + (opacity - seen.opacity)[:, None] * behind
    return error.square().mean()
