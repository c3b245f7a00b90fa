"""The default recipe: closed-form start, point distillation from the cache, a short ray polish.

It keeps progressive volume distillation's order, points before rays (Fang et al., AAAI 2023), and
replaces what measures worse: the teacher is evaluated once instead of at every step, densities are
compared as opacities instead of clamped logarithms, and every term is a mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geodistill.convert.cache import TeacherCache
from geodistill.convert.latents import Translator
from geodistill.distill.pvd.losses import (
    alpha_error,
    free_space_loss,
    ray_loss,
    weighted_error,
)
from geodistill.geometry.fields import Field
from geodistill.geometry.fields.files import field_tensors, restore_field
from geodistill.geometry.fields.heads import LatentField
from geodistill.render.fields import NEGLIGIBLE, STOP, composite
from geodistill.render.samples import visible
from geodistill.train import Adam

HELD_OUT = 0.02
"""Fraction of the cached rays that training never sees."""
LOOK_EVERY, PATIENCE, PLATEAU_DB = 100, 3, 0.03
"""Training ends when three looks at the held-out rays, 100 steps apart, bring less than this."""


@dataclass(frozen=True)
class TransferSettings:
    """What the default recipe weighs and when it turns from points to rays."""

    rays: int = 2048
    """Rays per step."""
    unlit: float = 0.2
    """Chance of a sample that is not lit to be looked at; otherwise the teacher stands in."""
    polish_from: float = 0.5
    """Fraction of the budget after which the ray loss joins."""
    decay_from: float = 0.5
    """Fraction of the budget after which the learning rate falls, by a cosine to 2 %."""
    alpha_weight: float = 1.0
    color_weight: float = 0.1
    latent_weight: float = 0.02
    ray_weight: float = 3.0
    free_weight: float = 1e-2


class TransferJob:
    """Distils one student from a teacher cache (a `train.Job`)."""

    def __init__(
        self,
        student: Field,
        cache: TeacherCache,
        translate: Translator | None,
        settings: TransferSettings,
        seed: int,
    ) -> None:
        self.student, self.cache, self.settings, self.seed = student, cache, settings, seed
        self.optimiser = Adam(student.param_groups())
        self.train_rays = int(cache.rays * (1.0 - HELD_OUT))
        self.history: list[float] = []
        self.looked, self.flat = 0, False
        self.row = torch.full((len(cache.samples),), -1, dtype=torch.int32)
        self.row[cache.lit] = torch.arange(len(cache.lit), dtype=torch.int32)
        self.features = None
        if translate is not None and isinstance(student, LatentField):
            with torch.no_grad():
                self.features = translate(cache.latent)[:, 1:]

    def lr_scale(self, progress: float) -> float:
        """A warm-up over 50 steps, constant, then a cosine to 2 %."""
        start = self.settings.decay_from
        done = max(0.0, (progress - start) / (1.0 - start))
        cosine = 0.02 + 0.98 * 0.5 * (1.0 + torch.cos(torch.tensor(torch.pi * done)).item())
        return cosine * min(1.0, (self.optimiser.count + 1) / 50)

    def before(self, step: int, progress: float) -> None:
        pass

    def finished(self, step: int) -> bool:
        """Whether the held-out PSNR has stopped rising over the last few looks at it."""
        if step == 0 or step % LOOK_EVERY or self.looked == step:
            return self.flat
        self.looked = step
        self.history.append(self.held_out_psnr())
        recent, before = self.history[-PATIENCE:], self.history[:-PATIENCE]
        self.flat = bool(before) and max(recent) < max(before) + PLATEAU_DB
        return self.flat

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        w, cache = self.settings, self.cache
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        rays = torch.randint(self.train_rays, (w.rays,), generator=draw)
        samples, index = cache.samples.take(rays)
        row = self.row[index]
        chance = torch.where(row >= 0, 1.0, w.unlit)
        asked = (torch.rand(len(index), generator=draw) < chance).nonzero()[:, 0]
        row = row[asked]
        lit = (row >= 0).nonzero()[:, 0]
        row = row[lit]

        polish = progress >= w.polish_from
        sigma, latent_at = self.student.sigma_first(samples.u[asked])
        taught = cache.sigma[index]
        error = alpha_error(sigma, taught[asked], samples.dt[asked]) / chance[asked]
        total = w.alpha_weight * error.sum() / len(index)
        latent = latent_at(lit)
        weights = cache.weights[index[asked[lit]]]
        if self.features is not None and not polish:
            follow = weighted_error(latent[:, 1:], self.features[row], weights)
            total = total + w.latent_weight * follow
        if self.features is None or polish:
            rgb = self.student.rgb_of(latent, samples.d[asked[lit]])
            teacher_rgb = cache.rgb[index]
            shown = weighted_error(rgb, teacher_rgb[asked[lit]], weights)
            total = total + w.color_weight * shown
        if polish:
            behind = torch.rand(len(rays), 3, generator=draw)
            all_sigma = taught.index_copy(0, asked, sigma)
            all_rgb = teacher_rgb.index_copy(0, asked[lit], rgb)
            image = ray_loss(
                all_sigma, all_rgb, samples, cache.color[rays], cache.opacity[rays], behind
            )
            total = total + w.ray_weight * image
        total = total + w.free_weight * free_space_loss(self.student, draw)
        return total, {"samples": float(len(asked))}

    @torch.no_grad()
    def held_out_psnr(self) -> float:
        """PSNR (dB) to the teacher on rays that training does not see, over white."""
        errors = []
        for rays in torch.arange(self.train_rays, self.cache.rays).split(4096):
            samples, _ = self.cache.samples.take(rays)
            lit = (visible(self.student, samples, STOP).weights > NEGLIGIBLE).nonzero()[:, 0]
            color, opacity = composite(self.student, samples, lit)
            missing = (self.cache.opacity[rays] - opacity)[:, None]
            errors.append((color - self.cache.color[rays] + missing).square().mean())
        return float(-10.0 * torch.log10(torch.stack(errors).mean()))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        seen = {"history": self.history, "looked": self.looked, "flat": self.flat}
        return field_tensors(self.student), seen

    def load(self, tensors: dict[str, Tensor], extra: dict[str, Any]) -> None:
        self.history, self.looked, self.flat = extra["history"], extra["looked"], extra["flat"]
        restore_field(self.student, tensors)
        self.optimiser = Adam(self.student.param_groups())
