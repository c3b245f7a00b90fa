"""What a field says about samples, inside PVD's density window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from geodistill.geometry.fields import Field
from geodistill.geometry.fields.heads import LatentField
from geodistill.geometry.fields.tensorf import FactoredBranch
from geodistill.render.samples import RayFootprint, RaySamples


@dataclass(frozen=True)
class Response:
    """What a field says about the samples of a batch, as far as it is asked.

    Only densities and the latents that are compared are clamped. Colours are decoded from the
    latent as it is, because that is how the field will be rendered.
    """

    field: Field
    samples: RaySamples
    raw_min: float
    raw_max: float

    @cached_property
    def latent(self) -> Tensor:
        return self.field.latent(self.samples.u)

    @cached_property
    def log_density(self) -> Tensor:
        """[S], clamped."""
        if isinstance(self.field, LatentField):
            return self.latent[:, 0].clamp(self.raw_min, self.raw_max)
        sigma = self.field.sigma_of(self.latent)
        return sigma.clamp(math.exp(self.raw_min), math.exp(self.raw_max)).log()

    @cached_property
    def feature(self) -> Tensor:
        """[S, 16] clamped in the log-density; of tensorf fields in every channel."""
        rest = self.latent[:, 1:]
        if isinstance(self.field, LatentField) and isinstance(self.field.branch, FactoredBranch):
            rest = rest.clamp(self.raw_min, self.raw_max)
        return torch.cat([self.log_density[:, None], rest], dim=1)

    @cached_property
    def rgb(self) -> Tensor:
        """[S, 3]"""
        return self.field.rgb_of(self.latent, self.samples.d)

    @cached_property
    def footprint(self) -> RayFootprint:
        return RayFootprint.from_density(self.log_density.exp(), self.samples)

    def over(self, background: Tensor) -> Tensor:
        """Composited colours over a background per ray. [R, 3] -> [R, 3]"""
        rgba = torch.cat([self.rgb, torch.ones_like(self.rgb[:, :1])], dim=1)
        image = self.footprint.render(rgba)
        return image[:, :3] + (1.0 - image[:, 3:]) * background
