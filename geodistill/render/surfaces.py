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
    field_samples,
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
LAYERS = 64
"""Of depth, in which the light that splats take is counted."""
TAIL = 0.005
"""Share of the splats nearer, and farther, than the layers reach; the outer layers take them."""
_SAMPLE = 1 << 20


@dataclass(frozen=True, eq=False)
class SurfaceView:
    """What one camera sees.

    Attributes:
        camera: in the world.
        color: [H, W, 3] premultiplied by opacity; opacity: [H, W].
        depth: [H, W] distance along the ray in world units, infinite where there is no surface.
    """

    camera: Camera
    color: Tensor
    opacity: Tensor
    depth: Tensor

    def points(self) -> Tensor:
        """The places of the surface that are seen, float64 [N, 3] in the world."""
        solid = self.depth.isfinite()
        rays = camera_rays(self.camera.to(dtype=torch.float64))
        away = self.depth[solid].double()[:, None]
        return rays.origins[solid.reshape(-1)] + rays.directions[solid.reshape(-1)] * away


@torch.no_grad()
def field_surface(field: Field, camera: Camera, step: float = DEFAULT_STEP) -> SurfaceView:
    """A field's surface: where `FIRST` of the light of a ray is gone, of rays that lose half.

    Of a contracted field, the surface in its inner cube; rays that end beyond it have none.
    """
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
    return SurfaceView(camera, color.reshape(*size, 3), opacity.reshape(size), depth)


def _field_chunk(field: Field, rays: Rays, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Colour [R, 3], opacity [R] and depth [R] in unit-cube lengths."""
    samples = field_samples(field, rays, step)
    weights = visible(field, samples, STOP).weights
    depth = first_depth(samples, weights, FIRST)
    keep = weights > NEGLIGIBLE
    samples, weights = samples.select(keep), weights[keep]
    rgb = field.rgb_of(field.latent(samples.u), samples.d)
    rgba = torch.cat([rgb, torch.ones_like(rgb[:, :1])], dim=1)
    image = RayFootprint(weights, samples.offsets, samples.ray).render(rgba)
    opacity = image[:, 3].clamp(max=1.0)
    inner = (rays.origins + depth[:, None] * rays.directions).abs().amax(dim=1) <= 1.0
    return image[:, :3], opacity, torch.where((opacity > SOLID) & inner, depth, torch.inf)


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
    """Splats' surface: where half of the light is gone.

    The light that a pixel loses is counted in `LAYERS` of depth; its surface is at the mean depth
    of what takes it in the layer where half is reached and the two beside that, so that what shines
    through from behind does not move it. Raises what `project` raises.
    """
    projected = project(splats, camera)
    plan = kernels.splat_plan(*projected, camera.size)
    layer, middle = _layers(projected.depths, projected.opacities > 0)
    taken = F.one_hot(layer, LAYERS).to(projected.depths)
    away = projected.depths - middle  # small numbers lose less
    features = torch.cat([splat_colors(splats, camera), taken, taken * away[:, None]], dim=1)
    pixels, opacity = kernels.splat(*projected[:3], features, plan)
    color, mass, moment = pixels.split([3, LAYERS, LAYERS], dim=1)
    half = (mass.cumsum(dim=1) < SOLID).sum(dim=1, keepdim=True)
    beside = (half + torch.arange(-1, 2, device=half.device)).clamp(0, LAYERS - 1)
    near = mass.gather(1, beside).sum(dim=1).clamp_min(1e-6)
    mean = moment.gather(1, beside).sum(dim=1) / near + middle
    depth = torch.where(opacity > SOLID, mean * ray_lengths(camera).to(mean), torch.inf)
    size = camera.size
    color = color.contiguous().view(*size, 3)  # lets go of the layers
    return SurfaceView(camera, color, opacity.view(size), depth.view(size))


def _layers(depths: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """The layer of each splat, int64 [N], evenly spaced over nearly all that are drawn, bool [N];
    and the depth of their middle."""
    some = depths[drawn][:: max(1, int(drawn.sum()) // _SAMPLE)]
    ends = torch.tensor([TAIL, 1 - TAIL]).to(depths)
    low, high = torch.quantile(some, ends) if len(some) else torch.zeros(2).to(depths)
    width = ((high - low) / LAYERS).clamp_min(1e-30)
    return ((depths - low) / width).floor().clamp(0, LAYERS - 1).long(), 0.5 * (low + high)
