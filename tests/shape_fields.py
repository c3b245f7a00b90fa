"""Fields of shapes given by their distance: sharp, opaque, in colours that depend on the place."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from geodistill.cameras import Similarity
from geodistill.geometry.fields.base import Field

Shape = Callable[[Tensor], Tensor]
"""Signed distances [N] at points [N, 3] of the unit cube, negative inside."""


class ShapeField(Field):
    """Density `peak` inside a shape, 0 outside; colour 0.5 + 0.4 sin(5 u), a little view-dependent.

    `frame` places its cube in the world.
    """

    def __init__(self, shape: Shape, frame: Similarity | None = None, peak: float = 400.0) -> None:
        super().__init__("shape", {})
        self.shape, self.peak = shape, peak
        if frame is not None:
            self.world_from_field = frame.matrix()
        size = self.occupancy.shape[0]
        axis = (torch.arange(size) + 0.5) * (2.0 / size) - 1.0
        centers = torch.cartesian_prod(axis, axis, axis)
        self.occupancy = (shape(centers) < math.sqrt(3) / size).reshape(self.occupancy.shape)

    def latent(self, u: Tensor) -> Tensor:
        sigma = self.peak * (self.shape(u) < 0)
        return torch.cat([sigma[:, None], pattern(u)], dim=1)

    def sigma_of(self, latent: Tensor) -> Tensor:
        return latent[:, 0]

    def rgb_of(self, latent: Tensor, directions: Tensor) -> Tensor:
        return (latent[:, 1:] + 0.05 * directions).clamp(0.0, 1.0)

    def param_groups(self):
        return []


def pattern(u: Tensor) -> Tensor:
    """Colours [N, 3] at points of the unit cube."""
    return 0.5 + 0.4 * torch.sin(5 * u + u.new_tensor([0.0, 1.0, 2.0]))


def ball(center: tuple[float, float, float], radius: float) -> Shape:
    return lambda u: (u - u.new_tensor(center)).norm(dim=1) - radius


def ring(radius: float, thickness: float) -> Shape:
    """A torus about z."""

    def distance(u: Tensor) -> Tensor:
        around = u[:, :2].norm(dim=1) - radius
        return torch.stack([around, u[:, 2]], dim=1).norm(dim=1) - thickness

    return distance


def slab(half: tuple[float, float, float]) -> Shape:
    return lambda u: (u.abs() - u.new_tensor(half)).amax(dim=1)


def union(*shapes: Shape) -> Shape:
    return lambda u: torch.stack([shape(u) for shape in shapes]).amin(dim=0)
