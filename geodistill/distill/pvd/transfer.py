"""The default recipe: from a closed-form start, points and rays of the cache together.

It departs from progressive volume distillation (Fang et al., AAAI 2023) where that measures better:
the teacher is evaluated once instead of at every step, densities are compared as opacities instead
of clamped logarithms, every term is a mean, and rays need not wait for points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geodistill.convert.cache import TeacherCache
from geodistill.convert.initial import DENSITY_RESOLUTION, shared_hashes
from geodistill.distill.pvd.losses import alpha_error, point_loss, ray_loss
from geodistill.fit.growth import STAGES, set_stage, stage_at
from geodistill.geometry.fields import Field
from geodistill.geometry.fields.files import field_tensors, restore_field
from geodistill.geometry.fields.tensorf import FactoredBranch
from geodistill.render.fields import NEGLIGIBLE, STOP, composite
from geodistill.render.samples import RaySamples, free_points, free_space_loss, visible
from geodistill.train.optimiser import Optimiser

HELD_OUT = 0.02
"""Fraction of the cached rays that training never sees."""
LOOK_EVERY, LOOK_SHARE, PATIENCE, PLATEAU_DB = 100, 0.05, 3, 0.03
"""Training ends when three looks at the held-out rays, apart by at least so many steps and such a
share of the budget, bring less than this."""
GROWTH = (0.0, 0.4, 0.75)
"""Fractions of the budget at which a student's factors reach the stages of coarse-to-fine training:
coarse ones learn faster, and a step on them costs less."""
LAST = len(STAGES) - 1


@dataclass(frozen=True)
class Suited:
    """What suits a student's architecture."""

    steps: int
    rays: int = 2048
    """Rays per step."""
    cache_rays: int = 300_000
    """Rays in the teacher's cache: with fewer of them a student learns them by heart."""
    warm_alpha_weight: float = 0.1
    """Weight of opacities after a closed-form start, when density need not be found any more."""
    warm_lr: float = 0.8
    """Learning rates after a closed-form start, relative to those of training from scratch."""


SUITED = {
    "ngp": Suited(200, cache_rays=200_000),
    "tensorf": Suited(260, cache_rays=200_000),
    "tensorf-cp": Suited(650),
    "composite": Suited(300),
    # A point costs ten times what it costs others.
    "mlp": Suited(1000, rays=512),
    # A step costs a pass over all voxels, and tracing is a good part of their short time. What a
    # sample says of its density is said to no other voxel: opacities must keep their weight.
    "plenoxels": Suited(180, rays=8192, warm_alpha_weight=3.0, warm_lr=0.5),
}
"""By architecture of the student."""


def suited(student: Field, teacher: Field) -> Suited:
    """What suits a student's architecture, given its teacher."""
    if student.architecture == "ngp" and shared_hashes(student, teacher) is None:
        return Suited(900)  # No table to take over: it starts at random, led by latents.
    if student.architecture == "tensorf" and teacher.architecture in ("plenoxels", "splats"):
        return Suited(400)  # No latents to take over: colours are to be learnt.
    return SUITED[student.architecture]


@dataclass(frozen=True)
class TransferSettings:
    """What the default recipe weighs, and its schedule."""

    rays: int | None = None
    """Rays per step; what suits the architecture when None."""
    rays_from: float = 0.0
    """Fraction of the budget after which the ray loss joins the point losses."""
    decay_from: float = 0.5
    """Fraction of the budget after which learning rates fall, by a cosine to 2 %."""
    warm_lr: float | None = None
    """Learning rates after a closed-form start, relative to those of training from scratch; what
    suits the architecture when None."""
    warm_decay_from: float = 0.2
    """Like `decay_from`, after a closed-form start."""
    alpha_weight: float = 1.0
    """Weight of the samples' opacities."""
    warm_alpha_weight: float | None = None
    """Like `alpha_weight`, after a closed-form start; what suits the architecture when None."""
    color_weight: float = 0.3
    """Weight of the samples' colours."""
    ray_weight: float = 1.0
    """Weight of the rays' colours."""
    latent_weight: float = 0.01
    """Weight of the latents, which only students without a closed-form start are led by."""
    free_weight: float = 5e-2
    """Weight of the loss that keeps empty space empty without its occupancy grid."""


class _Batch(NamedTuple):
    """Rays of the cache.

    Attributes:
        rays: int64 [R] rows of the cache's rays.
        samples: theirs, S in all.
        index: int64 [S] rows of the cache's samples.
        lit: int64 [K], which of the S are lit.
    """

    rays: Tensor
    samples: RaySamples
    index: Tensor
    lit: Tensor


class TransferJob:
    """Distils one student from a teacher cache (a `train.Job`)."""

    def __init__(
        self,
        student: Field,
        cache: TeacherCache,
        settings: TransferSettings,
        seed: int,
        warm: bool = False,
        latents: Tensor | None = None,
        grow: bool = True,
    ) -> None:
        """
        Args:
            student: trained in place.
            cache: what it learns from.
            settings: the recipe's numbers.
            seed: of rays, samples and backgrounds.
            warm: whether the student starts from a closed form.
            latents: [L, 16] what the student's latents should be at the lit samples, if known.
            grow: whether factors are trained from coarse to fine; only those are whose coarsest
                stage can hold what a closed-form start finds.
        """
        self.student, self.cache, self.settings, self.seed = student, cache, settings, seed
        suits = SUITED[student.architecture]
        self.rays = settings.rays or suits.rays
        self.lr, self.alpha_weight = 1.0, settings.alpha_weight
        self.decay_from = settings.decay_from
        if warm:
            self.lr = _given(settings.warm_lr, suits.warm_lr)
            self.alpha_weight = _given(settings.warm_alpha_weight, suits.warm_alpha_weight)
            self.decay_from = settings.warm_decay_from
        self.grows = grow and any(
            isinstance(part, FactoredBranch)
            and round(STAGES[0][1] * part.resolution) >= DENSITY_RESOLUTION
            for part in student.modules()
        )
        self._enter_stage(0 if self.grows else LAST)
        # At high learning rates the PSNR stands still long before it would at low ones.
        half_decayed = (1.0 + self.decay_from) / 2
        self.looks_from = max(half_decayed, GROWTH[LAST]) if self.grows else half_decayed
        self.train_rays = int(cache.rays * (1.0 - HELD_OUT))
        self.history: list[float] = []
        self.progress, self.looked, self.flat = 0.0, 0.0, False
        self.latents = latents
        self.lit = torch.zeros(len(cache.samples), dtype=torch.bool)
        self.lit[cache.lit] = True
        if latents is not None:
            self.row = self.lit.cumsum(0) - 1

    def _enter_stage(self, stage: int, before: Optimiser | None = None) -> None:
        if self.grows:
            set_stage(self.student, stage)
        self.stage = stage
        self.optimiser = Optimiser(self.student.param_groups(), before)

    def lr_scale(self, progress: float) -> float:
        """A warm-up over 50 steps, constant, then a cosine to 2 %."""
        start = self.decay_from
        done = max(0.0, (progress - start) / (1.0 - start))
        cosine = 0.02 + 0.98 * 0.5 * (1.0 + torch.cos(torch.tensor(torch.pi * done)).item())
        return self.lr * cosine * min(1.0, (self.optimiser.count + 1) / 50)

    def before(self, step: int, progress: float) -> None:
        self.progress = progress
        stage = stage_at(progress, GROWTH)
        if self.grows and stage != self.stage:
            self._enter_stage(stage, self.optimiser)

    def complete(self) -> None:
        """Bring factors that a short budget left coarse to their full resolution."""
        if self.stage != LAST:
            self._enter_stage(LAST)

    def finished(self, step: int) -> bool:
        """Whether the held-out PSNR has stopped rising over the last few looks at it."""
        due = self.progress >= max(self.looks_from, self.looked + LOOK_SHARE)
        if due and step % LOOK_EVERY == 0:
            self.looked = self.progress
            self.history.append(self.held_out_psnr())
            recent, before = self.history[-PATIENCE:], self.history[:-PATIENCE]
            self.flat = bool(before) and max(recent) < max(before) + PLATEAU_DB
        return self.flat

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        batch = self._draw(draw)
        free = free_points(self.student, draw)
        sigma, latent_at = self.student.sigma_first(torch.cat([batch.samples.u, free]))
        sigma, free_sigma = sigma.split([len(batch.samples), len(free)])
        latent = latent_at(batch.lit)
        rgb = self.student.rgb_of(latent, batch.samples.d.index_select(0, batch.lit))
        total = self.settings.free_weight * free_space_loss(free_sigma)
        total = total + self._point_terms(batch, sigma, rgb, latent)
        if progress >= self.settings.rays_from:
            behind = torch.rand(len(batch.rays), 3, generator=draw)
            total = total + self._ray_term(batch, sigma, rgb, behind)
        return total, {"samples": float(len(batch.samples))}

    def _draw(self, draw: torch.Generator) -> _Batch:
        rays = torch.randint(self.train_rays, (self.rays,), generator=draw)
        samples, index = self.cache.samples.take(rays)
        return _Batch(rays, samples, index, self.lit.index_select(0, index).nonzero()[:, 0])

    def _point_terms(self, batch: _Batch, sigma: Tensor, rgb: Tensor, latent: Tensor) -> Tensor:
        """Density at all samples; colour and latent at those that are lit."""
        w, cache = self.settings, self.cache
        error = alpha_error(sigma, cache.sigma.index_select(0, batch.index), batch.samples.dt)
        index = batch.index.index_select(0, batch.lit)
        weights = cache.weights.index_select(0, index)
        total = self.alpha_weight * error.mean()
        total = total + w.color_weight * point_loss(rgb, cache.rgb.index_select(0, index), weights)
        if self.latents is not None:
            follow = point_loss(
                latent, self.latents.index_select(0, self.row.index_select(0, index)), weights
            )
            total = total + w.latent_weight * follow
        return total

    def _ray_term(self, batch: _Batch, sigma: Tensor, rgb: Tensor, behind: Tensor) -> Tensor:
        """Whole rays; the colours of samples that are not lit are the teacher's."""
        cache, rays = self.cache, batch.rays
        rgb = cache.rgb.index_select(0, batch.index).index_copy(0, batch.lit, rgb)
        color, opacity = cache.color[rays], cache.opacity[rays]
        return self.settings.ray_weight * ray_loss(
            sigma, rgb, batch.samples, color, opacity, behind
        )

    @torch.no_grad()
    def held_out_psnr(self) -> float:
        """PSNR (dB) to the teacher on rays that training does not see, over white."""
        errors = []
        for rays in torch.arange(self.train_rays, self.cache.rays).split(4096):
            samples, _ = self.cache.samples.take(rays)
            samples = samples.select(visible(self.student, samples, STOP).weights > NEGLIGIBLE)
            lit = torch.arange(len(samples))
            seen = composite(self.student, samples, lit, samples.u[:0])
            missing = (self.cache.opacity[rays] - seen.opacity)[:, None]
            errors.append((seen.color - self.cache.color[rays] + missing).square().mean())
        return float(-10.0 * torch.log10(torch.stack(errors).mean()))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        names = ("stage", "progress", "history", "looked", "flat")
        return field_tensors(self.student), {name: getattr(self, name) for name in names}

    def load(self, tensors: dict[str, Tensor], extra: dict[str, Any]) -> None:
        for name, value in extra.items():
            setattr(self, name, value)
        self._enter_stage(self.stage)
        restore_field(self.student, tensors)
        self.optimiser = Optimiser(self.student.param_groups())


def _given(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
