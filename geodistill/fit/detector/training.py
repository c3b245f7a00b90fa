"""A detector trained by a recipe on a data set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from geodistill import dist, log
from geodistill.checks import InputError, UsageError
from geodistill.detect.datasets import Dataset
from geodistill.fit.detector.batches import Census, Feed, batch_of, census
from geodistill.fit.detector.job import DetectorJob, Guide, Validation
from geodistill.fit.detector.recipe import Recipe
from geodistill.fit.detector.stored import Store, store_key
from geodistill.log import progress
from geodistill.metrics.detectors import Report, expect_measurable
from geodistill.nn.detector import Detector
from geodistill.nn.detector_files import NAME, save_detector
from geodistill.nn.detector_kinds import new_detector
from geodistill.nn.synced import synced
from geodistill.runs import Run
from geodistill.train import Budget, train


def train_detector(
    recipe: Recipe,
    dataset: Dataset,
    run: Run | None = None,
    device: str = "cpu",
    guide_of: Callable[[Detector], Guide] | None = None,
    cache: Path | None = None,
) -> tuple[Detector, Report | None]:
    """Train a detector; an interrupted run is continued.

    Args:
        recipe: what and how.
        dataset: with the splits that the recipe names.
        run: where checkpoints, metrics.jsonl, best.safetensors and detector.safetensors go.
        device: where it is trained.
        guide_of: of the new detector, what a teacher adds to its loss.
        cache: folder of batches that `cache_batches` has made by the same recipe.

    Returns:
        The detector that is kept, in eval mode, and its measure on the val split (rank 0).

    Raises:
        UsageError: a cache of other settings or teachers, or one that several ranks would share.
        InputError: no box of the detector's classes is in the training scans, or training diverges.
    """
    if cache is not None and dist.world() > 1:
        raise UsageError("a cache holds whole batches: leave --cache out where ranks share them")
    detector = start_detector(recipe, device)
    guide = guide_of(detector) if guide_of is not None else None
    held_out = dataset.frames(recipe.val)
    if dist.rank() == 0:
        expect_measurable(dataset, held_out)
    feed = make_feed(recipe, dataset, detector)
    store, steps = None, feed.steps(recipe.epochs)
    if cache is None:
        feed = with_objects(feed)
    else:
        store = _store(cache, feed, detector, guide)
        store.expect(steps)
    every = -(-recipe.measure_every * len(feed.frames) // recipe.batch)
    job = DetectorJob(
        *(detector, feed, steps, recipe),
        guide=guide,
        validation=Validation(dataset, held_out, every),
        run=run,
        store=store,
    )
    with worker_errors(), contextlib.closing(job):
        train(job, Budget(steps=steps), run, recipe.detector.architecture)
    job.complete()
    if run is not None:
        save_detector(run.path(NAME), job.shadow)
    return job.shadow.eval(), job.report


@contextlib.contextmanager
def worker_errors() -> Iterator[None]:
    """Raise InputError where a process that prepares scans was ended: torch interrupts whatever
    goes on to say so, and a batch that was being handed over breaks off."""
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        if "ancdata" in str(error):  # how torch is told that a descriptor was not received
            raise InputError(
                "processes that prepare scans need more open files than are allowed: raise the "
                "limit (ulimit -Hn), or start with fewer workers"
            ) from None
        if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker (pid"):
            raise
        raise InputError(
            "a process that prepares scans was ended from outside (out of memory?): start the "
            "command again, with fewer workers if they need too much: it goes on from its last "
            "checkpoint"
        ) from None


def cache_batches(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    device: str = "cpu",
    guide_of: Callable[[Detector], Guide] | None = None,
) -> tuple[int, int]:
    """Store all batches of a recipe, and what its teachers put out for them; what is there is kept.

    Returns:
        How many steps there are, and how many were written now.

    Raises UsageError for a folder that holds something else, or into which another process writes.
    """
    detector = start_detector(recipe, device)
    guide = guide_of(detector) if guide_of is not None else None
    feed = make_feed(recipe, dataset, detector)
    store = _store(folder, feed, detector, guide)
    lock = store.open()
    try:
        detector.train()
        steps = feed.steps(recipe.epochs)
        if all(store.has(step) for step in range(steps)):
            return steps, 0
        feed = with_objects(feed)
        written = 0
        with progress(steps, "batches") as bar:
            for step in range(steps):
                if not store.has(step):
                    batch = batch_of(detector, feed, step, feed.examples(step))
                    store.write(step, batch, [] if guide is None else guide.outputs(batch))
                    written += 1
                bar.advance()
        return steps, written
    finally:
        store.close(lock)


def _store(folder: Path, feed: Feed, detector: Detector, guide: Guide | None) -> Store:
    key = store_key(feed, detector)
    if guide is None:
        return Store(folder, key)
    return Store(folder, key, guide.teachers_seen(), guide.taps_seen())


def start_detector(recipe: Recipe, device: str) -> Detector:
    """With the weights of the recipe's seed."""
    if recipe.batch % dist.world():
        raise UsageError(f"a batch of {recipe.batch} cannot be shared by {dist.world()} ranks")
    torch.manual_seed(recipe.seed)
    detector = new_detector(recipe.detector).to(device)
    synced(detector)
    return detector


def make_feed(recipe: Recipe, dataset: Dataset, detector: Detector) -> Feed:
    """The scans of a recipe, with nothing to be pasted into them; see `with_objects`."""
    frames = dataset.frames(recipe.train)
    if recipe.batch > recipe.epochs * len(frames):
        raise UsageError(
            f"a batch of {recipe.batch} is more than {recipe.epochs} x {len(frames)} scans, all "
            "that there is to learn from: set a smaller one"
        )
    return Feed(
        *(dataset, frames, detector.classes, detector.area, recipe.augmentation, {}),
        *(recipe.batch, recipe.seed, dist.rank(), dist.world()),
    )


def with_objects(feed: Feed) -> Feed:
    """With the objects that are pasted, which are cut out of the scans.

    Raises InputError where none of the classes is in these.
    """
    changes = feed.augmentation
    pasting = () if changes is None else changes.pasting(feed.classes)
    names = [one.name for one in pasting if one.count > 0]
    found = census(feed.dataset, feed.frames, feed.classes, feed.area, names)
    _expect_objects(found, feed)
    return replace(feed, objects=found.pasted)


def _expect_objects(found: Census, feed: Feed) -> None:
    """Raise InputError where no object can be learnt, UsageError for a class that labels have in
    other letters; say which classes there is nothing of."""
    where = f"the {found.scans:,} scans to learn from"
    for name in feed.classes:
        for other in sorted(found.named - {name}):
            if other.lower() == name.lower():
                raise UsageError(f"the class {name} is {other} in labels of {where}: name it alike")
    labelled = f"labelled are {', '.join(sorted(found.named)) or 'none'}"
    count = sum(found.known.values())
    if not count:
        raise InputError(
            f"no object of the classes {', '.join(feed.classes)} can be learnt in {where}: "
            f"{labelled}, and an object needs a point in it"
        )
    if not found.inside:
        low_x, low_y, high_x, high_y = feed.area
        raise InputError(
            f"none of the {count:,} objects in {where} is in the detector's area, x from "
            f"{low_x:g} to {high_x:g} m and y from {low_y:g} to {high_y:g} m: set detector.grid, "
            "of PointRCNN detector.low and detector.high"
        )
    for name in (one for one in feed.classes if not found.known[one]):
        log.say(f"no object of the class {name} can be learnt in {where}: {labelled}")
