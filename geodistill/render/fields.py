"""Volume rendering of radiance fields: single rays for training, whole views for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from geodistill import kernels
from geodistill.cameras import Camera
from geodistill.geometry.contraction import contract
from geodistill.geometry.fields import Field
from geodistill.rays import Rays, camera_rays
from geodistill.render.samples import (
    DEFAULT_STEP,
    RayFootprint,
    RaySamples,
    field_samples,
    unit_camera,
    visible,
)

STOP = 1e-3
"""Transmittance at which a ray ends."""
NEGLIGIBLE = 1e-5
"""Weight below which a sample's colour is not evaluated."""
RAYS_PER_CHUNK = 1 << 14


@dataclass(frozen=True)
class GBuffer:
    """Named channels of one view or batch of rays; depth and normal are 0 where nothing is hit.

    Attributes:
        color: [..., 3] premultiplied by opacity, in the field's colour space.
        opacity: [...] in [0, 1].
        depth: [...] mean distance along the ray where light is absorbed, in world units.
        normal: [..., 3] unit world normals towards lower density, or None.
    """

    color: Tensor
    opacity: Tensor
    depth: Tensor
    normal: Tensor | None = None

    def over(self, background: Tensor | float) -> Tensor:
        """Colour over an opaque background. [..., 3]"""
        return self.color + (1.0 - self.opacity)[..., None] * background


@torch.no_grad()
def render_rays(
    field: Field, rays: Rays, step: float = DEFAULT_STEP, normals: bool = False
) -> GBuffer:
    """Render rays without gradients.

    Args:
        field: the scene.
        rays: N rays in its unit cube.
        step: march step in scene radii.
        normals: whether normals are wanted.

    Returns:
        Channels [N, ...], depth in world units.
    """
    chunks = [
        _render_chunk(field, Rays(origins, directions), step, normals)
        for origins, directions in zip(
            rays.origins.split(RAYS_PER_CHUNK), rays.directions.split(RAYS_PER_CHUNK), strict=True
        )
    ]
    normal = torch.cat([c.normal for c in chunks if c.normal is not None]) if normals else None
    return GBuffer(
        color=torch.cat([c.color for c in chunks]),
        opacity=torch.cat([c.opacity for c in chunks]),
        depth=torch.cat([c.depth for c in chunks]),
        normal=normal,
    )


def render_view(
    field: Field, camera: Camera, step: float = DEFAULT_STEP, normals: bool = False
) -> GBuffer:
    """Render one camera; channels come back as [H, W, ...]."""
    flat = render_rays(field, camera_rays(unit_camera(field, camera)), step, normals)
    height, width = camera.size
    return GBuffer(
        color=flat.color.reshape(height, width, 3),
        opacity=flat.opacity.reshape(height, width),
        depth=flat.depth.reshape(height, width),
        normal=None if flat.normal is None else flat.normal.reshape(height, width, 3),
    )


def render_views(
    field: Field, cameras: Camera, step: float = DEFAULT_STEP, normals: bool = False
) -> Iterator[GBuffer]:
    """Render a batch of cameras one after the other."""
    for i in range(len(cameras)):
        yield render_view(field, cameras[i], step, normals)


class Composited(NamedTuple):
    """R rays with S samples, and N other points.

    Attributes:
        color: [R, 3], premultiplied; opacity: [R].
        sigma: [S], density of the samples; other_sigma: [N], of the other points.
    """

    color: Tensor
    opacity: Tensor
    sigma: Tensor
    other_sigma: Tensor


def composite(field: Field, samples: RaySamples, lit: Tensor, elsewhere: Tensor) -> Composited:
    """Colour and opacity of rays whose samples are given, as training needs them: differentiable,
    with all densities in one evaluation.

    Args:
        field: the scene.
        samples: S samples of R rays.
        lit: int64 [K], the samples whose colour counts; the others are black.
        elsewhere: [N, 3] more unit-cube points whose density is wanted.
    """
    sigma, latent_at = field.sigma_first(torch.cat([samples.u, elsewhere]))
    sigma, other_sigma = sigma.split([len(samples), len(elsewhere)])
    rgb = field.rgb_of(latent_at(lit), samples.d[lit])
    rgb = rgb.new_zeros(len(samples), 3).index_copy(0, lit, rgb)
    seen = kernels.composite(sigma, samples.dt, (rgb,), samples.offsets)
    return Composited(seen.sums[0], seen.opacity, sigma, other_sigma)


def _render_chunk(field: Field, rays: Rays, step: float, normals: bool) -> GBuffer:
    samples = field_samples(field, rays, step)
    weights = visible(field, samples, STOP).weights
    keep = weights > NEGLIGIBLE
    samples, weights = samples.select(keep), weights[keep]
    rgb = field.rgb_of(field.latent(samples.u), samples.d)
    features = torch.cat([rgb, samples.t[:, None], torch.ones_like(rgb[:, :1])], dim=1)
    image = RayFootprint(weights, samples.offsets, samples.ray).render(features)
    opacity = image[:, 4].clamp(max=1.0)
    t = image[:, 3] / opacity.clamp_min(1e-6)
    normal = None
    if normals:
        points = contract(rays.origins + t[:, None] * rays.directions, field.contraction)
        normal = field_normals(field, points) * (opacity > 0.5)[:, None]
    return GBuffer(image[:, :3], opacity, t * float(field.frame.s), normal)


def field_normals(field: Field, u: Tensor) -> Tensor:
    """-grad(log sigma) normalised, by central differences over one occupancy cell, in the world."""
    h = 1.0 / field.occupancy.shape[0]
    offsets = torch.eye(3, dtype=u.dtype, device=u.device) * h
    around = (u[:, None, None, :] + torch.stack([offsets, -offsets])).clamp(-1.0, 1.0)
    log_sigma = torch.log(field.sigma(around.reshape(-1, 3)) + 1e-3).reshape(-1, 2, 3)
    gradient = log_sigma[:, 1] - log_sigma[:, 0]
    world = gradient @ field.frame.R.to(u).t()
    return torch.nn.functional.normalize(world, dim=-1)
