"""Measuring one cell: fit a teacher, convert it, or fit until a converted student is reached."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from converting.cells import Cell
from converting.machine import Stopwatch, machine
from converting.remake import remade, save_scene
from converting.store import Store, digest
from geodistill import config as configs
from geodistill import runs
from geodistill.cameras import Camera
from geodistill.checks import InputError
from geodistill.distill.pvd import ConvertSettings, convert
from geodistill.fit.field import FitJob, FitSettings, fit
from geodistill.geometry.fields import Field, build_field, load_field, save_field
from geodistill.geometry.fields.files import FIELD_FILE
from geodistill.io.posed import PosedImages, load_posed_images
from geodistill.metrics.fidelity import compare, compare_on_views, psnr_to_images
from geodistill.render.fields import render_view
from geodistill.runs import Run, atomic_write
from geodistill.shade.viewable import load_scene, viewable
from geodistill.train import Budget, train

FIRST_LOOK = 0.5
"""A run from scratch is first looked at after this part of its conversion's time,"""
NEXT_LOOK = 1.25
"""and then whenever its own time has grown by this factor."""
LOOKS, LOOK_SIZE = 0.5, 2
"""Views that a remake is judged on, for each test view, and their size relative to those: the 400
pixels that splats are trained at."""
AS_GOOD_DB = 0.1
"""Teachers of one recipe within so much of each other are taken for the same."""
WARM_UP = 0.1
"""Size of the picture that is rendered before a clock starts, relative to the test views."""


def measure(cell: Cell, store: Store) -> dict[str, Any]:
    """Do what the cell says and keep the record.

    Raises:
        InputError: the scene is missing or what is needed was not measured.
        UsageError: this version of the package lacks a setting that the cell names.
    """
    start = time.perf_counter()
    fingerprint = store.fingerprint(cell)
    store.folder.mkdir(parents=True, exist_ok=True)
    gc.collect()
    # The first optimiser of a process imports a compiler; no clock shall see that.
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    kinds = {
        "fit": _measure_fit,
        "convert": _measure_conversion,
        "remake": _measure_remake,
        "scratch": _measure_scratch,
    }
    result = {
        "title": cell.title,
        "cell": cell.identity(),
        "fingerprint": fingerprint,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        **kinds[cell.kind](cell, store),
        "cell_seconds": time.perf_counter() - start,
    }
    known = store.record(cell)
    if cell.kind == "fit" and known is not None:
        result = _same_teacher(known, result)
    store.save(cell, result)
    return result


def _same_teacher(known: dict[str, Any], again: dict[str, Any]) -> dict[str, Any]:
    """The record of a teacher that was fitted again, since its field was gone: the known one, with
    a note, if both are as good."""
    if abs(known["truth_psnr_db"] - again["truth_psnr_db"]) > AS_GOOD_DB:
        return again
    noted = {key: again[key] for key in ("date", "machine", "truth_psnr_db", "field_digest")}
    return {**{key: known[key] for key in known if key != "stale"}, "fitted_again": noted}


def fit_settings_of(cell: Cell) -> FitSettings:
    """The settings of a fit or a run from scratch."""
    return replace(configs.load(FitSettings, None, cell.overrides), seed=cell.seed)


def settings_of(cell: Cell) -> ConvertSettings:
    """The settings of a conversion.

    Raises:
        UsageError: an override names a setting that does not exist.
    """
    settings = configs.load(ConvertSettings, None, cell.overrides)
    return replace(settings, recipe=cell.recipe, active=cell.active, seed=cell.seed)


def _measure_fit(cell: Cell, store: Store) -> dict[str, Any]:
    folder = store.path(cell, ".run")
    done = runs.result(folder)
    if done is not None and store.stands(cell, done):
        return done  # the last attempt was killed just before its record was written
    train_views, test_views = (images(store.scenes / cell.scene, s) for s in ("train", "test"))
    with Run.open(folder, "fit", cell.identity(), overwrite=True) as run:
        budget = budget_of(cell, store)
        assert budget is not None
        settings = fit_settings_of(cell)
        with Stopwatch() as watch:
            field = fit(
                train_views, cell.target.architecture, cell.target.config, budget, settings, run
            )
        file = run.path(FIELD_FILE)
        save_field(field, file)
        result = {
            **watch.record(),
            "seconds": watch.seconds if not run.resumed else budget.elapsed(),
            "resumed": run.resumed,
            "truth_psnr_db": psnr_to_images(field, test_views),
            "parameters": field.parameter_count(),
            "bytes": file.stat().st_size,
            "field_digest": digest(file.read_bytes()),
        }
        run.finish(result)
    return result


def _measure_conversion(cell: Cell, store: Store) -> dict[str, Any]:
    teacher = _teacher(cell, store)
    test_views = images(store.scenes / cell.scene, "test")
    budget = budget_of(cell, store)
    student, watch = _converted(cell, teacher, budget, test_views.cameras[0])
    file = store.made(cell)
    save_field(student, file)
    judged = compare_on_views(teacher, student, test_views)
    judged.save_sheet(store.path(cell, ".png"))
    report = judged.report
    return {
        **watch.record(),
        **{key: report[key] for key in ("psnr_db", "ssim", "opacity_iou", "depth_error")},
        "teacher_truth_psnr_db": report["truth_psnr_db_a"],
        "truth_psnr_db": report["truth_psnr_db_b"],
        "parameters": student.parameter_count(),
        "teacher_parameters": teacher.parameter_count(),
        "bytes": file.stat().st_size,
        "budget_seconds": budget.seconds if budget else None,
    }


def _measure_remake(cell: Cell, store: Store) -> dict[str, Any]:
    """Of a mesh, points, splats, or into one of these; points are only a source, and not judged."""
    assert cell.teacher is not None
    source = load_scene(store.made(cell.teacher, _needed(cell.teacher, store)))
    test_views = images(store.scenes / cell.scene, "test")
    if isinstance(source, Field):
        render_view(source, test_views.cameras[0].scaled(WARM_UP))
    with Stopwatch() as watch:
        made = remade(source, cell, settings_of(cell))
    file = store.made(cell)
    save_scene(made, file)
    result = {
        **watch.record(),
        "parameters": viewable(made).parameter_count(),
        "bytes": file.stat().st_size,
        "field_digest": digest(file.read_bytes()),
    }
    if cell.target.architecture == "points":
        return result
    views, side = int(LOOKS * len(test_views.cameras)), LOOK_SIZE * max(test_views.cameras.size)
    judged = compare(viewable(source), viewable(made), views, side)
    judged.save_sheet(store.path(cell, ".png"))
    figures = ("psnr_db", "ssim", "opacity_iou", "depth_error")
    return {**result, **{key: judged.report[key] for key in figures}}


def _converted(
    cell: Cell, teacher: Field, budget: Budget | None, camera: Camera
) -> tuple[Field, Stopwatch]:
    """The student of a conversion, and what it took."""
    settings = settings_of(cell)
    render_view(teacher, camera.scaled(WARM_UP))
    with Stopwatch() as watch:
        student = convert(teacher, cell.target.architecture, cell.target.config, budget, settings)
    return student, watch


def _conversion_seconds(cell: Cell, store: Store, camera: Camera) -> float:
    """What the conversion takes that a run from scratch is compared with, timed now: the machine
    may be faster or slower than when it was measured.

    A run that goes on after an interruption keeps the first answer.
    """
    assert cell.reference is not None
    file = store.path(cell, ".json")
    if not file.is_file():
        teacher, budget = _teacher(cell.reference, store), budget_of(cell.reference, store)
        _, watch = _converted(cell.reference, teacher, budget, camera)
        store.folder.mkdir(parents=True, exist_ok=True)
        atomic_write(file, json.dumps(watch.seconds).encode())
    return float(json.loads(file.read_text()))


def _measure_scratch(cell: Cell, store: Store) -> dict[str, Any]:
    """Fit until the test views are as good as the converted student's, or time is up."""
    assert cell.reference is not None and cell.limit is not None
    reference = _needed(cell.reference, store)
    train_views, test_views = (images(store.scenes / cell.scene, s) for s in ("train", "test"))
    taken = _conversion_seconds(cell, store, test_views.cameras[0])
    budget = Budget(seconds=cell.limit.amount * taken)
    assert budget.seconds is not None
    folder = store.path(cell, ".run")
    goal = {"psnr_db": reference["truth_psnr_db"], "budget_seconds": budget.seconds}
    config = {**cell.identity(), **goal}
    with Run.open(folder, "scratch", config, overwrite=True) as run, Stopwatch() as watch:
        start = time.perf_counter()
        field = build_field(cell.target.architecture, cell.target.config, cell.seed)
        job = WatchedFit(
            field,
            train_views,
            fit_settings_of(cell),
            budget=budget,
            look=lambda seen: psnr_to_images(seen, test_views),
            first=FIRST_LOOK * taken,
            goal=goal["psnr_db"],
        )
        setup = time.perf_counter() - start
        steps = train(job, budget, run, f"scratch {cell.target.name}")
        job.last_look(steps)
    return {
        **watch.record(),
        "resumed": run.resumed,
        "setup_seconds": setup,
        "conversion_seconds": taken,
        "goal_psnr_db": goal["psnr_db"],
        "budget_seconds": goal["budget_seconds"],
        "curve": job.curve,
        "ended": "goal" if job.reached else "limit",
    }


class WatchedFit(FitJob):
    """A fit whose clock stands still while its test views are rendered or a checkpoint is written.

    Attributes:
        curve: (seconds of training, steps, PSNR to the test images) at geometric points in time.
    """

    def __init__(
        self,
        field: Field,
        data: PosedImages,
        settings: FitSettings,
        budget: Budget,
        look: Callable[[Field], float],
        first: float,
        goal: float,
    ) -> None:
        super().__init__(field, data, settings)
        self.budget, self.look, self.next_look, self.goal = budget, look, first, goal
        self.curve: list[tuple[float, int, float]] = []
        self._stopped: float | None = None

    @property
    def reached(self) -> bool:
        return bool(self.curve) and self.curve[-1][2] >= self.goal

    def finished(self, step: int) -> bool:
        """Called by `train` ahead of every step."""
        if self._stopped is not None:
            self.budget.restart(self._stopped)
            self._stopped = None
        if self.budget.elapsed() >= self.next_look:
            self._look(self.budget.elapsed(), step)
        return self.reached

    def last_look(self, step: int) -> None:
        """After `train`: judge what the whole schedule led to."""
        if not self.reached:
            assert self.budget.seconds is not None
            self._look(self.budget.seconds, step)

    def _look(self, now: float, step: int) -> None:
        self.curve.append((now, step, self.look(self.field)))
        while self.next_look <= now:
            self.next_look *= NEXT_LOOK
        self.budget.restart(now)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self._stopped = self.budget.elapsed()
        tensors, extra = super().state()
        return tensors, {**extra, "curve": self.curve, "next_look": self.next_look}

    def load(self, tensors: dict[str, Tensor], extra: dict[str, Any]) -> None:
        super().load(tensors, extra)
        self.curve = [(t, step, psnr) for t, step, psnr in extra["curve"]]
        self.next_look = extra["next_look"]


def budget_of(cell: Cell, store: Store) -> Budget | None:
    """The budget that the cell's limit means now."""
    if cell.limit is None:
        return None
    if cell.limit.unit == "steps":
        return Budget(steps=int(cell.limit.amount))
    if cell.limit.unit == "seconds":
        return Budget(seconds=cell.limit.amount)
    assert cell.reference is not None
    return Budget(seconds=cell.limit.amount * _needed(cell.reference, store)["seconds"])


@lru_cache(maxsize=4)
def images(scene: Path, split: str) -> PosedImages:
    if not scene.is_dir():
        raise InputError(f"there is no scene {scene}: run python benchmarks/scenes.py first")
    return load_posed_images(scene, split)


def _teacher(cell: Cell, store: Store) -> Field:
    assert cell.teacher is not None
    return load_field(store.made(cell.teacher, _needed(cell.teacher, store)))


def _needed(cell: Cell, store: Store) -> dict[str, Any]:
    record = store.record(cell)
    if record is None:
        raise InputError(f"'{cell.title}' must be measured first")
    return record
