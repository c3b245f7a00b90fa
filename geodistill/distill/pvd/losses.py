"""Point and ray losses between a student and cached teacher samples."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill.convert.cache import TeacherCache
from geodistill.geometry.fields import Field
from geodistill.render.samples import RayFootprint, RaySamples

FREE_POINTS = 1024


def alpha_loss(sigma: Tensor, teacher_sigma: Tensor, dt: Tensor) -> Tensor:
    """Mean squared difference of the opacity of one march step, alpha = 1 - exp(-sigma dt).

    Where density is indistinguishable in an image, alpha is too: there is nothing to clamp
    (KiloNeRF, Reiser et al. 2021, distils in alpha as well).
    """
    return (torch.exp(-sigma * dt) - torch.exp(-teacher_sigma * dt)).square().mean()


def color_loss(rgb: Tensor, teacher_rgb: Tensor, weights: Tensor) -> Tensor:
    """Squared colour difference weighted by what each sample contributes to its ray."""
    return ((rgb - teacher_rgb).square().sum(dim=1) * weights).sum() / weights.sum().clamp_min(1e-6)


def ray_loss(
    sigma: Tensor, rgb: Tensor, samples: RaySamples, color: Tensor, opacity: Tensor, behind: Tensor
) -> Tensor:
    """Mean squared difference of composited colours over a random background per ray.

    Args:
        sigma: [S]; rgb: [S, 3] of the student at the samples.
        color: [R, 3] premultiplied teacher colour; opacity: [R].
        behind: [R, 3] background.
    """
    footprint = RayFootprint.from_density(sigma, samples)
    image = footprint.render(torch.cat([rgb, torch.ones_like(rgb[:, :1])], dim=1))
    error = image[:, :3] - color + (opacity - image[:, 3])[:, None] * behind
    return error.square().mean()


def free_space_loss(student: Field, cache: TeacherCache, draw: torch.Generator) -> Tensor:
    """Mean opacity of unit-length segments at random points outside the occupancy.

    It keeps the student transparent where its grid would hide what it holds.
    """
    u = torch.rand(FREE_POINTS, 3, generator=draw) * 2.0 - 1.0
    u = u[~student.occupied(u)]
    if len(u) == 0:
        return torch.zeros(())
    return (1.0 - torch.exp(-student.sigma(u))).sum() / FREE_POINTS
