"""Active learning for the PVD recipe: more of the cameras, rays and points the student finds hard.

Fang et al., "Progressive Volume Distillation with Active Learning for Efficient NeRF Architecture
Conversion", arXiv 2304.04012, with the constants of the released code. Cameras and rays live in
the teacher's unit cube.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from geodistill.cameras import Camera, rotations
from geodistill.rays import Rays
from geodistill.render.samples import RaySamples

UNMEASURED = -1.0


@dataclass(frozen=True)
class ActiveSettings:
    """The numbers of the three levels."""

    camera_ratio: float = 0.1
    """Share of an epoch's poses that is hard, and that replayed poses take in the next."""
    camera_pool: int = 100
    """Hard poses are collected until there are more than this; from then on they are replayed."""
    camera_epochs: int = 3
    """Epochs at the start that are not judged."""
    camera_turn_rad: float = math.pi / 20
    """Largest turn of a replayed pose about each axis."""
    ray_ratio: float = 0.1
    """Share of a batch that is hard, and size of the replay relative to it."""
    ray_pool: int = 150
    """Capacity of the pool of hard rays, in batches."""
    point_ratio: float = 0.3
    """Share of a ray's samples, the heaviest ones, that point losses see."""
    point_opacity: float = 0.5
    """Opacity below which a ray has no such samples."""


@dataclass
class ActiveCameras:
    """Level 1: poses of low PSNR come back, turned a little, in later epochs.

    Attributes:
        cameras: [N] of the current epoch; None before the first.
        error: [N] mean squared colour error of each pose in this epoch, `UNMEASURED` at first. The
            pose of the lowest PSNR is that of the highest error.
        pool: hard poses of earlier epochs.
    """

    settings: ActiveSettings
    cameras: Camera | None = None
    error: Tensor = field(default_factory=lambda: torch.zeros(0))
    pool: Camera | None = None

    def record(self, index: int, error: Tensor) -> None:
        """Note the error (a scalar) of the epoch's pose `index`."""
        self.error[index] = error

    def advance(self, fresh: Camera, ended: int, draw: torch.Generator) -> Camera:
        """Judge the epoch that ended and mix hard poses into the next.

        Args:
            fresh: [N] poses drawn for the next epoch.
            ended: number of epochs that have ended.
            draw: of the poses to replay, their places and their turns.

        Returns:
            [N] poses of the next epoch.
        """
        hard = self._hardest() if ended > self.settings.camera_epochs else None
        pool = fresh[:0] if self.pool is None else self.pool
        if hard is not None and len(pool) <= self.settings.camera_pool:
            pool = _each(lambda *parts: torch.cat(parts), pool, hard)
        elif hard is not None:
            slots = torch.randperm(len(pool), generator=draw)[: len(hard)].to(pool.device)
            places = torch.randperm(len(fresh), generator=draw)[: len(hard)].to(pool.device)
            replayed = turned(pool[slots], self.settings.camera_turn_rad, draw)
            fresh = _each(lambda old, new: old.index_copy(0, places, new), fresh, replayed)
            pool = _each(lambda old, new: old.index_copy(0, slots, new), pool, hard)
        self.cameras, self.pool = fresh, pool
        self.error = torch.full((len(fresh),), UNMEASURED, device=fresh.device)
        return fresh

    def _hardest(self) -> Camera | None:
        """The hard poses of an epoch in which every pose was measured."""
        count = int(self.settings.camera_ratio * len(self.error))
        if self.cameras is None or count == 0 or bool((self.error < 0).any()):
            return None
        return self.cameras[self.error.topk(count).indices]

    def state(self) -> dict[str, Tensor]:
        tensors = {"error": self.error.clone()}
        for name, cameras in (("cameras", self.cameras), ("pool", self.pool)):
            if cameras is not None:
                tensors.update(_camera_tensors(name, cameras))
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.error = tensors["error"].clone()
        self.cameras = _camera_from("cameras", tensors)
        self.pool = _camera_from("pool", tensors)


@dataclass
class ActiveRays:
    """Level 2: rays of high colour error stay in a pool that every batch draws from.

    Attributes:
        batch: fresh rays per step.
        pool: [P, 6] origins and directions of hard rays.
    """

    settings: ActiveSettings
    batch: int
    pool: Tensor = field(default_factory=lambda: torch.zeros(0, 6))

    @property
    def capacity(self) -> int:
        return self.settings.ray_pool * self.batch

    @property
    def quota(self) -> int:
        """How many rays of a step are hard."""
        return int(self.settings.ray_ratio * self.batch)

    def draw(self, draw: torch.Generator) -> Tensor:
        """Distinct pool slots to replay in this step. [quota], empty until the pool is full"""
        if len(self.pool) < self.capacity:
            return torch.zeros(0, dtype=torch.long, device=self.pool.device)
        slots = torch.randperm(self.capacity, generator=draw)[: self.quota]
        return slots.to(self.pool.device)

    def extend(self, rays: Rays, slots: Tensor) -> Rays:
        """The batch [R] followed by the pool's rays in `slots` [K]. [R + K]"""
        replayed = self.pool[slots].to(rays.origins)
        return Rays(
            torch.cat([rays.origins, replayed[:, :3]]),
            torch.cat([rays.directions, replayed[:, 3:]]),
        )

    def update(self, slots: Tensor, rays: Rays, error: Tensor) -> None:
        """Keep the step's hardest rays, in place of those that `slots` replayed.

        Args:
            slots: [K] what `draw` gave.
            rays: [R] all rays of the step.
            error: [R] absolute colour difference, summed over channels.
        """
        hardest = error.topk(self.quota).indices
        found = torch.cat([rays.origins[hardest], rays.directions[hardest]], dim=1)
        if len(slots):
            self.pool[slots] = found
        else:
            self.pool = torch.cat([self.pool.to(found), found])[: self.capacity]

    def state(self) -> dict[str, Tensor]:
        return {"pool": self.pool.clone()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.pool = tensors["pool"].clone()


@dataclass
class ActivePoints:
    """Level 3: point losses see the samples that make up most of a ray's colour. No state."""

    settings: ActiveSettings

    def keep(self, samples: RaySamples, teacher: Tensor, student: Tensor) -> Tensor:
        """Ascending indices of the samples that weigh most for the teacher or for the student.

        Args:
            samples: S samples of R rays.
            teacher: [S] ray weights T_i alpha_i; student: [S].
        """
        ratio, opacity = self.settings.point_ratio, self.settings.point_opacity
        kept = heaviest(teacher, samples, ratio, opacity) | heaviest(
            student, samples, ratio, opacity
        )
        return kept.nonzero()[:, 0]

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        pass


def heaviest(weights: Tensor, samples: RaySamples, ratio: float, opacity: float) -> Tensor:
    """Which samples are among the floor(ratio n) heaviest of a ray with n samples.

    Args:
        weights: [S]; of equal ones the nearer counts as heavier.
        samples: S samples of R rays.
        ratio: share of a ray's samples.
        opacity: rays whose weights sum to less have none.

    Returns:
        bool [S].
    """
    by_weight = weights.argsort(descending=True, stable=True)
    order = by_weight[samples.ray[by_weight].argsort(stable=True)]
    rank = torch.arange(len(weights), device=weights.device) - samples.offsets[samples.ray]
    quota = (samples.offsets.diff().double() * ratio).floor()
    total = torch.zeros(samples.rays, dtype=weights.dtype, device=weights.device)
    total = total.index_add(0, samples.ray, weights)
    quota = torch.where(total >= opacity, quota, 0.0)
    kept = torch.zeros(len(weights), dtype=torch.bool, device=weights.device)
    kept[order] = rank < quota[samples.ray]
    return kept


def turned(cameras: Camera, limit_rad: float, draw: torch.Generator) -> Camera:
    """Cameras [N] turned in place, R_z R_x R_y R with angles uniform in +-limit_rad."""
    pose = cameras.world_from_cam.clone()
    angles = (torch.rand(len(cameras), 3, generator=draw) * 2.0 - 1.0) * limit_rad
    axes = torch.eye(3)[[2, 0, 1]]
    z, x, y = rotations(angles.to(pose)[..., None] * axes.to(pose)).unbind(1)
    pose[:, :3, :3] = z @ x @ y @ pose[:, :3, :3]
    return replace(cameras, world_from_cam=pose)


def _each(function: Callable[..., Tensor], first: Camera, *others: Camera) -> Camera:
    """Apply a function to every tensor of cameras that share a size and a lens model."""
    distortion = None
    if first.distortion is not None:
        distortion = function(first.distortion, *(o.distortion for o in others))
    return Camera(
        function(first.K, *(o.K for o in others)),
        function(first.world_from_cam, *(o.world_from_cam for o in others)),
        first.size,
        distortion,
    )


def _camera_tensors(name: str, cameras: Camera) -> dict[str, Tensor]:
    tensors = {
        f"{name}.K": cameras.K.contiguous(),
        f"{name}.world_from_cam": cameras.world_from_cam.contiguous(),
        f"{name}.size": torch.tensor(cameras.size),
    }
    if cameras.distortion is not None:
        tensors[f"{name}.distortion"] = cameras.distortion.contiguous()
    return tensors


def _camera_from(name: str, tensors: Mapping[str, Tensor]) -> Camera | None:
    if f"{name}.K" not in tensors:
        return None
    height, width = tensors[f"{name}.size"].tolist()
    return Camera(
        tensors[f"{name}.K"].clone(),
        tensors[f"{name}.world_from_cam"].clone(),
        (height, width),
        tensors.get(f"{name}.distortion"),
    )
