"""Everything a student needs of its teacher, evaluated once.

Random rays through the scene give, per ray, the teacher's colour and opacity and, per sample that
light reaches, its density; where a sample is lit, that is contributes to its ray, its colour and
latent too. The cells that lit samples lie in are the student's occupancy: what no ray sees is not
worth a parameter.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill import kernels
from geodistill.checks import InputError
from geodistill.geometry.fields import Field
from geodistill.log import progress
from geodistill.render.samples import (
    RayFootprint,
    RaySamples,
    field_samples,
    visible,
)
from geodistill.render.viewpoints import random_rays

STEP = 1.0 / 128
"""March step in scene radii. Coarser than that of rendering: a student learns more from more rays
and steps than from more samples on a ray."""
STOP = 1e-3
"""Rays end where less light than this arrives."""
VISIBLE_WEIGHT = 4e-3
"""A cell counts as seen if some sample in it contributes this much to a ray."""
LIT_SHARE = 0.08
"""Contribution to a ray, relative to the largest of its samples, from which a sample's colour and
latent are kept."""
MOST_RAYS = 800_000
"""Rays that long conversions learn from at most: with them a conversion takes some 3 GB."""
CHUNK = 1 << 15
"""Rays traced at a time."""
LIT_CHUNK = 1 << 18
"""Samples shaded at a time."""


@dataclass(frozen=True)
class TeacherCache:
    """Teacher samples of R rays with S samples, in the unit cube, in ray order.

    Attributes:
        samples: positions, directions, steps.
        sigma: [S] teacher density per unit length.
        weights: [S] contribution to the ray.
        rgb: [S, 3] teacher colour of lit samples, at most 1; of the others the mean of their ray.
        lit: int64 [L], which of the samples contribute to their rays; at least one of each ray.
        latent: [L, C] teacher latent of these.
        color: [R, 3] premultiplied; opacity: [R].
        occupancy: bool [G, G, G], the visible cells and their neighbours.
    """

    samples: RaySamples
    sigma: Tensor
    weights: Tensor
    rgb: Tensor
    lit: Tensor
    latent: Tensor
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
    step: float = STEP,
    visible_weight: float = VISIBLE_WEIGHT,
    seconds: float = 0.0,
) -> TeacherCache:
    """Trace rays that meet the teacher's occupied space.

    Args:
        teacher: the scene.
        rays: how many rays at least.
        seed: of viewpoints, pixels and sample positions.
        step: march step in scene radii.
        visible_weight: contribution to a ray from which a cell counts as seen; rays without such a
            sample are left out.
        seconds: until it has taken so long, it goes on beyond these rays, to `MOST_RAYS` at most.

    Raises:
        InputError: hardly any ray meets anything: the scene is empty.
    """
    kernels.keep_memory()
    parts: list[_Part] = []
    found = tried = 0
    most = max(rays, MOST_RAYS) if seconds else rays
    until = time.perf_counter() + seconds
    with progress(most, "teacher samples") as bar:
        while found < rays or (found < most and time.perf_counter() < until):
            part = _trace(teacher, seed * 100_003 + len(parts), step, visible_weight)
            hit = part.samples.rays
            found, tried = found + hit, tried + CHUNK
            parts.append(part)
            bar.advance(min(hit, most - found + hit))
            if tried >= 20 * CHUNK and found < tried // 1000:
                raise InputError(
                    "the scene is empty: hardly a ray from any viewpoint meets density above zero"
                )
    occupancy = _dilate(_seen_cells(teacher, parts, visible_weight)) & teacher.occupancy
    return _join(teacher, parts, occupancy)


@dataclass(frozen=True)
class _Part:
    """One chunk of traced rays: the samples that light reaches."""

    samples: RaySamples
    sigma: Tensor
    weights: Tensor


def _trace(teacher: Field, seed: int, step: float, visible_weight: float) -> _Part:
    rays = random_rays(teacher, CHUNK, seed)
    draw = torch.Generator().manual_seed(seed)
    samples = field_samples(teacher, rays, step, torch.rand(CHUNK, generator=draw))
    sigma, weights, seen = visible(teacher, samples, STOP)
    alive = torch.zeros(samples.rays, dtype=torch.bool)
    alive[samples.ray[weights > visible_weight]] = True
    keep = seen & alive[samples.ray]
    return _Part(samples.select(keep).without_empty_rays(), sigma[keep], weights[keep])


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


def _join(teacher: Field, parts: list[_Part], occupancy: Tensor) -> TeacherCache:
    """All rays as one batch, restricted to the student's occupancy."""
    kept = []
    for part in parts:
        index = cell_index(part.samples.u, occupancy.shape[0])
        keep = occupancy[tuple(index.unbind(-1))]
        kept.append((part.samples.select(keep), part.sigma[keep]))
    samples = RaySamples.concatenate([samples for samples, _ in kept])
    sigma = torch.cat([sigma for _, sigma in kept])
    weights = kernels.ray_weights(sigma, samples.dt, samples.offsets)
    heaviest = torch.zeros(samples.rays).scatter_reduce(0, samples.ray, weights, "amax")
    lit = (weights >= LIT_SHARE * heaviest[samples.ray]).nonzero()[:, 0]
    latent = torch.cat([teacher.latent(samples.u[rows]) for rows in lit.split(LIT_CHUNK)])
    footprint = RayFootprint(weights, samples.offsets, samples.ray)
    shaded = torch.zeros(len(samples), 4)
    shaded[lit] = F.pad(teacher.rgb_of(latent, samples.d[lit]).clamp(max=1.0), (0, 1), value=1.0)
    lit_image, opacity = footprint.render(shaded), footprint.row_sums()
    mean = lit_image[:, :3] / lit_image[:, 3:].clamp_min(1e-6)
    rgb = torch.where(shaded[:, 3:] > 0, shaded[:, :3], mean[samples.ray])
    return TeacherCache(
        samples=samples,
        sigma=sigma,
        weights=weights,
        rgb=rgb,
        lit=lit,
        latent=latent,
        color=mean * opacity[:, None],
        opacity=opacity,
        occupancy=occupancy,
    )
