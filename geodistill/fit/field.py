"""Fit a radiance field to posed images: the teacher's maker, and the from-scratch baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.fit.bounds import carve_scene, open_scene, shrinkage
from geodistill.fit.growth import STAGES, set_stage, stage_at
from geodistill.geometry.fields import Field, build_field
from geodistill.geometry.fields.files import field_tensors, restore_field
from geodistill.io.posed import Background, PosedImages
from geodistill.rays import pixel_rays
from geodistill.render.fields import composite
from geodistill.render.samples import (
    DEFAULT_STEP,
    free_points,
    free_space_loss,
    march,
    thickness_loss,
    unit_camera,
    visible,
)
from geodistill.runs import Run
from geodistill.train import Budget, train
from geodistill.train.optimiser import Optimiser


@dataclass(frozen=True)
class FitSettings:
    """Everything that decides how a field is fitted, apart from its architecture."""

    seed: int = 0
    """Of initial parameters, pixels and jitter."""
    background: Background = "auto"
    """What lies behind the object (`PosedImages.behind`)."""
    samples: int = 1 << 14
    """Samples per step: the number of rays follows from how many samples one takes."""
    step: float = DEFAULT_STEP
    """March step in scene radii."""
    free_weight: float = 1e-2
    """Weight of the loss that keeps empty space empty without its occupancy grid."""
    thickness_weight: float = 1e-3
    """Weight of the loss that keeps densities from growing without need."""


OCCUPANCY_EVERY = 16
OCCUPANCY_CELLS = 1 << 16
OCCUPANCY_DECAY = 0.95
OCCUPANCY_ALPHA = 2.5e-2
UNKNOWN = -1.0
WARMUP_STEPS = 128
PRUNE_AFTER = 256
MIN_RAYS, MAX_RAYS = 128, 8192
STOP = 1e-4
"""Transmittance at which a training ray ends."""
UNLIT = 1e-4
"""Weight below which a sample's colour is not evaluated (TensoRF's rayMarch_weight_thres)."""


class FitJob:
    """Photometric training of one field (a `train.Job`)."""

    def __init__(self, field: Field, data: PosedImages, settings: FitSettings) -> None:
        self.field, self.settings = field, settings
        self.data = data
        self.background = data.behind(settings.background)
        if self.background is None and data.has_alpha:
            alpha = data.images[..., 3]
            frame, self.hull = carve_scene(data.cameras, alpha)
            self.pool = _near_foreground(alpha)
        else:
            frame, self.hull = open_scene(data.cameras)
            self.pool = None
        field.world_from_field = frame.matrix().double()
        field.views, field.color_space = data.cameras, data.color_space
        self.cameras = unit_camera(field, data.cameras)
        field.occupancy = self.hull.clone()
        self.cells = self.hull.nonzero()
        self.alphas = torch.full(self.hull.shape, UNKNOWN)
        self.rays = MIN_RAYS
        self._enter_stage(0)

    def _enter_stage(self, stage: int, before: Optimiser | None = None) -> None:
        set_stage(self.field, stage)
        self.stage = stage
        self.optimiser = Optimiser(self.field.param_groups(), before)

    def lr_scale(self, progress: float) -> float:
        """A short warm-up, then exponential decay to 3 %."""
        return min(1.0, (self.optimiser.count + 1) / WARMUP_STEPS) * 0.03**progress

    def before(self, step: int, progress: float) -> None:
        stage = stage_at(progress)
        if stage != self.stage:
            self._enter_stage(stage, before=self.optimiser)
        if step % OCCUPANCY_EVERY == 0 and step >= PRUNE_AFTER // 2:
            self._refresh_occupancy(step)

    def finished(self, step: int) -> bool:
        return False

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        draw = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step)
        views, xy_px, pixels = self._pixels(self.rays, draw)
        rays = pixel_rays(self.cameras[views], xy_px)
        jitter = torch.rand(len(views), generator=draw)
        samples = march(rays, self.field.occupancy, self.settings.step, jitter)
        found = visible(self.field, samples, STOP)
        samples = samples.select(found.seen)
        weights = found.weights[found.seen]
        # Where a field is thin everywhere, its brightest samples must learn their colour still.
        brightest = float(weights.max()) if len(weights) else 0.0
        lit = (weights > min(UNLIT, 0.1 * brightest)).nonzero()[:, 0]
        self._adapt_rays(len(samples))
        free = free_points(self.field, draw)
        seen = composite(self.field, samples, lit, free)
        if self.background is None:
            behind = torch.rand(len(views), 3, generator=draw)
        else:
            behind = torch.full((3,), self.background)
        # Colours of fields end at 1; what shines brighter in EXR images would pull at densities.
        target = self.data.composite(pixels, behind).clamp(max=1.0)
        image = seen.color + (1.0 - seen.opacity)[:, None] * behind
        loss = F.mse_loss(image, target)
        psnr = -10.0 * torch.log10(loss.detach()).item()
        total = loss + self.settings.free_weight * free_space_loss(seen.other_sigma)
        total = total + self.settings.thickness_weight * thickness_loss(seen.sigma, samples.dt)
        return total, {"psnr_db": round(psnr, 3), "rays": len(views)}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {**field_tensors(self.field), "alphas": self.alphas}
        return tensors, {"stage": self.stage, "rays": self.rays}

    def load(self, tensors: dict[str, Tensor], extra: dict[str, Any]) -> None:
        self._enter_stage(extra["stage"])
        restore_field(self.field, tensors)
        self.optimiser = Optimiser(self.field.param_groups())
        self.alphas, self.rays = tensors["alphas"], extra["rays"]

    def _adapt_rays(self, samples: int) -> None:
        """Draw as many rays next time as fill the sample count, as Instant-NGP does."""
        wanted = self.rays * self.settings.samples / max(1, samples)
        self.rays = int(min(MAX_RAYS, max(MIN_RAYS, 0.5 * (self.rays + wanted))))

    def _pixels(self, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Random pixels: their views [N], coordinates [N, 2] and stored values [N, 3 | 4]."""
        height, width = self.cameras.size
        if self.pool is None:
            flat = torch.randint(len(self.cameras) * height * width, (count,), generator=draw)
        else:
            flat = self.pool[torch.randint(len(self.pool), (count,), generator=draw)]
        view, pixel = flat // (height * width), flat % (height * width)
        xy_px = torch.stack([pixel % width, pixel // width], dim=1) + 0.5
        return view, xy_px, self.data.images.reshape(-1, self.data.images.shape[-1])[flat]

    @torch.no_grad()
    def _refresh_occupancy(self, step: int) -> None:
        """Re-estimate a random part of the hull's cells; a cell is kept while it can be seen."""
        draw = torch.Generator().manual_seed(self.settings.seed * 7_000_003 + step)
        chosen = self.cells[torch.randperm(len(self.cells), generator=draw)[:OCCUPANCY_CELLS]]
        size = self.hull.shape[0]
        u = (chosen + torch.rand(len(chosen), 3, generator=draw)) * (2.0 / size) - 1.0
        alpha = 1.0 - torch.exp(-self.field.sigma(u) * self.settings.step)
        index = tuple(chosen.unbind(-1))
        before = (self.alphas[index] * OCCUPANCY_DECAY).clamp_min(0.0)
        self.alphas[index] = torch.maximum(before, alpha)
        if step >= PRUNE_AFTER:
            # A field that is still thin everywhere keeps its denser half, or it would never learn.
            mean = self.alphas[self.hull & (self.alphas != UNKNOWN)].mean()
            threshold = min(OCCUPANCY_ALPHA, 0.5 * float(mean))
            kept = (self.alphas == UNKNOWN) | (self.alphas > threshold)
            self.field.occupancy = self.hull & kept


def fit(
    data: PosedImages,
    architecture: str,
    config: Any,
    budget: Budget,
    settings: FitSettings | None = None,
    run: Run | None = None,
) -> Field:
    """Fit a field to posed images.

    Args:
        data: the training views.
        architecture: a key of `geometry.fields.ARCHITECTURES`.
        config: an instance of its config class.
        budget: steps or seconds.
        settings: how to train.
        run: a run folder for checkpoints and metrics; an interrupted one is continued.

    Returns:
        The field, in the frame of the cameras.

    Raises:
        InputError: the masks agree on nothing, the images have neither alpha nor a stated
            background, or training diverged.
    """
    settings = settings or FitSettings()
    field = build_field(architecture, config, settings.seed)
    job = FitJob(field, data, settings)
    train(job, budget, run, f"fit {architecture}")
    if job.stage != len(STAGES) - 1:
        set_stage(field, len(STAGES) - 1)
    return field


def _near_foreground(alpha: Tensor) -> Tensor:
    """Flat indices of the pixels within a few of the hull's pixels of foreground: all that rays can
    hit. [N]"""
    margin = 4 * shrinkage((alpha.shape[1], alpha.shape[2]))
    mask = (alpha > 0).float()[:, None]
    for along in ((1, 0), (0, 1)):
        size = [2 * margin * i + 1 for i in along]
        mask = F.max_pool2d(mask, size, stride=1, padding=[margin * i for i in along])
    return mask.reshape(-1).nonzero()[:, 0]
