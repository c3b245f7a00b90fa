"""The default recipe: from a closed-form start, points and rays of the cache together.

It departs from progressive volume distillation (Fang et al., AAAI 2023) where that measures better:
the teacher is evaluated once instead of at every step, densities are compared as opacities instead
of clamped logarithms, every term is a mean, and rays need not wait for points, because what the
student is not asked for at a step the teacher fills in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geodistill.convert.cache import TeacherCache
from geodistill.distill.pvd.losses import alpha_error, point_loss, ray_loss
from geodistill.geometry.fields import Field
from geodistill.geometry.fields.files import field_tensors, restore_field
from geodistill.render.fields import NEGLIGIBLE, STOP, composite
from geodistill.render.samples import free_points, free_space_loss, visible
from geodistill.train.optimiser import Optimiser

HELD_OUT = 0.02
"""Fraction of the cached rays that training never sees."""
RAYS = 2048
"""Rays per step of most students."""
LOOK_EVERY, PATIENCE, PLATEAU_DB = 100, 3, 0.03
"""Training ends when three looks at the held-out rays, 100 steps apart, bring less than this."""


@dataclass(frozen=True)
class TransferSettings:
    """What the default recipe weighs, and its schedule."""

    rays: int | None = None
    """Rays per step; what suits the architecture when None."""
    unlit: float = 0.2
    """Chance of a sample that is not lit to be looked at; otherwise the teacher stands in."""
    rays_from: float = 0.0
    """Fraction of the budget after which the ray loss joins the point losses."""
    decay_from: float = 0.5
    """Fraction of the budget after which learning rates fall, by a cosine to 2 %."""
    warm_lr: float = 0.5
    """After a closed-form start: learning rates relative to those of training from scratch,"""
    warm_decay_from: float = 0.2
    """and when they begin to fall."""
    alpha_weight: float = 1.0
    color_weight: float = 0.3
    ray_weight: float = 1.0
    latent_weight: float = 0.01
    """Of the latents, which only students without a closed-form start are led by."""
    free_weight: float = 5e-2


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
    ) -> None:
        """
        Args:
            student: trained in place.
            cache: what it learns from.
            settings: the recipe's numbers.
            seed: of rays, samples and backgrounds.
            warm: whether the student starts from a closed form.
            latents: [L, 16] what the student's latents should be at the lit samples, if known.
        """
        self.student, self.cache, self.settings, self.seed = student, cache, settings, seed
        self.rays = settings.rays or RAYS
        self.lr = settings.warm_lr if warm else 1.0
        self.decay_from = settings.warm_decay_from if warm else settings.decay_from
        self.optimiser = Optimiser(student.param_groups())
        self.train_rays = int(cache.rays * (1.0 - HELD_OUT))
        self.history: list[float] = []
        self.looked, self.flat, self.decaying = 0, False, False
        self.latents = latents
        self.lit = torch.zeros(len(cache.samples), dtype=torch.bool)
        self.lit[cache.lit] = True
        self.row = self.lit.cumsum(0) - 1

    def lr_scale(self, progress: float) -> float:
        """A warm-up over 50 steps, constant, then a cosine to 2 %."""
        start = self.decay_from
        self.decaying = progress >= start
        done = max(0.0, (progress - start) / (1.0 - start))
        cosine = 0.02 + 0.98 * 0.5 * (1.0 + torch.cos(torch.tensor(torch.pi * done)).item())
        return self.lr * cosine * min(1.0, (self.optimiser.count + 1) / 50)

    def before(self, step: int, progress: float) -> None:
        pass

    def finished(self, step: int) -> bool:
        """Whether the held-out PSNR has stopped rising over the last few looks at it."""
        if step == 0 or step % LOOK_EVERY or self.looked == step:
            return self.flat
        self.looked = step
        self.history.append(self.held_out_psnr())
        recent, before = self.history[-PATIENCE:], self.history[:-PATIENCE]
        self.flat = bool(before) and max(recent) < max(before) + PLATEAU_DB and self.decaying
        return self.flat

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        w, cache = self.settings, self.cache
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        rays = torch.randint(self.train_rays, (self.rays,), generator=draw)
        samples, index = cache.samples.take(rays)
        chance = torch.where(self.lit[index], 1.0, w.unlit)
        asked = (torch.rand(len(index), generator=draw) < chance).nonzero()[:, 0]
        free = free_points(self.student, draw)

        sigma, latent_at = self.student.sigma_first(torch.cat([samples.u[asked], free]))
        sigma, free_sigma = sigma.split([len(asked), len(free)])
        taught = cache.sigma[index]
        error = alpha_error(sigma, taught[asked], samples.dt[asked]) / chance[asked]
        total = w.alpha_weight * error.sum() / len(index)
        total = total + w.free_weight * free_space_loss(free_sigma)

        lit = self.lit[index[asked]].nonzero()[:, 0]
        shown = asked[lit]
        latent = latent_at(lit)
        rgb = self.student.rgb_of(latent, samples.d[shown])
        teacher_rgb, weights = cache.rgb[index], cache.weights[index]
        color = point_loss(rgb, teacher_rgb[shown], weights[shown])
        total = total + w.color_weight * color
        if self.latents is not None:
            row = self.row[index[shown]]
            follow = point_loss(latent, self.latents[row], weights[shown])
            total = total + w.latent_weight * follow
        if progress >= w.rays_from:
            behind = torch.rand(len(rays), 3, generator=draw)
            sigma = taught.index_copy(0, asked, sigma)
            rgb = teacher_rgb.index_copy(0, shown, rgb)
            image = ray_loss(sigma, rgb, samples, cache.color[rays], cache.opacity[rays], behind)
            total = total + w.ray_weight * image
        return total, {"samples": float(len(asked))}

    @torch.no_grad()
    def held_out_psnr(self) -> float:
        """PSNR (dB) to the teacher on rays that training does not see, over white."""
        errors = []
        for rays in torch.arange(self.train_rays, self.cache.rays).split(4096):
            samples, _ = self.cache.samples.take(rays)
            lit = (visible(self.student, samples, STOP).weights > NEGLIGIBLE).nonzero()[:, 0]
            color, opacity, _ = composite(self.student, samples, lit, samples.u[:0])
            missing = (self.cache.opacity[rays] - opacity)[:, None]
            errors.append((color - self.cache.color[rays] + missing).square().mean())
        return float(-10.0 * torch.log10(torch.stack(errors).mean()))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        names = ("history", "looked", "flat", "decaying")
        return field_tensors(self.student), {name: getattr(self, name) for name in names}

    def load(self, tensors: dict[str, Tensor], extra: dict[str, Any]) -> None:
        for name, value in extra.items():
            setattr(self, name, value)
        restore_field(self.student, tensors)
        self.optimiser = Optimiser(self.student.param_groups())
