"""Samples along rays, in a field's unit cube, and the footprint they form."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill import kernels
from geodistill.cameras import Camera
from geodistill.footprint import Footprint
from geodistill.geometry.fields import Field
from geodistill.rays import Rays
from geodistill.render.contracted import contracted_samples

DEFAULT_STEP = 1.0 / 192
"""March step in units of the cube's half width: three samples per cell of a 128^3 grid."""
OPAQUE = 5.0
"""Optical thickness of a sample that lets next to nothing pass: 0.7 % of the light."""


@dataclass(frozen=True)
class RaySamples:
    """Samples of a batch of rays, ray after ray, front to back.

    Attributes:
        offsets: int64 [R + 1], where each ray's samples begin.
        ray: int64 [S], the ray of each sample.
        t: [S], distance from the ray's origin in unit-cube lengths.
        dt: [S], the length each sample stands for.
        u: [S, 3], position in the unit cube.
        d: [S, 3], unit direction in the unit cube's axes.
    """

    offsets: Tensor
    ray: Tensor
    t: Tensor
    dt: Tensor
    u: Tensor
    d: Tensor

    def __len__(self) -> int:
        return self.t.shape[0]

    @property
    def rays(self) -> int:
        return self.offsets.shape[0] - 1

    def select(self, keep: Tensor) -> RaySamples:
        """The samples where the bool mask [S] is True; the rays stay."""
        index = keep.nonzero()[:, 0]
        ray = self.ray.index_select(0, index)
        return self._at(index, _offsets(torch.bincount(ray, minlength=self.rays)), ray)

    def without_empty_rays(self) -> RaySamples:
        """The same samples, with the rays that have none removed."""
        counts = self.offsets.diff()
        offsets = _offsets(counts[counts > 0])
        return replace(self, offsets=offsets, ray=kernels.ray_index(offsets))

    def take(self, rays: Tensor) -> tuple[RaySamples, Tensor]:
        """A batch of the rays with the given indices, and which samples [S'] those are."""
        offsets = _offsets(self.offsets.diff()[rays])
        ray = kernels.ray_index(offsets)
        local = torch.arange(ray.shape[0], device=ray.device) - offsets[ray]
        index = self.offsets[rays][ray] + local
        return self._at(index, offsets, ray), index

    def _at(self, index: Tensor, offsets: Tensor, ray: Tensor) -> RaySamples:
        t, dt, u, d = (v.index_select(0, index) for v in (self.t, self.dt, self.u, self.d))
        return RaySamples(offsets, ray, t, dt, u, d)

    @classmethod
    def concatenate(cls, parts: list[RaySamples]) -> RaySamples:
        """Several batches of rays as one."""
        offsets = _offsets(torch.cat([part.offsets.diff() for part in parts]))
        return cls(
            offsets=offsets,
            ray=kernels.ray_index(offsets),
            t=torch.cat([part.t for part in parts]),
            dt=torch.cat([part.dt for part in parts]),
            u=torch.cat([part.u for part in parts]),
            d=torch.cat([part.d for part in parts]),
        )


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


class RayFootprint(Footprint):
    """Pixels are rays, elements are samples, the weights are T_i (1 - exp(-sigma_i dt_i)).

    The quadrature of volume rendering (Max 1995; Mildenhall et al. 2020, eq. 3).
    """

    def __init__(self, weights: Tensor, offsets: Tensor, ray: Tensor) -> None:
        self.weights, self.offsets, self.ray = weights, offsets, ray
        self.pixels, self.elements = offsets.shape[0] - 1, weights.shape[0]

    @classmethod
    def from_density(cls, sigma: Tensor, samples: RaySamples) -> RayFootprint:
        """The footprint of densities [S] at the samples; differentiable in sigma."""
        weights = kernels.ray_weights(sigma, samples.dt, samples.offsets)
        return cls(weights, samples.offsets, samples.ray)

    def render(self, features: Tensor) -> Tensor:
        return kernels.segment_sum(self.weights, features, self.offsets)

    def adjoint(self, pixels: Tensor) -> Tensor:
        return self.weights[:, None] * pixels[self.ray]

    def row_sums(self) -> Tensor:
        return self.render(torch.ones_like(self.weights)[:, None])[:, 0]

    def column_sums(self) -> Tensor:
        return self.weights

    def to_csr(self) -> Tensor:
        columns = torch.arange(self.elements, device=self.weights.device)
        size = (self.pixels, self.elements)
        return torch.sparse_csr_tensor(self.offsets, columns, self.weights.detach(), size)


def unit_camera(field: Field, camera: Camera) -> Camera:
    """The world camera as the field's unit cube sees it, on the field's device, in float32."""
    exact = camera.to(dtype=torch.float64)
    return field.frame.inverse().apply_camera(exact).to(field.device, torch.float32)


def cube_interval(rays: Rays) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave [-1, 1]^3; far <= near for rays that miss. ([R], [R])"""
    inverse = 1.0 / torch.where(rays.directions.abs() < 1e-9, 1e-9, rays.directions)
    a, b = (-1.0 - rays.origins) * inverse, (1.0 - rays.origins) * inverse
    near = torch.minimum(a, b).amax(dim=-1).clamp_min(0.0)
    return near, torch.maximum(a, b).amin(dim=-1)


def field_samples(
    field: Field, rays: Rays, step: float, jitter: Tensor | None = None
) -> RaySamples:
    """Samples of R rays in a field's space: as `march`, and through all of space where the field
    is contracted."""
    if field.contraction == "none":
        return march(rays, field.occupancy, step, jitter)
    ray, t, dt, u = contracted_samples(rays, field.occupancy, step, field.contraction, jitter)
    offsets = _offsets(torch.bincount(ray, minlength=len(rays.origins)))
    return RaySamples(offsets, ray, t, dt, u, rays.directions[ray])


def march(rays: Rays, occupancy: Tensor, step: float, jitter: Tensor | None = None) -> RaySamples:
    """Sample unit-cube rays at a fixed step inside the occupied cells.

    Args:
        rays: R rays in the unit cube.
        occupancy: bool [G, G, G].
        step: distance between samples.
        jitter: [R] in [0, 1), the phase of each ray's samples; the middle (0.5) when None.
    """
    near, far = cube_interval(rays)
    most = math.ceil(2.0 * math.sqrt(3.0) / step) + 1  # along a diagonal of the cube
    found = kernels.march(rays.origins, rays.directions, near, far, step, occupancy, jitter, most)
    ray = kernels.ray_index(found.offsets)
    d = rays.directions[ray]
    u = (rays.origins[ray] + found.t[:, None] * d).clamp(-1.0, 1.0)
    return RaySamples(found.offsets, ray, found.t, found.dt, u, d)


FIRST_ROUND = 6
"""Samples of each ray that are evaluated together at first."""


class Visible(NamedTuple):
    """What light reaches of S samples.

    Attributes:
        sigma: [S] density, zero where it was not evaluated.
        weights: [S] contribution to the ray.
        seen: bool [S], whether light arrives: the transmittance in front is at least `stop`.
    """

    sigma: Tensor
    weights: Tensor
    seen: Tensor


@torch.no_grad()
def visible(field: Field, samples: RaySamples, stop: float) -> Visible:
    """Evaluate density front to back until a ray's transmittance falls below `stop`.

    Rays are advanced in rounds of doubling length, so what lies behind a surface is never queried.
    """
    sigma = torch.zeros_like(samples.t)
    evaluated = torch.zeros_like(sigma, dtype=torch.bool)
    first, counts = samples.offsets[:-1], samples.offsets.diff()
    optical_depth = torch.zeros_like(first, dtype=sigma.dtype)
    start, width = 0, FIRST_ROUND
    rays = counts.nonzero()[:, 0]
    while len(rays):
        rank = torch.arange(start, start + width, device=first.device)
        inside = rank < counts[rays, None]
        index = (first[rays, None] + rank)[inside]
        found = field.sigma(samples.u.index_select(0, index))
        sigma[index], evaluated[index] = found, True
        tau = torch.zeros_like(inside, dtype=sigma.dtype)
        tau[inside] = found * samples.dt[index]
        optical_depth[rays] += tau.sum(dim=1)
        start, width = start + width, width * 2
        rays = rays[(counts[rays] > start) & (torch.exp(-optical_depth[rays]) >= stop)]
    before = F.pad((sigma * samples.dt).double().cumsum(0), (1, 0))
    light = torch.exp(before[first][samples.ray] - before[:-1])
    seen = evaluated & (light >= stop)
    weights = kernels.ray_weights(sigma, samples.dt, samples.offsets)
    return Visible(sigma, weights, seen)


FREE_POINTS = 1024


def free_points(field: Field, draw: torch.Generator) -> Tensor:
    """Random unit-cube points outside the occupancy. [N, 3], N at most `FREE_POINTS`"""
    u = torch.rand(FREE_POINTS, 3, generator=draw) * 2.0 - 1.0
    return u[~field.occupied(u)]


def free_space_loss(sigma: Tensor) -> Tensor:
    """Mean opacity of unit-length segments at `free_points`, given the densities there.

    It keeps a field transparent where its occupancy grid would hide what it holds.
    """
    return (1.0 - torch.exp(-sigma)).sum() / FREE_POINTS


def thickness_loss(sigma: Tensor, dt: Tensor) -> Tensor:
    """Mean square of how much thicker samples are than opaque ones need be, in logarithms.

    No image says how dense an opaque thing is, and none brings a density back that has drifted so
    far that a ray sees all of it or nothing: the gradient is gone.

    Args:
        sigma: [S] densities.
        dt: [S] the lengths that samples stand for.
    """
    excess = torch.log((sigma * dt).clamp_min(OPAQUE) / OPAQUE)
    return excess.square().sum() / max(1, len(sigma))
