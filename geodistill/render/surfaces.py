"""Fields and splats as the surface that one camera sees of them: where light is first absorbed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill import kernels
from geodistill.cameras import Camera
from geodistill.geometry.fields import Field
from geodistill.geometry.splats import Splats
from geodistill.rays import Rays, camera_rays
from geodistill.render.fields import NEGLIGIBLE, RAYS_PER_CHUNK, STOP
from geodistill.render.samples import (
    DEFAULT_STEP,
    RayFootprint,
    RaySamples,
    march,
    unit_camera,
    visible,
)
from geodistill.render.splats import project, ray_lengths, splat_colors

SOLID = 0.5
"""Opacity from which a pixel shows a surface."""
FIRST = 0.1
"""Share of the light that is absorbed in front of a field's surface. A field is transparent outside
of what it shows and needs some depth to become opaque inside, so that where half is absorbed lies
behind the surface."""


@dataclass(frozen=True, eq=False)
class SurfaceView:
    """What one camera sees.

    Attributes:
        camera: in the world.
        color: [H, W, 3] premultiplied by opacity; opacity: [H, W].
        depth: [H, W] distance along the ray in world units, infinite where there is no surface.
        spread: [H, W] standard deviation of where light is absorbed, as far as it is not known
            better than by a mean; zero for fields.
    """

    camera: Camera
    color: Tensor
    opacity: Tensor
    depth: Tensor
    spread: Tensor

    def points(self) -> Tensor:
        """The places of the surface that are seen, float64 [N, 3] in the world."""
        solid = self.depth.isfinite()
        rays = camera_rays(self.camera.to(dtype=torch.float64))
        away = self.depth[solid].double()[:, None]
        return rays.origins[solid.reshape(-1)] + rays.directions[solid.reshape(-1)] * away


@torch.no_grad()
def field_surface(field: Field, camera: Camera, step: float = DEFAULT_STEP) -> SurfaceView:
    """A field's surface: where `FIRST` of the light of a ray is gone, of rays that lose half."""
    rays = camera_rays(unit_camera(field, camera))
    chunks = [
        _field_chunk(field, Rays(origins, directions), step)
        for origins, directions in zip(
            rays.origins.split(RAYS_PER_CHUNK), rays.directions.split(RAYS_PER_CHUNK), strict=True
        )
    ]
    color, opacity, depth = (torch.cat(parts) for parts in zip(*chunks, strict=True))
    size = camera.size
    depth = (depth * float(field.frame.s)).reshape(size)
    return SurfaceView(
        camera, color.reshape(*size, 3), opacity.reshape(size), depth, torch.zeros_like(depth)
    )


def _field_chunk(field: Field, rays: Rays, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Colour [R, 3], opacity [R] and depth [R] in unit-cube lengths."""
    samples = march(rays, field.occupancy, step)
    weights = visible(field, samples, STOP).weights
    depth = first_depth(samples, weights, FIRST)
    keep = weights > NEGLIGIBLE
    samples, weights = samples.select(keep), weights[keep]
    rgb = field.rgb_of(field.latent(samples.u), samples.d)
    rgba = torch.cat([rgb, torch.ones_like(rgb[:, :1])], dim=1)
    image = RayFootprint(weights, samples.offsets, samples.ray).render(rgba)
    opacity = image[:, 3].clamp(max=1.0)
    return image[:, :3], opacity, torch.where(opacity > SOLID, depth, torch.inf)


def first_depth(samples: RaySamples, weights: Tensor, share: float) -> Tensor:
    """Where rays have lost this share of their light, in unit-cube lengths; infinite for rays that
    never do. [R]

    Between samples, weights [S] are taken to be spread evenly over the length of theirs.
    """
    depth = torch.full((samples.rays,), torch.inf, device=weights.device)
    if not len(weights):
        return depth
    total = weights.double().cumsum(0)
    before = F.pad(total, (1, 0))[samples.offsets[:-1]]
    wanted = before + share
    at = torch.searchsorted(total, wanted)
    hit = (at < samples.offsets[1:]).nonzero()[:, 0]
    at = at[hit]
    passed = torch.maximum(F.pad(total, (1, 0))[at], before[hit])
    part = ((wanted[hit] - passed) / weights[at].double().clamp_min(1e-12)).clamp(0, 1)
    depth[hit] = samples.t[at] + (part.to(depth) - 0.5) * samples.dt[at]
    return depth


@torch.no_grad()
def splat_surface(splats: Splats, camera: Camera) -> SurfaceView:
    """Splats' surface: the mean depth of what absorbs the light, and how far that is spread.

    Raises what `project` raises.
    """
    projected = project(splats, camera)
    plan = kernels.splat_plan(*projected, camera.size)
    drawn = projected.depths[projected.opacities > 0]
    middle = drawn.median() if len(drawn) else projected.depths.new_zeros(())
    away = projected.depths - middle  # squares of small numbers lose less
    features = torch.cat([splat_colors(splats, camera), away[:, None], away[:, None] ** 2], dim=1)
    pixels, opacity = kernels.splat(*projected[:3], features, plan)
    mean, square = (pixels[:, 3:] / opacity.clamp_min(1e-6)[:, None]).unbind(1)
    length = ray_lengths(camera).to(pixels)
    depth = torch.where(opacity > SOLID, (mean + middle) * length, torch.inf)
    spread = (square - mean**2).clamp_min(0).sqrt() * length
    size = camera.size
    return SurfaceView(
        camera, pixels[:, :3].reshape(*size, 3), *(t.view(size) for t in (opacity, depth, spread))
    )
