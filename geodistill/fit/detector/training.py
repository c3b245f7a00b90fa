"""A detector trained by a recipe on a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from geodistill import dist
from geodistill.checks import InputError, UsageError
from geodistill.detect.datasets import Dataset
from geodistill.fit.detector.batches import Feed, objects_of
from geodistill.fit.detector.job import DetectorJob, Guide, Validation
from geodistill.fit.detector.recipe import Recipe
from geodistill.nn.detector import Detector
from geodistill.nn.detector_files import NAME, save_detector
from geodistill.nn.synced import synced
from geodistill.runs import Run
from geodistill.train import Budget, train


def train_detector(
    recipe: Recipe,
    dataset: Dataset,
    run: Run | None = None,
    device: str = "cpu",
    guide_of: Callable[[Detector], Guide] | None = None,
) -> tuple[Detector, dict[str, Any]]:
    """Train a detector; an interrupted run is continued.

    Args:
        recipe: what and how.
        dataset: with the splits that the recipe names.
        run: where checkpoints, metrics.jsonl, best.safetensors and detector.safetensors go.
        device: where it is trained.
        guide_of: of the new detector, what a teacher adds to its loss.

    Returns:
        The detector that is kept, in eval mode, and the metric's values on the val split.

    Raises InputError where no box of the detector's classes is in the training scans, or where
    training diverges.
    """
    if recipe.batch % dist.world():
        raise UsageError(f"a batch of {recipe.batch} cannot be shared by {dist.world()} ranks")
    torch.manual_seed(recipe.seed)
    detector = Detector(recipe.detector).to(device)
    synced(detector)
    guide = guide_of(detector) if guide_of is not None else None
    frames, held_out = dataset.frames(recipe.train), dataset.frames(recipe.val)
    objects = objects_of(dataset, frames, detector.classes)
    if not any(objects.values()):
        names = ", ".join(detector.classes)
        raise InputError(
            f"{dataset.root}: no object of the classes {names} has a point in the {len(frames):,} "
            f"scans of '{recipe.train}'"
        )
    feed = Feed(
        dataset,
        frames,
        detector.classes,
        recipe.detector.grid,
        recipe.augmentation,
        objects if recipe.augmentation is not None else {},
        recipe.batch,
        recipe.seed,
        dist.rank(),
        dist.world(),
    )
    steps = feed.steps(recipe.epochs)
    every = recipe.measure_every * len(frames) // recipe.batch
    validation = Validation(dataset, held_out, every)
    job = DetectorJob(
        *(detector, feed, steps, recipe.cycle, recipe.mean, recipe.workers),
        guide=guide,
        validation=validation,
        run=run,
    )
    train(job, Budget(steps=steps), run, f"{recipe.detector.architecture}")
    job.complete()
    if run is not None:
        save_detector(run.path(NAME), job.shadow)
    return job.shadow.eval(), job.values
