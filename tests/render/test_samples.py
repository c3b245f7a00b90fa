"""Samples along rays: the lattice, batches of rays as lists, and the early stop."""

from __future__ import annotations

import math

import pytest
import torch
from scenes import AnalyticField, ring
from torch import Tensor

from geodistill import kernels
from geodistill.cameras import Similarity
from geodistill.rays import Rays, camera_rays
from geodistill.render.samples import (
    DEFAULT_STEP,
    OPAQUE,
    RaySamples,
    cube_interval,
    march,
    thickness_loss,
    unit_camera,
    visible,
)

Sample = tuple[float, ...]


@pytest.fixture(scope="module")
def field() -> AnalyticField:
    return AnalyticField()


def some_rays(count: int, seed: int = 0) -> Rays:
    """Rays from around and inside the cube; some miss it, some run along an axis."""
    draw = torch.Generator().manual_seed(seed)
    origins = torch.randn(count, 3, generator=draw) * 1.5
    directions = torch.randn(count, 3, generator=draw) - 0.5 * origins
    directions[:3] = -torch.eye(3)
    origins[:3] = torch.eye(3) * 2.0 + 0.3
    return Rays(origins, torch.nn.functional.normalize(directions, dim=1))


def as_lists(batch: RaySamples) -> list[list[Sample]]:
    """One list of (t, dt, u, d) per ray: the readable twin of a batch."""
    rows = torch.cat([batch.t[:, None], batch.dt[:, None], batch.u, batch.d], dim=1).tolist()
    spans = zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True)
    return [[tuple(row) for row in rows[a:b]] for a, b in spans]


def assert_consistent(batch: RaySamples) -> None:
    assert int(batch.offsets[0]) == 0 and int(batch.offsets[-1]) == len(batch) == len(batch.u)
    assert torch.equal(torch.bincount(batch.ray, minlength=batch.rays), batch.offsets.diff())
    assert (batch.ray.diff() >= 0).all()


@pytest.fixture
def batch() -> RaySamples:
    """Some 40 rays with up to a dozen samples, many without any."""
    occupancy = torch.rand(6, 6, 6, generator=torch.Generator().manual_seed(3)) < 0.2
    found = march(some_rays(40), occupancy, 0.07)
    assert 0 in found.offsets.diff().tolist() and len(found) > 60
    return found


def test_rays_enter_and_leave_the_cube_on_its_faces() -> None:
    rays = some_rays(500)
    near, far = cube_interval(rays)
    met = far > near
    assert met.any() and (~met).any()
    ends = [(rays.origins + t[:, None] * rays.directions)[met] for t in (near, far)]
    entering = near[met] > 0
    for points in (ends[0][entering], ends[1]):
        torch.testing.assert_close(
            points.abs().amax(dim=1), torch.ones(len(points)), rtol=0, atol=1e-4
        )
    assert (ends[0][~entering].abs() <= 1).all()  # what starts inside starts at once
    missed = (
        rays.origins[~met, None]
        + torch.linspace(0, 20, 2000)[:, None] * (rays.directions[~met, None])
    )
    assert not (missed.abs() < 0.999).all(dim=-1).any()


@pytest.mark.parametrize("jittered", [False, True])
def test_samples_lie_on_the_lattice_in_occupied_cells_and_none_is_missing(jittered: bool) -> None:
    rays, step, size = some_rays(60), 0.05, 7
    occupancy = torch.rand(size, size, size, generator=torch.Generator().manual_seed(1)) < 0.3
    jitter = torch.rand(60, generator=torch.Generator().manual_seed(2)) if jittered else None
    found = march(rays, occupancy, step, jitter)
    assert_consistent(found)
    near, far = (t.double() for t in cube_interval(rays))
    phase = torch.full((60,), 0.5) if jitter is None else jitter
    index = (found.t.double() - near[found.ray]) / step - phase[found.ray]
    torch.testing.assert_close(index, index.round(), rtol=0, atol=1e-3)
    torch.testing.assert_close(found.dt, torch.full_like(found.dt, step))
    for ray in range(60):
        k = torch.arange(200, dtype=torch.float64)
        t = near[ray] + (k + phase[ray]) * step
        u = rays.origins[ray].double() + t[:, None] * rays.directions[ray].double()
        cell = (u + 1) * (size / 2)
        clear = ((cell - cell.round()).abs() > 1e-4).all(dim=1) & (t < far[ray] - 1e-4)
        ix, iy, iz = cell.floor().long().clamp(0, size - 1).unbind(-1)
        wanted = set(k[clear & occupancy[ix, iy, iz]].int().tolist())
        vague = set(k[~clear].int().tolist())
        got = set(index[found.ray == ray].round().int().tolist())
        assert wanted <= got <= wanted | vague


def test_samples_carry_their_position_and_direction(batch: RaySamples) -> None:
    rays = some_rays(40)
    torch.testing.assert_close(batch.d, rays.directions[batch.ray])
    torch.testing.assert_close(
        batch.u, rays.origins[batch.ray] + batch.t[:, None] * batch.d, rtol=0, atol=1e-5
    )
    assert (batch.u.abs() <= 1).all()


@pytest.mark.parametrize("step", [0.1, DEFAULT_STEP, 1 / 512, 1 / 2048])
def test_a_diagonal_is_sampled_from_end_to_end(step: float) -> None:
    across = Rays(torch.full((1, 3), -3.0), torch.full((1, 3), 1 / math.sqrt(3)))
    found = march(across, torch.ones(4, 4, 4, dtype=torch.bool), step)
    assert float(found.dt.sum()) == pytest.approx(2 * math.sqrt(3), abs=step)


def test_marching_nothing_gives_empty_rays() -> None:
    for rays, occupancy in (
        (some_rays(5), torch.zeros(4, 4, 4, dtype=torch.bool)),
        (Rays(torch.zeros(0, 3), torch.zeros(0, 3)), torch.ones(4, 4, 4, dtype=torch.bool)),
    ):
        found = march(rays, occupancy, 0.1)
        assert (len(found), found.rays) == (0, len(rays))
        assert_consistent(found)


def test_select_keeps_the_marked_samples_of_every_ray(batch: RaySamples) -> None:
    keep = torch.rand(len(batch), generator=torch.Generator().manual_seed(4)) < 0.4
    kept = batch.select(keep)
    assert_consistent(kept)
    flags = iter(keep.tolist())
    assert as_lists(kept) == [[s for s in ray if next(flags)] for ray in as_lists(batch)]


def test_empty_rays_are_dropped_and_the_others_stay(batch: RaySamples) -> None:
    full = batch.without_empty_rays()
    assert_consistent(full)
    assert as_lists(full) == [ray for ray in as_lists(batch) if ray]


def test_take_gathers_rays_in_any_order_and_says_which_samples_they_are(batch: RaySamples) -> None:
    lists = as_lists(batch)
    chosen = torch.tensor([7, 3, 3, 0, 39, 12, 7])
    taken, index = batch.take(chosen)
    assert_consistent(taken)
    assert as_lists(taken) == [lists[i] for i in chosen.tolist()]
    assert torch.equal(batch.t[index], taken.t) and torch.equal(batch.u[index], taken.u)


def test_concatenated_batches_are_one_list_after_the_other(batch: RaySamples) -> None:
    other, _ = batch.take(torch.arange(5, 30, 3))
    joined = RaySamples.concatenate([batch, other, batch])
    assert_consistent(joined)
    assert as_lists(joined) == as_lists(batch) + as_lists(other) + as_lists(batch)


def scene_rays(field: AnalyticField, resolution: int = 24) -> Rays:
    return camera_rays(unit_camera(field, ring(2, resolution)[0]))


@pytest.mark.parametrize("stop", [0.0, 1e-3, 0.1, 0.9])
def test_the_early_stop_is_the_full_evaluation_up_to_the_stop(
    field: AnalyticField, stop: float
) -> None:
    samples = march(scene_rays(field), field.occupancy, DEFAULT_STEP)
    _, weights, seen = visible(field, samples, stop)
    sigma = field.sigma(samples.u)
    full = kernels.ray_weights(sigma, samples.dt, samples.offsets)
    torch.testing.assert_close(weights[seen], full[seen], rtol=1e-4, atol=1e-6)
    assert (weights[~seen] <= stop).all()
    light = light_before(sigma * samples.dt, samples)
    assert seen[light >= stop + 1e-5].all() and not seen[light < stop - 1e-5].any()
    assert_prefix(seen, samples)
    assert bool(seen.all()) == (stop == 0.0)


def test_what_lies_behind_a_surface_is_not_evaluated(field: AnalyticField) -> None:
    asked: list[Tensor] = []

    class Counting(AnalyticField):
        def latent(self, u: Tensor) -> Tensor:
            asked.append(u)
            return super().latent(u)

    counting = Counting()
    counting.occupancy = torch.ones_like(field.occupancy)
    samples = march(scene_rays(counting), counting.occupancy, DEFAULT_STEP)
    seen = visible(counting, samples, 1e-2).seen
    evaluated = sum(len(u) for u in asked)
    light = light_before(field.sigma(samples.u) * samples.dt, samples)
    dark = light < 1e-2
    assert dark.sum() > 0.05 * len(samples)
    # Rounds double, so a ray goes at most about as far again as it had to.
    assert evaluated < 2 * int((~dark).sum()) + 6 * samples.rays
    assert evaluated < 0.6 * dark.sum() + (~dark).sum()
    assert torch.equal(seen, ~dark)


def light_before(optical: Tensor, samples: RaySamples) -> Tensor:
    """Transmittance in front of each sample, ray by ray in float64."""
    out = torch.empty(len(samples), dtype=torch.float64)
    for ray in range(samples.rays):
        a, b = int(samples.offsets[ray]), int(samples.offsets[ray + 1])
        tau = optical[a:b].double()
        out[a:b] = torch.exp(tau - tau.cumsum(0))
    return out


def assert_prefix(seen: Tensor, samples: RaySamples) -> None:
    later = ~seen[:-1] & seen[1:] & (samples.ray[:-1] == samples.ray[1:])
    assert not later.any()


def test_the_unit_camera_sees_in_the_cube_what_the_camera_sees_in_the_world(
    field: AnalyticField,
) -> None:
    turn = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    frame = Similarity(turn, torch.tensor([3.0, -1.0, 2.0]).double(), 4.0)
    moved = AnalyticField()
    moved.world_from_field = frame.matrix()
    camera = ring(3, 8)[1].to(dtype=torch.float64)
    back = unit_camera(moved, frame.apply_camera(camera))
    assert back.dtype == torch.float32
    torch.testing.assert_close(
        back.world_from_cam, camera.world_from_cam.float(), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(back.K, camera.K.float())


def test_thickness_costs_nothing_until_it_is_opaque_and_is_then_drawn_back() -> None:
    dt = torch.tensor([0.1, 0.2, 0.1, 0.5])
    sigma = (torch.tensor([0.0, 0.9, math.e, math.e**3]) * OPAQUE / dt).requires_grad_()
    loss = thickness_loss(sigma, dt)
    assert float(loss.detach()) == pytest.approx((1.0 + 9.0) / 4, rel=1e-5)
    (slope,) = torch.autograd.grad(loss, sigma)
    assert slope[:2].tolist() == [0.0, 0.0] and bool((slope[2:] > 0).all())
    assert float(thickness_loss(sigma[:0], dt[:0]).detach()) == 0.0
