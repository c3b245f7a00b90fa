"""Conversion of a small teacher into every architecture by the default recipe."""

from __future__ import annotations

import signal
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from scenes import AnalyticField

from geodistill.checks import InputError, UsageError
from geodistill.convert.cache import MOST_RAYS, survey
from geodistill.distill.pvd import ConvertSettings, convert
from geodistill.distill.pvd.convert import SURVEY_SHARE
from geodistill.distill.pvd.losses import alpha_error, point_loss, ray_loss
from geodistill.distill.pvd.transfer import (
    GROWTH,
    PATIENCE,
    PLATEAU_DB,
    TransferJob,
    TransferSettings,
    suited,
)
from geodistill.geometry.fields import Field, build_field
from geodistill.geometry.fields.composite import CompositeConfig
from geodistill.geometry.fields.mlp import MlpConfig
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.fields.plenoxels import PlenoxelsConfig
from geodistill.geometry.fields.tensorf import TensorfConfig, TensorfCpConfig
from geodistill.metrics.fidelity import compare
from geodistill.render.samples import RayFootprint, RaySamples, march
from geodistill.render.viewpoints import random_rays
from geodistill.runs import Run
from geodistill.train import Budget

CONFIGS = {
    "ngp": NgpConfig(levels=8, log2_size=13, max_resolution=128),
    "tensorf": TensorfConfig(resolution=48, density_rank=6, color_rank=8),
    "tensorf-cp": TensorfCpConfig(resolution=48, density_rank=36, color_rank=48),
    "plenoxels": PlenoxelsConfig(resolution=48),
    "mlp": MlpConfig(depth=3, width=64, octaves=6),
    "composite": CompositeConfig(
        NgpConfig(levels=6, log2_size=12, max_resolution=64), TensorfConfig(32, 4, 6)
    ),
}
GROWING = {
    "tensorf": TensorfConfig(density_rank=2, color_rank=2),
    "tensorf-cp": TensorfCpConfig(density_rank=6, color_rank=12),
    "composite": CompositeConfig(CONFIGS["ngp"], TensorfConfig(density_rank=2, color_rank=2)),
}
"""Of the reference size: the first stage holds as much as a closed-form start finds."""
SETTINGS = ConvertSettings(cache_rays=3000, transfer=TransferSettings(rays=256))


@lru_cache
def teacher() -> Field:
    return AnalyticField(sharpness=25.0, peak=60.0)


@lru_cache
def student(architecture: str, steps: int = 120) -> Field:
    return convert(teacher(), architecture, CONFIGS[architecture], Budget(steps=steps), SETTINGS)


def fidelity(field: Field) -> dict:
    return compare(teacher(), field, views=3, resolution=48).report


@pytest.mark.parametrize(
    ("architecture", "least_db"),
    [
        ("ngp", 24.0),
        ("tensorf", 24.0),
        ("tensorf-cp", 21.0),
        ("plenoxels", 26.0),
        ("mlp", 17.0),
        ("composite", 23.0),
    ],
)
def test_every_architecture_learns_the_teacher(architecture: str, least_db: float) -> None:
    found = fidelity(student(architecture))
    assert found["psnr_db"] > least_db
    assert found["opacity_iou"] > 0.8


@pytest.mark.parametrize("architecture", ["plenoxels", "tensorf", "ngp"])
def test_a_latent_student_of_a_converted_field(architecture: str) -> None:
    source = student(architecture)
    again = convert(source, "tensorf", CONFIGS["tensorf"], Budget(steps=60), SETTINGS)
    assert compare(source, again, views=2, resolution=48).report["psnr_db"] > 22.0


@pytest.mark.parametrize("architecture", ["ngp", "tensorf"])
def test_a_student_without_its_grid_is_not_foggy(architecture: str) -> None:
    sharp = AnalyticField(sharpness=150.0, peak=150.0)
    field = convert(sharp, architecture, CONFIGS[architecture], Budget(steps=240), SETTINGS)
    bare = deepcopy(field)
    bare.occupancy = torch.ones_like(field.occupancy)
    assert compare(field, bare, views=3, resolution=48).report["psnr_db"] > 27.0


@pytest.mark.parametrize("architecture", ["tensorf", "tensorf-cp", "composite"])
def test_factors_grow_and_end_at_their_full_resolution(architecture: str) -> None:
    config = GROWING[architecture]
    size = (config.tensorf if isinstance(config, CompositeConfig) else config).resolution
    cache = survey(teacher(), 500, 0)
    field = build_field(architecture, config)
    field.copy_scene_from(teacher())
    job = TransferJob(field, cache, SETTINGS.transfer, 0)
    sizes = []
    for progress in (0.0, GROWTH[1] - 0.01, GROWTH[1], GROWTH[2]):
        job.before(0, progress)
        sizes.append(line_lengths(field))
    assert sizes == [{max(8, round(f * size))} for f in (0.4, 0.4, 0.65, 1.0)]


def test_what_a_short_budget_leaves_coarse_is_completed() -> None:
    seconds = Budget(seconds=1e-3)
    field = convert(teacher(), "tensorf", GROWING["tensorf"], seconds, SETTINGS)
    assert line_lengths(field) == {GROWING["tensorf"].resolution}


@pytest.mark.parametrize("step", [20, 48, 60, 100])
def test_a_student_that_was_interrupted_while_it_grew_has_the_same_bits(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, budget = GROWING["tensorf"], Budget(steps=120)
    through = convert(teacher(), "tensorf", config, budget, SETTINGS)
    with monkeypatch.context() as patch:
        loss = TransferJob.loss

        def struck(self: TransferJob, now: int, progress: float) -> Any:
            if now == step:
                signal.raise_signal(signal.SIGINT)
            return loss(self, now, progress)

        patch.setattr(TransferJob, "loss", struck)
        with pytest.raises(KeyboardInterrupt), Run.open(tmp_path / "run", "convert", {}) as run:
            convert(teacher(), "tensorf", config, budget, SETTINGS, run)
    with Run.open(tmp_path / "run", "convert", {}) as run:
        assert run.resumed
        again = convert(teacher(), "tensorf", config, budget, SETTINGS, run)
    for ours, theirs in zip(through.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("architecture", list(CONFIGS))
def test_small_and_other_students_have_their_resolution_at_once(architecture: str) -> None:
    """Coarser factors than a closed-form start was sampled at would lose what it found."""
    field = build_field(architecture, CONFIGS[architecture])
    field.copy_scene_from(teacher())
    before = {name: p.shape for name, p in field.named_parameters()}
    job = TransferJob(field, survey(teacher(), 500, 0), SETTINGS.transfer, 0)
    optimiser = job.optimiser
    job.before(0, 0.0)
    job.before(1, 1.0)
    assert job.optimiser is optimiser
    assert before == {name: p.shape for name, p in field.named_parameters()}


def test_longer_trainings_learn_from_more_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, float]] = []

    def survey(teacher: Field, rays: int, seed: int, *, seconds: float, **_: float) -> None:
        asked.append((rays, seconds))
        raise InterruptedError

    monkeypatch.setattr(import_module("geodistill.distill.pvd.convert"), "survey", survey)
    usual = suited(build_field("ngp", CONFIGS["ngp"]), teacher())
    budgets = [Budget(steps=usual.steps * times) for times in (1, 2, 1000)]
    for budget in [None, Budget(steps=1), *budgets, Budget(seconds=60.0)]:
        for settings in (ConvertSettings(), SETTINGS):
            with pytest.raises(InterruptedError):
                convert(teacher(), "ngp", CONFIGS["ngp"], budget, settings)
    rays = usual.cache_rays
    assert asked[::2] == [
        *((rays, 0.0), (rays, 0.0), (rays, 0.0)),
        *((2 * rays, 0.0), (MOST_RAYS, 0.0), (rays, 60.0 * SURVEY_SHARE)),
    ]
    assert set(asked[1::2]) == {(SETTINGS.cache_rays, 0.0)}, "what was asked for"


@pytest.mark.parametrize("rise_db", [0.0, 0.005, 0.1])
def test_training_ends_early_where_the_held_out_rays_stop_improving(
    rise_db: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def seen(job: TransferJob) -> float:
        looks.append(job.progress)
        return 30.0 + rise_db * len(looks)

    monkeypatch.setattr(TransferJob, "held_out_psnr", seen)
    field = student("ngp")
    job = TransferJob(field, survey(teacher(), 500, 0), SETTINGS.transfer, 0)
    assert (steps_taken(job, 4000) < 4000) == (rise_db < PLATEAU_DB / PATIENCE)
    late = {progress: job.lr_scale(progress) for progress in looks}
    assert max(late.values()) <= 0.51, "what still learns at a high rate stands still"
    assert len(looks) > PATIENCE


def test_a_short_training_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look takes as long as several steps."""
    monkeypatch.setattr(TransferJob, "held_out_psnr", lambda _: pytest.fail("looked"))
    field = student("ngp")
    job = TransferJob(field, survey(teacher(), 500, 0), SETTINGS.transfer, 0)
    assert steps_taken(job, 100) == 100


def steps_taken(job: TransferJob, budget: int) -> int:
    """Steps until the job ends by itself or by the budget, none of which is done."""
    for step in range(budget):
        if job.finished(step):
            return step
        job.before(step, step / budget)
    return budget


def line_lengths(field: Field) -> set[int]:
    return {p.shape[0] for name, p in field.named_parameters() if "lines" in name}


def test_the_same_seed_gives_the_same_bits() -> None:
    first, second = (
        convert(teacher(), "ngp", CONFIGS["ngp"], Budget(steps=8), SETTINGS) for _ in range(2)
    )
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("architecture", "source", "config"),
    [
        ("ngp", "plenoxels", CONFIGS["plenoxels"]),
        ("tensorf", "plenoxels", CONFIGS["plenoxels"]),
        ("ngp", "ngp", replace(CONFIGS["ngp"], levels=9)),
    ],
)
def test_what_cannot_be_taken_over_takes_longer_to_learn(
    architecture: str, source: str, config: Any
) -> None:
    """Voxels have neither a table nor latents, and other levels need another network."""
    student = build_field(architecture, CONFIGS[architecture])
    like, unlike = build_field("ngp", CONFIGS["ngp"]), build_field(source, config)
    short, long = suited(student, like), suited(student, unlike)
    assert short.steps < long.steps and short.cache_rays < long.cache_rays


def test_the_students_frame_is_the_teachers() -> None:
    field = student("plenoxels")
    assert torch.equal(field.world_from_field, teacher().world_from_field)


def test_an_empty_teacher_is_refused() -> None:
    empty = build_field("tensorf", CONFIGS["tensorf"])
    empty.occupancy = torch.zeros_like(empty.occupancy)
    with pytest.raises(InputError, match="scene is empty"):
        convert(empty, "ngp", CONFIGS["ngp"], Budget(steps=2), SETTINGS)


def test_active_levels_need_the_published_recipe() -> None:
    with pytest.raises(UsageError, match="--recipe pvd"):
        convert(
            teacher(), "ngp", CONFIGS["ngp"], Budget(steps=2), ConvertSettings(active=("rays",))
        )


def _samples() -> RaySamples:
    return march(random_rays(teacher(), 64, seed=3), teacher().occupancy, 0.05)


def test_voxels_have_no_head_to_start_from() -> None:
    settings = ConvertSettings(start="head")
    with pytest.raises(UsageError, match="plenoxels have none"):
        convert(teacher(), "plenoxels", CONFIGS["plenoxels"], Budget(steps=1), settings)


def test_the_head_alone_is_a_start() -> None:
    student = convert(
        teacher(), "tensorf", CONFIGS["tensorf"], Budget(steps=120), replace(SETTINGS, start="head")
    )
    assert fidelity(student)["psnr_db"] > 20.0


def test_losses_vanish_at_the_teacher_and_only_there() -> None:
    samples = _samples()
    latent = teacher().latent(samples.u)
    sigma, rgb = teacher().sigma_of(latent), teacher().rgb_of(latent, samples.d)
    footprint = RayFootprint.from_density(sigma, samples)
    color, opacity = footprint.render(rgb), footprint.row_sums()
    behind = torch.rand(samples.rays, 3)
    assert not alpha_error(sigma, sigma, samples.dt).any()
    assert point_loss(rgb, rgb, footprint.weights) == 0
    assert ray_loss(sigma, rgb, samples, color, opacity, behind) < 1e-10
    assert alpha_error(sigma + 5.0, sigma, samples.dt).mean() > 1e-4
    assert ray_loss(sigma * 0.2, rgb, samples, color, opacity, behind) > 1e-4


def test_alpha_error_ignores_what_no_image_shows() -> None:
    dense, denser = torch.tensor([4000.0]), torch.tensor([9000.0])
    assert alpha_error(dense, denser, torch.tensor([0.005])) < 1e-8
