"""PVD-AL's levels against slow twins that work on lists, one item at a time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from geodistill.cameras import Camera, look_at
from geodistill.distill.pvd.active import (
    ActiveCameras,
    ActivePoints,
    ActiveRays,
    ActiveSettings,
    heaviest,
    turned,
)
from geodistill.rays import Rays
from geodistill.render.samples import RaySamples
from geodistill.runs import load_tensors, save_tensors


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- cameras ---------------------------------------------------------------------------------


def poses(names: range, lens: bool = False) -> Camera:
    """Cameras that can be told apart by their focal length."""
    focal = torch.tensor([float(n + 1) for n in names])
    K = torch.eye(3).repeat(len(names), 1, 1)
    K[:, 0, 0] = focal
    eyes = torch.randn(len(names), 3, generator=generator(names.start)) + 3.0
    distortion = focal[:, None].expand(-1, 4) if lens else None
    return Camera(K, look_at(eyes, torch.zeros(3)), (4, 4), distortion)


def name(camera: Camera) -> int:
    return int(camera.K[0, 0]) - 1


class ListCameras:
    """The level as a list of names; replayed poses keep theirs."""

    def __init__(self, ratio: float, size: int, judged_from: int) -> None:
        self.ratio, self.size, self.judged_from = ratio, size, judged_from
        self.pool: list[int] = []
        self.now: list[int] = []
        self.error: list[float] = []

    def advance(self, fresh: list[int], ended: int, draw: torch.Generator) -> list[int]:
        count = int(self.ratio * len(self.now))
        hard: list[int] = []
        if ended > self.judged_from and min(self.error) >= 0:
            ranked = sorted(range(len(self.now)), key=lambda i: -self.error[i])
            hard = [self.now[i] for i in ranked[:count]]
        if hard and len(self.pool) <= self.size:
            self.pool += hard
        elif hard:
            slots = torch.randperm(len(self.pool), generator=draw).tolist()[:count]
            places = torch.randperm(len(fresh), generator=draw).tolist()[:count]
            for slot, place in zip(slots, places, strict=True):
                fresh[place] = self.pool[slot]
            for slot, pose in zip(slots, hard, strict=True):
                self.pool[slot] = pose
        self.now, self.error = fresh, [-1.0] * len(fresh)
        return fresh


@pytest.mark.parametrize("lens", [False, True])
def test_the_camera_pool_follows_its_slow_twin(lens: bool) -> None:
    settings = ActiveSettings(camera_ratio=0.3, camera_pool=6, camera_epochs=2)
    level, twin = ActiveCameras(settings), ListCameras(0.3, 6, 2)
    replayed = 0
    for epoch in range(12):
        names = range(10 * epoch, 10 * epoch + 10)
        cameras = level.advance(poses(names, lens), epoch, generator(epoch))
        expected = twin.advance(list(names), epoch, generator(epoch))
        assert [name(c) for c in cameras] == expected
        assert [name(c) for c in level.pool or []] == twin.pool
        if lens:
            assert cameras.distortion is not None
            assert torch.equal(cameras.distortion[:, 0], cameras.K[:, 0, 0])
        replayed += len(set(expected) - set(names))
        # Epoch 7 ends with a pose that no step has visited, and must not be judged.
        errors = torch.rand(10, generator=generator(100 + epoch))
        for i in range(9 if epoch == 7 else 10):
            level.record(i, errors[i])
            twin.error[i] = float(errors[i])
    assert replayed == 3 * 5, "epochs 6, 7, 9, 10 and 11 replay three poses each"
    assert len(twin.pool) == 9


def test_only_replayed_poses_are_turned() -> None:
    settings = ActiveSettings(camera_ratio=0.5, camera_pool=1, camera_epochs=0)
    level = ActiveCameras(settings)
    first, second, third = (poses(range(4 * i, 4 * i + 4)) for i in range(3))
    for epoch, fresh in enumerate((first, second)):
        level.advance(fresh, epoch, generator(0))
        for i in range(4):
            level.record(i, torch.tensor(float(i)))
    mixed = level.advance(third, 2, generator(0))
    from_pool = torch.tensor([name(c) < 8 for c in mixed])
    assert from_pool.sum() == 2
    assert torch.equal(mixed[~from_pool].world_from_cam, third[~from_pool].world_from_cam)
    for camera in mixed[from_pool]:
        original = first[name(camera)]
        assert torch.equal(camera.centers, original.centers)
        assert not torch.equal(camera.world_from_cam, original.world_from_cam)
    assert level.pool is not None
    assert sorted(name(c) for c in level.pool) == [6, 7], "the hardest of the second epoch"


def test_turns_are_rotations_about_z_x_y_within_the_limit() -> None:
    limit = math.pi / 20
    cameras = poses(range(500))
    result = turned(cameras, limit, generator(3))
    angles = (torch.rand(500, 3, generator=generator(3)) * 2 - 1) * limit
    assert angles.abs().max() > 0.95 * limit
    for i in range(0, 500, 50):
        psi, phi, theta = (float(a) for a in angles[i])
        z = torch.tensor(
            [[math.cos(psi), -math.sin(psi), 0], [math.sin(psi), math.cos(psi), 0], [0, 0, 1]]
        )
        x = torch.tensor(
            [[1, 0, 0], [0, math.cos(phi), -math.sin(phi)], [0, math.sin(phi), math.cos(phi)]]
        )
        y = torch.tensor(
            [
                [math.cos(theta), 0, math.sin(theta)],
                [0, 1, 0],
                [-math.sin(theta), 0, math.cos(theta)],
            ]
        )
        expected = z @ x @ y @ cameras[i].world_from_cam[:3, :3]
        torch.testing.assert_close(result[i].world_from_cam[:3, :3], expected)
    assert torch.equal(result.centers, cameras.centers)


def test_the_published_numbers() -> None:
    s = ActiveSettings()
    assert (s.camera_ratio, s.camera_pool, s.camera_epochs) == (0.1, 100, 3)
    assert math.degrees(s.camera_turn_rad) == pytest.approx(9.0)
    rays = ActiveRays(s, 4096)
    assert (rays.capacity, rays.quota) == (614_400, 409)
    assert (s.point_ratio, s.point_opacity) == (0.3, 0.5)


# -- rays ------------------------------------------------------------------------------------


def batch(step: int, count: int) -> Rays:
    """Rays that can be told apart by their first coordinate."""
    number = torch.arange(count) + 1000.0 * step
    return Rays(number[:, None].expand(-1, 3).clone(), -number[:, None].expand(-1, 3).clone())


def test_the_ray_pool_follows_its_slow_twin() -> None:
    level = ActiveRays(ActiveSettings(ray_ratio=0.15, ray_pool=3), batch=20)
    pool: list[float] = []
    full = 0
    for step in range(60):
        slots = level.draw(generator(step))
        expected: list[int] = []
        if len(pool) == 60:
            expected = torch.randperm(60, generator=generator(step)).tolist()[:3]
            full += 1
        assert slots.tolist() == expected
        rays = level.extend(batch(step, 20), slots)
        numbers = [1000.0 * step + i for i in range(20)] + [pool[s] for s in expected]
        assert rays.origins[:, 0].tolist() == numbers
        assert torch.equal(rays.directions, -rays.origins)
        error = torch.rand(len(numbers), generator=generator(500 + step))
        level.update(slots, rays, error)
        ranked = sorted(range(len(numbers)), key=lambda i, e=error: -float(e[i]))
        hard = [numbers[i] for i in ranked[:3]]
        if expected:
            for slot, ray in zip(expected, hard, strict=True):
                pool[slot] = ray
        else:
            pool = (pool + hard)[:60]
        assert level.pool[:, 0].tolist() == pool
    assert full == 40


def test_the_last_rays_that_fill_the_pool_are_the_hardest() -> None:
    level = ActiveRays(ActiveSettings(ray_ratio=0.4, ray_pool=1), batch=5)
    none = level.draw(generator(0))
    for step in range(3):
        level.update(none, batch(step, 5), torch.tensor([0.0, 3.0, 1.0, 4.0, 2.0]))
    assert level.pool[:, 0].tolist() == [3, 1, 1003, 1001, 2003]


# -- points ----------------------------------------------------------------------------------


def ragged(seed: int, rays: int) -> RaySamples:
    counts = torch.randint(0, 40, (rays,), generator=generator(seed))
    counts[::7] = 0
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    total = int(offsets[-1])
    ray = torch.repeat_interleave(torch.arange(rays), counts)
    return RaySamples(
        offsets,
        ray,
        torch.zeros(total),
        torch.ones(total),
        torch.zeros(total, 3),
        torch.zeros(total, 3),
    )


def ray_weights(seed: int, samples: RaySamples, ties: bool) -> Tensor:
    weights = torch.rand(len(samples), generator=generator(seed))
    if ties:
        weights = (weights * 4).floor() / 4
    # Sums from 0 to 1, so that the opacity gate passes some rays and stops others.
    total = torch.zeros(samples.rays).index_add(0, samples.ray, weights).clamp_min(1e-6)
    opacity = torch.rand(samples.rays, generator=generator(seed + 1))
    return weights * (opacity / total)[samples.ray]


def slow_heaviest(weights: Tensor, samples: RaySamples, ratio: float, opacity: float) -> set[int]:
    kept: set[int] = set()
    for r in range(samples.rays):
        start, end = int(samples.offsets[r]), int(samples.offsets[r + 1])
        own = weights[start:end].tolist()
        if sum(own) < opacity:
            continue
        ranked = sorted(range(len(own)), key=lambda i, own=own: -own[i])
        kept |= {start + i for i in ranked[: int(ratio * len(own))]}
    return kept


@pytest.mark.parametrize("ties", [False, True])
def test_the_heaviest_samples_follow_their_slow_twin(ties: bool) -> None:
    samples = ragged(0, 200)
    weights = ray_weights(1, samples, ties)
    kept = heaviest(weights, samples, 0.3, 0.5)
    expected = slow_heaviest(weights, samples, 0.3, 0.5)
    assert set(kept.nonzero()[:, 0].tolist()) == expected
    assert 0 < len(expected) < 0.3 * len(samples)


def test_points_are_those_of_the_teacher_or_the_student() -> None:
    samples = ragged(2, 50)
    teacher, student = ray_weights(3, samples, False), ray_weights(5, samples, False)
    kept = ActivePoints(ActiveSettings()).keep(samples, teacher, student)
    mine, theirs = (slow_heaviest(w, samples, 0.3, 0.5) for w in (student, teacher))
    assert kept.tolist() == sorted(mine | theirs)
    assert mine - theirs and theirs - mine


def test_no_rays_have_no_heavy_samples() -> None:
    empty = ragged(0, 1)
    assert len(heaviest(torch.zeros(0), empty, 0.3, 0.5)) == 0


# -- state -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lens", [False, True])
def test_levels_survive_a_file(tmp_path: Path, lens: bool) -> None:
    cameras = ActiveCameras(ActiveSettings(camera_ratio=0.5, camera_pool=1, camera_epochs=0))
    for epoch in range(3):
        cameras.advance(poses(range(4 * epoch, 4 * epoch + 4), lens), epoch, generator(0))
        for i in range(4 if epoch < 2 else 1):
            cameras.record(i, torch.tensor(float(i)))
    rays = ActiveRays(ActiveSettings(), 10)
    rays.update(rays.draw(generator(0)), batch(0, 10), torch.rand(10, generator=generator(0)))
    for level, fresh in (
        (cameras, ActiveCameras(cameras.settings)),
        (rays, ActiveRays(rays.settings, 10)),
        (ActivePoints(ActiveSettings()), ActivePoints(ActiveSettings())),
        (ActiveCameras(cameras.settings), ActiveCameras(cameras.settings)),
    ):
        stored = level.state()
        save_tensors(tmp_path / "level.safetensors", stored, {})
        fresh.load(load_tensors(tmp_path / "level.safetensors")[0])
        again = fresh.state()
        assert again.keys() == stored.keys()
        assert all(torch.equal(again[key], stored[key]) for key in stored)


def test_a_stored_state_does_not_change_when_training_goes_on() -> None:
    rays = ActiveRays(ActiveSettings(ray_ratio=0.5, ray_pool=1), 4)
    for step in range(2):
        rays.update(rays.draw(generator(0)), batch(step, 4), torch.arange(4.0))
    stored = rays.state()["pool"]
    before = stored.clone()
    slots = rays.draw(generator(1))
    assert len(slots)
    rays.update(slots, rays.extend(batch(9, 4), slots), torch.arange(6.0))
    assert torch.equal(stored, before) and not torch.equal(rays.pool, before)
