"""The PVD recipe: its schedule, its losses against slow twins, what is inherited, exact resume."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from scenes import AnalyticField, ring
from torch import Tensor

from geodistill.checks import UsageError
from geodistill.distill.pvd.active import ActiveSettings
from geodistill.distill.pvd.stages import AdamW, PvdJob, PvdSettings, inherit, job, loss_weights
from geodistill.distill.pvd.stages.optimiser import make_optimiser
from geodistill.distill.pvd.stages.response import Response
from geodistill.distill.pvd.stages.student import enter_window
from geodistill.geometry.fields import Field, ParamGroup, build_field
from geodistill.geometry.fields.composite import CompositeConfig
from geodistill.geometry.fields.mlp import MlpConfig
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.fields.plenoxels import DENSITY_UNIT, Plenoxels, PlenoxelsConfig
from geodistill.geometry.fields.tensorf import TensorfConfig, TensorfCpConfig
from geodistill.rays import Rays
from geodistill.render.fields import render_views
from geodistill.render.samples import RaySamples
from geodistill.runs import Run
from geodistill.train import Budget, train

NGP = NgpConfig(levels=14, log2_size=7, max_resolution=64)
ROOMY = NgpConfig(levels=8, log2_size=14, max_resolution=128)
VM = TensorfConfig(resolution=24, density_rank=2, color_rank=4)
CONFIGS: dict[str, Any] = {
    "ngp": NGP,
    "tensorf": VM,
    "tensorf-cp": TensorfCpConfig(resolution=24, density_rank=6, color_rank=8),
    "mlp": MlpConfig(depth=3, width=32, octaves=4, bf16=False),
    "composite": CompositeConfig(NGP, VM),
    "plenoxels": PlenoxelsConfig(resolution=16),
}
TINY = PvdSettings(poses=6, resolution=24, rays=48, step=0.04)
LEVELS = ("cameras", "rays", "points")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Batches are too small to share out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def analytic() -> AnalyticField:
    """The analytic scene, whose grid takes a while to make."""
    return AnalyticField()


def student_of(architecture: str, seed: int = 0) -> Field:
    return build_field(architecture, CONFIGS[architecture], seed)


def latent_teacher(architecture: str = "ngp") -> Field:
    """A random scene of some contrast, with densities on both sides of the window."""
    teacher = student_of(architecture, seed=7)
    teacher.copy_scene_from(analytic())
    with torch.no_grad():
        for name, p in teacher.named_parameters():
            if "table" in name:
                p.mul_(3e5)
            elif "planes" in name or "lines" in name:
                p.mul_(16.0)
    return teacher


def run_steps(pvd: PvdJob, first: int, last: int, total: int) -> list[dict[str, float]]:
    metrics = []
    for step in range(first, last):
        done = step / total
        pvd.before(step, done)
        loss, reported = pvd.loss(step, done)
        loss.backward()
        pvd.optimiser.step(pvd.lr_scale(done))
        metrics.append({"loss": float(loss.detach()), **reported})
    return metrics


# -- the schedule ----------------------------------------------------------------------------


def test_the_feature_weight_decays_as_published() -> None:
    def weight(iteration: int) -> float:
        return loss_weights(PvdSettings(), iteration / 30_000, shared=True)["feature"]

    assert weight(0) == 0.002
    assert weight(1) == pytest.approx(0.00199)
    assert weight(1000) == pytest.approx(1.3e-5, rel=0.05)
    assert weight(2000) == pytest.approx(8.9e-8, rel=0.05)
    assert weight(5000) == pytest.approx(2.6e-14, rel=0.05)


@pytest.mark.parametrize("steps", [30_000, 300, 77, 7])
def test_stages_begin_at_the_same_fraction_of_any_budget(steps: int) -> None:
    for step in range(steps):
        iteration = Fraction(step * 30_000, steps)
        expected = {"feature"}
        if iteration >= 2000:
            expected |= {"rgb", "log_density"}
        if iteration >= 5000:
            expected |= {"ray", "factors"}
        assert loss_weights(PvdSettings(), step / steps, shared=True).keys() == expected
        without = loss_weights(PvdSettings(), step / steps, shared=False)
        assert without.keys() == (expected | {"rgb", "log_density"}) - {"feature"}


def test_the_published_numbers() -> None:
    s = PvdSettings()
    late = loss_weights(s, 0.5, shared=True)
    del late["feature"]
    assert late == {"rgb": 0.002, "log_density": 0.002, "ray": 1.0, "factors": 1e-4}
    assert (s.poses, s.rays, s.raw_min, s.raw_max) == (312, 4096, -2.0, 7.0)
    assert 1 - math.exp(-math.exp(s.raw_max) * s.step) == pytest.approx(0.976, abs=1e-3)
    assert math.exp(-2 * math.exp(s.raw_min)) == pytest.approx(0.763, abs=1e-3)


def test_the_learning_rate_is_a_cosine_to_7e_5() -> None:
    pvd = PvdJob(student_of("ngp"), analytic(), PvdSettings(), 0)
    rates = [0.01 * pvd.lr_scale(p) for p in (0.0, 0.5, 1.0)]
    assert rates == pytest.approx([0.01, (0.01 + 7e-5) / 2, 7e-5])


# -- the losses ------------------------------------------------------------------------------


def slow_losses(
    teacher: Field, student: Field, samples: RaySamples, background: Tensor
) -> dict[str, Tensor]:
    """Every term of the paper, ray by ray, in float64."""

    def answer(field: Field) -> tuple[Tensor, Tensor, Tensor]:
        latent = field.latent(samples.u)
        raw = torch.log(field.sigma_of(latent).clamp_min(1e-9)).double().clamp(-2.0, 7.0)
        rest = latent[:, 1:].double()
        if field.architecture.startswith("tensorf"):
            rest = rest.clamp(-2.0, 7.0)
        return raw, torch.cat([raw[:, None], rest], 1), field.rgb_of(latent, samples.d).double()

    def image(raw: Tensor, rgb: Tensor) -> Tensor:
        pixels = []
        for r in range(samples.rays):
            light, pixel = torch.ones((), dtype=torch.float64), torch.zeros(3).double()
            for i in range(int(samples.offsets[r]), int(samples.offsets[r + 1])):
                alpha = 1 - torch.exp(-torch.exp(raw[i]) * samples.dt[i])
                pixel = pixel + light * alpha * rgb[i]
                light = light * (1 - alpha)
            pixels.append(pixel + light * background[r])
        return torch.stack(pixels)

    (raw_t, feature_t, rgb_t), (raw_s, feature_s, rgb_s) = answer(teacher), answer(student)
    terms = {
        "rgb": (rgb_s - rgb_t).square().sum().sqrt(),
        "log_density": (raw_s - raw_t).square().sum().sqrt(),
        "ray": (image(raw_s, rgb_s) - image(raw_t, rgb_t)).square().sum().sqrt(),
    }
    if feature_t.shape == feature_s.shape:
        terms["feature"] = (feature_s - feature_t).square().sum().sqrt()
    return terms


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.5])
@pytest.mark.parametrize(
    "student, teacher",
    [("ngp", "tensorf"), ("tensorf", "ngp"), ("tensorf-cp", None), ("plenoxels", "ngp")],
)
def test_the_loss_is_the_papers(
    student: str, teacher: str | None, progress: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = analytic() if teacher is None else latent_teacher(teacher)
    pvd = PvdJob(student_of(student), source, TINY, 0)
    with torch.no_grad():
        for p in pvd.student.parameters():
            p.mul_(1.3)
    seen: dict[str, Any] = {}

    def sampled(field: Field, rays: Rays, *rest: Any) -> RaySamples:
        seen["samples"] = field_samples(field, rays, *rest)
        return seen["samples"]

    def over(self: Response, background: Tensor) -> Tensor:
        seen["background"] = background
        return composited(self, background)

    field_samples, composited = job.field_samples, Response.over
    monkeypatch.setattr(job, "field_samples", sampled)
    monkeypatch.setattr(Response, "over", over)
    pvd.before(3, progress)
    loss, metrics = pvd.loss(3, progress)
    shared = teacher is not None and student != "plenoxels"
    weights = loss_weights(PvdSettings(), progress, shared)
    background = seen.get("background", torch.zeros(48, 3))
    terms = slow_losses(source, pvd.student, seen["samples"], background)
    expected = torch.zeros(()).double()
    for name in weights.keys() - {"factors"}:
        expected = expected + weights[name] * terms[name]
    if "factors" in weights and student.startswith("tensorf"):
        branch: Any = pvd.student.branch  # type: ignore[union-attr]
        factors = [*getattr(branch, "density_planes", []), *branch.density_lines]
        expected = expected + weights["factors"] * sum(f.abs().mean() for f in factors)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=0.0)
    assert metrics["stage"] == 1 + ("rgb" in weights) + ("ray" in weights)
    assert len(seen["samples"]) > 50
    if "ray" in weights:
        assert background.std() > 0.2, "a random colour behind every ray"
        assert math.isfinite(metrics["psnr_db"])


def test_each_stage_trains_what_it_should() -> None:
    def trained(progress: float) -> set[str]:
        pvd = PvdJob(student_of("tensorf"), latent_teacher(), TINY, 0)
        pvd.before(0, progress)
        pvd.loss(0, progress)[0].backward()
        return {n for n, p in pvd.student.named_parameters() if p.grad is not None}

    everything = {n for n, _ in student_of("tensorf").named_parameters()}
    head = {n for n in everything if n.startswith("color_head.")}
    assert trained(0.0) == everything - head, "the feature stage runs block 1 only"
    assert trained(0.1) == trained(0.5) == everything


def test_the_teacher_is_left_alone() -> None:
    teacher = latent_teacher()
    before = {n: p.clone() for n, p in teacher.named_parameters()}
    run_steps(PvdJob(student_of("mlp"), teacher, TINY, 0), 0, 8, 8)
    for name, p in teacher.named_parameters():
        assert torch.equal(p, before[name]) and p.grad is None


def test_a_view_of_nothing_is_harmless() -> None:
    for architecture in CONFIGS:
        teacher = deepcopy(analytic())
        teacher.occupancy = torch.zeros_like(teacher.occupancy)
        pvd = PvdJob(student_of(architecture), teacher, TINY, 0, ("points", "rays"))
        for metrics in run_steps(pvd, 0, 6, 6):
            assert metrics["samples"] == 0 and math.isfinite(metrics["loss"])
        assert all(p.isfinite().all() for p in pvd.student.parameters())


# -- the window ------------------------------------------------------------------------------


def samples_at(u: Tensor) -> RaySamples:
    count = len(u)
    directions = torch.nn.functional.normalize(torch.ones(count, 3), dim=1)
    index = torch.arange(count)
    return RaySamples(
        torch.arange(count + 1),
        index,
        torch.zeros(count),
        torch.full((count,), 0.01),
        u,
        directions,
    )


@pytest.mark.parametrize("raw, alive", [(-9.0, 0), (-2.1, 0), (-1.9, 1), (6.9, 1), (7.1, 0)])
def test_densities_outside_the_window_get_no_gradient(raw: float, alive: int) -> None:
    """The dead zone is the recipe's: neither points nor rays bring such a student back."""
    field = student_of("ngp")
    latent = torch.full((5, 16), 0.3)
    latent[:, 0] = raw
    latent.requires_grad_(True)
    response = Response(field, samples_at(torch.zeros(5, 3)), -2.0, 7.0)
    response.__dict__["latent"] = latent
    loss = response.log_density.sum() + response.over(torch.zeros(5, 3)).sum()
    (grad,) = torch.autograd.grad(loss, latent)
    assert bool((grad[:, 0] != 0).all()) == bool(alive)
    assert (grad[:, 1:] != 0).any(), "colours are never in the dead zone"
    assert float(response.log_density[0].detach()) == pytest.approx(min(max(raw, -2.0), 7.0))


@pytest.mark.parametrize("architecture, clamped", [("ngp", False), ("tensorf", True)])
def test_features_of_tensorf_are_compared_inside_the_window(
    architecture: str, clamped: bool
) -> None:
    response = Response(student_of(architecture), samples_at(torch.zeros(1, 3)), -2.0, 7.0)
    response.__dict__["latent"] = torch.linspace(-20.0, 20.0, 16)[None]
    feature = response.feature[0]
    assert feature[0] == -2.0
    rest = torch.linspace(-20.0, 20.0, 16)[1:]
    assert torch.equal(feature[1:], rest.clamp(-2.0, 7.0) if clamped else rest)


def test_voxels_are_compared_by_the_logarithm_of_their_density() -> None:
    response = Response(student_of("plenoxels"), samples_at(torch.zeros(3, 3)), -2.0, 7.0)
    latent = torch.zeros(3, 28)
    latent[:, 0] = torch.tensor([-5.0, 20.0, 1e6]) / DENSITY_UNIT
    response.__dict__["latent"] = latent
    expected = torch.tensor([-2.0, math.log(20.0), 7.0])
    torch.testing.assert_close(response.log_density, expected)


@pytest.mark.parametrize("architecture", list(CONFIGS))
def test_students_start_inside_the_window(architecture: str) -> None:
    student = student_of(architecture)
    student.copy_scene_from(analytic())
    enter_window(student, PvdSettings())
    u = torch.rand(500, 3) * 2 - 1
    u = u[student.occupied(u)]
    raw = student.sigma(u).log()
    assert len(u) > 20 and raw.abs().max() < 1.5


def test_a_student_that_has_a_density_keeps_it() -> None:
    student = student_of("tensorf")
    with torch.no_grad():
        student.branch.density_planes[0].fill_(1.0)  # type: ignore[union-attr]
        student.branch.density_lines[0].fill_(4.0)  # type: ignore[union-attr]
    before = [p.clone() for p in student.parameters()]
    enter_window(student, PvdSettings())
    assert all(torch.equal(p, q) for p, q in zip(student.parameters(), before, strict=True))


def test_without_that_start_a_factored_student_is_dead() -> None:
    student = student_of("tensorf")
    response = Response(student, samples_at(torch.rand(50, 3)), -2.0, 7.0)
    loss = (response.log_density - 5.0).norm() + response.over(torch.zeros(50, 3)).norm()
    loss.backward()
    branch: Any = student.branch  # type: ignore[union-attr]
    for factor in (*branch.density_planes, *branch.density_lines):
        assert factor.grad is None or not factor.grad.any()


# -- inheritance -----------------------------------------------------------------------------

HEAD = {f"color_head.weights.{i}" for i in range(3)}
NET = {f"branch.density_net.weights.{i}" for i in range(2)}


@pytest.mark.parametrize(
    "student, teacher, expected",
    [
        ("mlp", "ngp", HEAD | NET),
        ("ngp", "mlp", HEAD | NET),
        ("ngp", "ngp", HEAD | NET),
        ("tensorf", "ngp", HEAD),
        ("ngp", "tensorf", HEAD),
        ("tensorf", "tensorf", HEAD),
        ("composite", "ngp", HEAD),
        ("plenoxels", "ngp", set()),
        ("ngp", "plenoxels", set()),
    ],
)
def test_heads_are_inherited_and_nothing_else(
    student: str, teacher: str, expected: set[str]
) -> None:
    source, target = student_of(teacher, seed=1), student_of(student, seed=2)
    source.copy_scene_from(analytic())
    source.world_from_field[0, 3] = 5.0
    source.color_space = "linear"
    before = {n: p.clone() for n, p in target.named_parameters()}
    assert set(inherit(target, source)) == expected
    theirs = dict(source.named_parameters())
    for name, p in target.named_parameters():
        assert torch.equal(p, theirs[name] if name in expected else before[name]), name
    assert torch.equal(target.occupancy, source.occupancy)
    assert torch.equal(target.world_from_field, source.world_from_field)
    assert target.color_space == "linear"


def test_networks_of_another_shape_are_not_inherited() -> None:
    wide = build_field("ngp", replace(NGP, hidden=32), 1)
    assert set(inherit(student_of("mlp"), wide)) == HEAD
    few = build_field("ngp", replace(NGP, levels=8), 1)
    assert set(inherit(student_of("mlp"), few)) == HEAD | {"branch.density_net.weights.1"}


# -- the optimiser ---------------------------------------------------------------------------


def slow_adamw(p: Tensor, grads: list[Tensor | None], lrs: list[float], decay: float) -> Tensor:
    p, m, v, count = p.double(), torch.zeros_like(p).double(), torch.zeros_like(p).double(), 0
    for g, lr in zip(grads, lrs, strict=True):
        if g is None:
            continue
        count += 1
        g = g.double()
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        p = p * (1 - lr * decay)
        p = p - lr * (m / (1 - 0.9**count)) / ((v / (1 - 0.99**count)).sqrt() + 1e-15)
    return p


def test_adamw_follows_its_slow_twin() -> None:
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(7, 3, generator=draw)
    early, late = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimiser = AdamW([ParamGroup([early], 1e-2, False), ParamGroup([late], 1e-3, False)], 0.1)
    scales = [1.0, 0.9, 0.5, 0.2, 0.1]
    grads: list[Tensor] = [torch.randn(7, 3, generator=draw) * 1e-6 for _ in scales]
    for i, (g, scale) in enumerate(zip(grads, scales, strict=True)):
        early.grad = g.clone()
        late.grad = g.clone() if i >= 3 else None
        optimiser.step(scale)
    expected = slow_adamw(start, [*grads], [1e-2 * s for s in scales], 0.1)
    torch.testing.assert_close(early.double(), expected, rtol=1e-5, atol=1e-7)
    expected = slow_adamw(start, [None] * 3 + grads[3:], [1e-3 * s for s in scales], 0.1)
    torch.testing.assert_close(late.double(), expected, rtol=1e-5, atol=1e-7)
    assert early.grad is None and optimiser.count == 5


@pytest.mark.parametrize(
    "architecture, main, head, basis",
    [
        ("ngp", 1e-2, 1e-2, None),
        ("mlp", 1e-3, 1e-3, None),
        ("tensorf", 1e-2, 1e-3, 1e-3),
        ("tensorf-cp", 1e-2, 1e-3, 1e-3),
        ("composite", 1e-2, 1e-3, 1e-3),
        ("plenoxels", 1e-2, 1e-2, None),
    ],
)
def test_rates_by_architecture(
    architecture: str, main: float, head: float, basis: float | None
) -> None:
    """The first step of Adam is as long as the learning rate."""
    student = student_of(architecture)
    enter_window(student, PvdSettings())
    optimiser = make_optimiser(student, replace(PvdSettings(), weight_decay=0.0))
    before = {n: p.clone() for n, p in student.named_parameters()}
    for p in student.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step(0.5)
    for name, p in student.named_parameters():
        moved = (before[name] - p).detach()
        rate = basis if name.endswith("basis") else head if "color_head" in name else main
        assert rate is not None
        torch.testing.assert_close(moved, torch.full_like(moved, 0.5 * rate), rtol=1e-3, atol=1e-7)


# -- the whole job ---------------------------------------------------------------------------

EAGER = replace(
    TINY,
    points_from=4000,
    rays_from=8000,
    active=ActiveSettings(camera_ratio=0.34, camera_pool=3, camera_epochs=1, ray_pool=1),
)


@pytest.mark.parametrize(
    "architecture, active",
    [("tensorf", ()), ("mlp", LEVELS), ("plenoxels", LEVELS), ("ngp", LEVELS)],
)
def test_interrupting_changes_no_bit(architecture: str, active: tuple[str, ...]) -> None:
    """In every stage, at and inside an epoch, with replayed cameras and rays."""

    def new() -> PvdJob:
        return PvdJob(student_of(architecture), latent_teacher(), EAGER, 5, active)

    total, cuts = 40, (3, 7, 24, 33)
    whole, saved = new(), []
    for first, last in pairwise((0, *cuts, total)):
        run_steps(whole, first, last, total)
        tensors, extra = whole.state()
        everything = {**tensors, **whole.optimiser.state()}
        saved.append(({n: t.clone() for n, t in everything.items()}, extra))
    expected = saved.pop()[0]
    for cut, (stored, extra) in zip(cuts, saved, strict=True):
        again = new()
        again.load(stored, extra)
        again.optimiser.load(stored, cut)
        run_steps(again, cut, total, total)
        found = {**again.state()[0], **again.optimiser.state()}
        assert expected.keys() == found.keys()
        for name in expected:
            assert torch.equal(expected[name], found[name]), f"{name} after a cut at {cut}"
    if active:
        assert whole.hard_cameras is not None and whole.hard_rays is not None
        assert whole.hard_cameras.pool is not None
        assert len(whole.hard_cameras.pool) > 3, "poses are being replayed"
        assert len(whole.hard_rays.pool) == whole.hard_rays.capacity, "rays are being replayed"


class Interrupted(PvdJob):
    """Stops after 20 steps, like a process that was killed after its checkpoint."""

    def finished(self, step: int) -> bool:
        return step >= 20


def test_a_run_folder_resumes_the_job(tmp_path: Path) -> None:
    def new(kind: type[PvdJob]) -> PvdJob:
        return kind(student_of("plenoxels"), latent_teacher(), EAGER, 1, LEVELS)

    budget = {"steps": 40}
    whole, first, second = new(PvdJob), new(Interrupted), new(PvdJob)
    train(whole, Budget(**budget), None, "whole")
    run = Run.open(tmp_path / "run", "convert", budget)
    assert train(first, Budget(**budget), run, "first") == 20
    run.close()
    run = Run.open(tmp_path / "run", "convert", budget)
    assert run.resumed and train(second, Budget(**budget), run, "second") == 40
    run.close()
    assert isinstance(whole.student, Plenoxels) and isinstance(second.student, Plenoxels)
    assert torch.equal(whole.student.values, second.student.values)


def test_every_pose_of_an_epoch_is_used_once_and_epochs_differ() -> None:
    pvd = PvdJob(student_of("plenoxels"), analytic(), TINY, 0)
    drawn = []
    for epoch in range(3):
        used = []
        for step in range(6 * epoch, 6 * epoch + 6):
            pvd.before(step, 0.0)
            used.append(pvd._camera(step)[0])
        assert sorted(used) == list(range(6))
        assert pvd.viewpoints is not None
        drawn.append((used, pvd.viewpoints.centers))
    assert not torch.equal(drawn[0][1], drawn[1][1]) and drawn[0][0] != drawn[1][0]


def test_a_seed_is_a_run_and_another_seed_another() -> None:
    def losses(seed: int) -> list[float]:
        pvd = PvdJob(student_of("ngp"), latent_teacher(), TINY, seed)
        return [m["loss"] for m in run_steps(pvd, 0, 4, 4)]

    assert losses(3) == losses(3) != losses(4)


def test_hard_rays_add_a_tenth_of_the_batch_and_points_shrink_the_point_losses() -> None:
    late = replace(TINY, points_from=0, rays_from=0, active=ActiveSettings(ray_pool=1))
    plain = PvdJob(student_of("ngp"), analytic(), late, 0)
    hard = PvdJob(student_of("ngp"), analytic(), late, 0, ("rays",))
    a, b = (run_steps(j, 0, 14, 14) for j in (plain, hard))
    assert hard.hard_rays is not None and hard.hard_rays.quota == 4
    assert [m["samples"] for m in a][:12] == [m["samples"] for m in b][:12], "until it is full"
    assert a[13]["samples"] < b[13]["samples"] < 2 * a[13]["samples"]
    points = PvdJob(student_of("ngp"), analytic(), TINY, 0, ("points",))
    everywhere = PvdJob(student_of("ngp"), analytic(), TINY, 0)
    losses = [run_steps(j, 0, 1, 1)[0]["loss"] for j in (points, everywhere)]
    assert 0 < losses[0] < losses[1]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown level of active learning 'ray'.*'rays'"):
        PvdJob(student_of("ngp"), analytic(), TINY, 0, ("ray",))


@pytest.mark.parametrize("architecture, active", [("ngp", ()), ("tensorf", ()), ("ngp", LEVELS)])
def test_training_brings_rays_closer_to_the_teacher(
    architecture: str, active: tuple[str, ...]
) -> None:
    configs = {"ngp": ROOMY, "tensorf": TensorfConfig(48, 4, 8)}
    settings = replace(TINY, rays=512, poses=16, resolution=64, step=0.02, active=EAGER.active)
    student = build_field(architecture, configs[architecture])
    pvd = PvdJob(student, analytic(), settings, 0, active)
    cameras = ring(3, 32, seed=1)
    target = torch.stack([view.over(0.5) for view in render_views(pvd.teacher, cameras)])

    def psnr() -> float:
        found = torch.stack([view.over(0.5) for view in render_views(student, cameras)])
        return -10.0 * math.log10(float((found - target).square().mean()))

    start = psnr()
    run_steps(pvd, 0, 150, 150)
    assert psnr() > start + 4.0, f"{start:.2f} dB to {psnr():.2f} dB"


def test_the_feature_stage_teaches_a_shared_latent() -> None:
    pvd = PvdJob(build_field("ngp", ROOMY), latent_teacher("tensorf"), replace(TINY, rays=256), 0)
    pvd.before(0, 0.0)

    def error() -> float:
        loss, metrics = pvd.loss(0, 0.0)
        assert metrics["stage"] == 1
        return float(loss.detach())

    start = error()
    run_steps(pvd, 1, 100, 3000)
    pvd.before(0, 0.0)
    assert error() < 0.8 * start
