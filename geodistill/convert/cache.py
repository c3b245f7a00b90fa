"""Everything a student needs of its teacher, evaluated once.

Random rays through the scene give, per ray, the teacher's colour and opacity and, per sample that
light reaches, its density, colour and latent. The cells that those samples lie in are the
student's occupancy: what no ray sees is not worth a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import InputError
from geodistill.geometry.fields import Field
from geodistill.log import progress
from geodistill.render.samples import (
    DEFAULT_STEP,
    RayFootprint,
    RaySamples,
    march,
    visible,
)
from geodistill.render.viewpoints import random_rays

STOP = 1e-3
"""Rays end where less light than this arrives."""
VISIBLE_WEIGHT = 4e-3
"""A cell counts as seen if some sample in it contributes this much to a ray."""
CHUNK = 1 << 12


@dataclass(frozen=True)
class TeacherCache:
    """Teacher samples of R rays with S samples, in the unit cube, in ray order.

    Attributes:
        samples: positions, directions, steps.
        sigma: [S] teacher density per unit length.
        rgb: [S, 3] teacher colour.
        latent: [S, C] teacher latent.
        weights: [S] contribution to the ray.
        color: [R, 3] premultiplied; opacity: [R].
        occupancy: bool [G, G, G], the visible cells and their neighbours.
    """

    samples: RaySamples
    sigma: Tensor
    rgb: Tensor
    latent: Tensor
    weights: Tensor
    color: Tensor
    opacity: Tensor
    occupancy: Tensor

    @property
    def rays(self) -> int:
        return self.samples.rays


@torch.no_grad()
def survey(
    teacher: Field,
    rays: int,
    seed: int,
    step: float = DEFAULT_STEP,
    visible_weight: float = VISIBLE_WEIGHT,
) -> TeacherCache:
    """Trace about `rays` rays that meet the teacher's occupied space.

    Raises:
        InputError: hardly any ray meets anything: the scene is empty.
    """
    parts: list[_Part] = []
    found = tried = 0
    with progress(rays, "teacher samples") as bar:
        while found < rays:
            part = _trace(teacher, seed * 100_003 + len(parts), step, visible_weight)
            hit = part.samples.rays
            found, tried = found + hit, tried + CHUNK
            parts.append(part)
            bar.advance(min(hit, rays - found + hit))
            if tried >= 20 * CHUNK and found < tried // 1000:
                raise InputError(
                    "the scene is empty: hardly a ray from any viewpoint meets density above zero"
                )
    return _join(parts, _dilate(_seen_cells(teacher, parts, visible_weight)) & teacher.occupancy)


@dataclass(frozen=True)
class _Part:
    """One chunk of traced rays: the samples that light reaches."""

    samples: RaySamples
    sigma: Tensor
    latent: Tensor
    rgb: Tensor
    weights: Tensor


def _trace(teacher: Field, seed: int, step: float, visible_weight: float) -> _Part:
    rays = random_rays(teacher, CHUNK, seed)
    draw = torch.Generator().manual_seed(seed)
    samples = march(rays, teacher.occupancy, step, torch.rand(CHUNK, generator=draw))
    weights, reached = visible(teacher, samples, STOP)
    alive = torch.zeros(samples.rays, dtype=torch.bool)
    alive[samples.ray[weights > visible_weight]] = True
    samples = samples.select(reached & alive[samples.ray]).without_empty_rays()
    latent = teacher.latent(samples.u)
    sigma = teacher.sigma_of(latent)
    rgb = teacher.rgb_of(latent, samples.d)
    footprint = RayFootprint.from_density(sigma, samples)
    return _Part(samples, sigma, latent, rgb, footprint.weights)


def _seen_cells(teacher: Field, parts: list[_Part], visible_weight: float) -> Tensor:
    """bool [G, G, G]: cells with a sample that contributes visibly to some ray."""
    size = teacher.occupancy.shape[0]
    cells = torch.zeros_like(teacher.occupancy)
    for part in parts:
        index = cell_index(part.samples.u[part.weights > visible_weight], size)
        cells[tuple(index.unbind(-1))] = True
    return cells


def cell_index(u: Tensor, size: int) -> Tensor:
    """Cells of a grid over the unit cube. [N, 3] -> int64 [N, 3]"""
    return torch.floor((u + 1.0) * (size / 2)).long().clamp(0, size - 1)


def _dilate(cells: Tensor) -> Tensor:
    grown = cells[None, None].float()
    return F.max_pool3d(grown, 3, stride=1, padding=1)[0, 0] > 0


def _join(parts: list[_Part], occupancy: Tensor) -> TeacherCache:
    """All rays as one batch, restricted to the student's occupancy."""
    kept = []
    for part in parts:
        index = cell_index(part.samples.u, occupancy.shape[0])
        keep = occupancy[tuple(index.unbind(-1))]
        kept.append((part, keep, part.samples.select(keep)))
    samples = RaySamples.concatenate([s for _, _, s in kept])
    sigma = torch.cat([part.sigma[keep] for part, keep, _ in kept])
    rgb = torch.cat([part.rgb[keep] for part, keep, _ in kept])
    latent = torch.cat([part.latent[keep] for part, keep, _ in kept])
    footprint = RayFootprint.from_density(sigma, samples)
    image = footprint.render(torch.cat([rgb, torch.ones_like(rgb[:, :1])], dim=1))
    return TeacherCache(
        samples=samples,
        sigma=sigma,
        rgb=rgb,
        latent=latent,
        weights=footprint.weights,
        color=image[:, :3],
        opacity=image[:, 3],
        occupancy=occupancy,
    )
