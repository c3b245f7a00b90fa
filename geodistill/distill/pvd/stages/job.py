"""The training job of the PVD recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geodistill.cameras import Camera
from geodistill.checks import choose
from geodistill.distill.pvd.active import ActiveCameras, ActivePoints, ActiveRays
from geodistill.distill.pvd.stages.optimiser import make_optimiser
from geodistill.distill.pvd.stages.response import Response
from geodistill.distill.pvd.stages.settings import PvdSettings, loss_weights, stage_of
from geodistill.distill.pvd.stages.student import enter_window, factor_size, inherit
from geodistill.geometry.fields import Field
from geodistill.geometry.fields.files import field_tensors, restore_field
from geodistill.rays import Rays, pixel_rays
from geodistill.render.samples import field_samples, unit_camera
from geodistill.render.viewpoints import viewpoints
from geodistill.train.optimiser import Optimiser

LEVELS = ("cameras", "rays", "points")
POINT_TERMS = ("feature", "rgb", "log_density")


class PvdJob:
    """Distils one student from a live teacher (a `train.Job`).

    The teacher's parameters are frozen. The student takes over its scene and networks (`inherit`)
    and, where it starts outside the density window, is moved into it.
    """

    def __init__(
        self,
        student: Field,
        teacher: Field,
        settings: PvdSettings,
        seed: int,
        active: tuple[str, ...] = (),
    ) -> None:
        """
        Args:
            student: trained in place.
            teacher: any field in the unit cube that the student is to have.
            settings: the recipe's numbers.
            seed: of viewpoints, pixels, jitter and backgrounds.
            active: PVD-AL's levels, any of `LEVELS`.

        Raises:
            UsageError: an unknown level.
        """
        for level in active:
            choose("level of active learning", level, dict.fromkeys(LEVELS))
        self.student, self.teacher, self.settings, self.seed = student, teacher, settings, seed
        teacher.requires_grad_(False)
        inherit(student, teacher)
        enter_window(student, settings)
        self.optimiser: Optimiser = make_optimiser(student, settings)
        kind = student.latent_kind
        self.shared = kind is not None and kind == teacher.latent_kind
        self.epoch, self.viewpoints = -1, None
        hard = settings.active
        self.hard_cameras = ActiveCameras(hard) if "cameras" in active else None
        self.hard_rays = ActiveRays(hard, settings.rays) if "rays" in active else None
        self.hard_points = ActivePoints(hard) if "points" in active else None
        levels = (self.hard_cameras, self.hard_rays, self.hard_points)
        self.levels = {n: s for n, s in zip(LEVELS, levels, strict=True) if s is not None}

    def lr_scale(self, progress: float) -> float:
        """A cosine from 1 to the schedule's end."""
        end = self.settings.lr_end / self.settings.lr
        return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * progress))

    def finished(self, step: int) -> bool:
        return False

    def before(self, step: int, progress: float) -> None:
        """Draw viewpoints anew when an epoch begins."""
        epoch = step // self.settings.poses
        if epoch == self.epoch:
            return
        number = self._seed(1, epoch)
        count, resolution = self.settings.poses, self.settings.resolution
        fresh = viewpoints(self.teacher, count, resolution, number)
        fresh = unit_camera(self.teacher, fresh)
        if self.hard_cameras is not None:
            fresh = self.hard_cameras.advance(fresh, epoch, torch.Generator().manual_seed(number))
        self.epoch, self.viewpoints = epoch, fresh

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        weights = loss_weights(self.settings, progress, self.shared)
        draw = torch.Generator().manual_seed(self._seed(0, step))
        pose, camera = self._camera(step)
        rays, slots = self._draw_rays(camera, draw)
        jitter = torch.rand(len(rays), generator=draw).to(rays.origins)
        background = torch.rand(len(rays), 3, generator=draw).to(rays.origins)
        samples = field_samples(self.teacher, rays, self.settings.step, jitter)
        window = self.settings.raw_min, self.settings.raw_max
        teacher, student = (Response(f, samples, *window) for f in (self.teacher, self.student))
        total = self._point_loss(teacher, student, weights)
        metrics = {"stage": float(stage_of(weights)), "samples": float(len(samples))}
        if "ray" in weights:
            error = student.over(background) - teacher.over(background)
            total = total + weights["ray"] * torch.linalg.vector_norm(error)
            total = total + weights["factors"] * factor_size(self.student)
            mse = error.detach()[: self.settings.rays].square().mean()
            metrics["psnr_db"] = -10.0 * math.log10(max(float(mse), 1e-12))
            self._remember(pose, mse, rays, slots, error.detach())
        return total, metrics

    def _seed(self, stream: int, index: int) -> int:
        """Random numbers depend on the seed, what they are for (0 to 2) and the step or epoch."""
        return (self.seed * 3 + stream) * 1_000_003 + index

    def _camera(self, step: int) -> tuple[int, Camera]:
        """The step's pose, each once in an epoch and in random order."""
        assert self.viewpoints is not None, "`before` comes before `loss`"
        draw = torch.Generator().manual_seed(self._seed(2, self.epoch))
        order = torch.randperm(self.settings.poses, generator=draw)
        pose = int(order[step % self.settings.poses])
        return pose, self.viewpoints[pose]

    def _draw_rays(self, camera: Camera, draw: torch.Generator) -> tuple[Rays, Tensor]:
        """Random pixels of the camera, then replayed rays from the pool slots given with them."""
        height, width = camera.size
        pixel = torch.randint(height * width, (self.settings.rays,), generator=draw)
        xy_px = torch.stack([pixel % width, pixel // width], dim=1) + 0.5
        rays = pixel_rays(camera, xy_px.to(camera.K))
        if self.hard_rays is None:
            return rays, torch.zeros(0, dtype=torch.long)
        slots = self.hard_rays.draw(draw)
        return self.hard_rays.extend(rays, slots), slots

    def _point_loss(
        self, teacher: Response, student: Response, weights: Mapping[str, float]
    ) -> Tensor:
        kept = slice(None)
        if self.hard_points is not None:
            of_teacher, of_student = (r.footprint.weights.detach() for r in (teacher, student))
            kept = self.hard_points.keep(teacher.samples, of_teacher, of_student)
        total = torch.zeros((), device=self.student.device)
        for name in POINT_TERMS:
            if name in weights:
                error = (getattr(student, name) - getattr(teacher, name))[kept]
                total = total + weights[name] * torch.linalg.vector_norm(error)
        return total

    def _remember(self, pose: int, mse: Tensor, rays: Rays, slots: Tensor, error: Tensor) -> None:
        if self.hard_cameras is not None:
            self.hard_cameras.record(pose, mse)
        if self.hard_rays is not None:
            self.hard_rays.update(slots, rays, error.abs().sum(dim=1))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = field_tensors(self.student)
        for name, level in self.levels.items():
            tensors |= {f"active.{name}.{key}": tensor for key, tensor in level.state().items()}
        return tensors, {"epoch": self.epoch}

    def load(self, tensors: dict[str, Tensor], extra: dict[str, Any]) -> None:
        restore_field(self.student, tensors)
        self.optimiser = make_optimiser(self.student, self.settings)
        for name, level in self.levels.items():
            prefix = f"active.{name}."
            mine = {
                k: t.to(self.student.device) for k, t in tensors.items() if k.startswith(prefix)
            }
            level.load({k.removeprefix(prefix): t for k, t in mine.items()})
        # Viewpoints follow from the epoch's number unless replayed poses are among them.
        self.epoch, self.viewpoints = -1, None
        if self.hard_cameras is not None:
            self.epoch, self.viewpoints = extra["epoch"], self.hard_cameras.cameras
