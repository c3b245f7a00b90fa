"""Convert a teacher field into a student of any architecture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from geodistill.checks import InputError, UsageError, choose
from geodistill.convert.cache import MOST_RAYS, VISIBLE_WEIGHT, TeacherCache, survey
from geodistill.convert.initial import initialise
from geodistill.convert.latents import expect_teachable, translator
from geodistill.distill.pvd.stages import PvdJob, PvdSettings
from geodistill.distill.pvd.transfer import TransferJob, TransferSettings, suited
from geodistill.geometry.fields import ARCHITECTURES, Field, build_field
from geodistill.geometry.fields.decoder import PLAIN, DecodedField
from geodistill.geometry.fields.heads import LatentField
from geodistill.log import say
from geodistill.runs import Run
from geodistill.train import Budget, train

RECIPES = ("default", "pvd")

PVD_STEPS = 30_000
SURVEY_SHARE = 0.1
"""Share of a budget of seconds for which the teacher may be asked for more rays than usual."""
GROW_FROM = 80
"""Steps from which a budget is long enough to train factors from coarse to fine."""


@dataclass(frozen=True)
class ConvertSettings:
    """How to convert, apart from the student's architecture and the budget."""

    recipe: str = "default"
    """"default" or "pvd"."""
    active: tuple[str, ...] = ()
    """PVD-AL's levels for the pvd recipe: any of cameras, rays, points."""
    seed: int = 0
    """Of viewpoints, the student's random parameters and batches."""
    cache_rays: int | None = None
    """Teacher rays in the cache; what suits the architecture and the budget when None."""
    start: Literal["closed-form", "head"] = "closed-form"
    """What a student starts from: the closed form, or no more than the teacher's colour head."""
    visible_weight: float = VISIBLE_WEIGHT
    """Contribution to a ray from which a cell counts as seen."""
    transfer: TransferSettings = field(default_factory=TransferSettings)
    """The default recipe's weights and phases."""
    pvd: PvdSettings = field(default_factory=PvdSettings)
    """The pvd recipe's numbers."""


def default_budget(student: Field, teacher: Field, recipe: str) -> Budget:
    """The step count that a conversion takes when no budget is given."""
    return Budget(steps=PVD_STEPS if recipe == "pvd" else suited(student, teacher).steps)


def convert(
    teacher: Field,
    architecture: str,
    config: Any,
    budget: Budget | None = None,
    settings: ConvertSettings | None = None,
    run: Run | None = None,
) -> Field:
    """Distil a teacher into a student; no images are needed.

    Args:
        teacher: any field; it is frozen and stays so.
        architecture: the student's, a key of `geometry.fields.ARCHITECTURES`.
        config: an instance of its config class.
        budget: steps or seconds of training; the architecture's default when None.
        settings: recipe, seed and weights.
        run: a run folder for checkpoints and metrics; an interrupted one is continued.

    Returns:
        The student, in the teacher's frame, with its cameras.

    Raises:
        UsageError: unknown recipe or architecture, active levels without the pvd recipe, or a start
            that the student cannot have.
        InputError: the teacher is empty, or training diverged.
    """
    settings = settings or ConvertSettings()
    choose("field architecture", architecture, ARCHITECTURES)
    if settings.recipe not in RECIPES:
        raise UsageError(f"unknown recipe '{settings.recipe}'; known: {', '.join(RECIPES)}")
    if settings.active and settings.recipe != "pvd":
        raise UsageError("--active belongs to --recipe pvd: add it or leave --active out")
    if settings.start == "head" and architecture == "plenoxels":
        raise UsageError("start=head is for students with a colour head: plenoxels have none")
    expect_teachable(getattr(config, "decoder", PLAIN))
    teacher.requires_grad_(False).eval()
    student = build_field(architecture, config, settings.seed)
    student.copy_scene_from(teacher)
    budget = budget or default_budget(student, teacher, settings.recipe)
    if settings.recipe == "pvd":
        survey(teacher, 1, settings.seed)  # refuses an empty teacher
        job = PvdJob(student, teacher, settings.pvd, settings.seed, settings.active)
        train(job, budget, run, f"{teacher.architecture} to {architecture} (pvd)")
        return student
    try:
        job = _default_job(student, teacher, settings, budget)
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
        raise InputError(
            f"the {teacher.architecture} field cannot be converted: its values are enormous, as "
            "after a training that diverged"
        ) from None
    say(f"start: {job.held_out_psnr():.2f} dB to the teacher on held-out rays")
    train(job, budget, run, f"{teacher.architecture} to {architecture}")
    job.complete()
    return student


def _default_job(
    student: Field, teacher: Field, settings: ConvertSettings, budget: Budget
) -> TransferJob:
    """The teacher's cache, the student's start, and the job that trains it."""
    cache = _survey(student, teacher, settings, budget)
    student.occupancy = cache.occupancy.clone()
    lit = cache.lit
    rgb, d, weights = cache.rgb[lit], cache.samples.d[lit], cache.weights[lit]
    decoder = getattr(student.config, "decoder", PLAIN)
    translate = translator(teacher, cache.latent, rgb, d, weights, decoder)
    warm = False
    if settings.start == "closed-form":
        warm = initialise(student, teacher, cache, translate)
    else:
        assert isinstance(student, LatentField | DecodedField) and student.color_head is not None
        student.color_head.load_state_dict(translate.color_head.state_dict())
    led = isinstance(student, LatentField | DecodedField) and not warm
    latents = translate(cache.latent) if led else None
    grow = budget.steps is None or budget.steps >= GROW_FROM
    return TransferJob(student, cache, settings.transfer, settings.seed, warm, latents, grow)


def _survey(
    student: Field, teacher: Field, settings: ConvertSettings, budget: Budget
) -> TeacherCache:
    """As many rays as suit the student, and more where a long budget would overfit these."""
    suits, seconds = suited(student, teacher), 0.0
    rays = settings.cache_rays or suits.cache_rays
    if settings.cache_rays is None:
        rays = max(rays, min(MOST_RAYS, rays * (budget.steps or 0) // suits.steps))
        seconds = SURVEY_SHARE * (budget.seconds or 0.0)
    return survey(
        teacher, rays, settings.seed, visible_weight=settings.visible_weight, seconds=seconds
    )
