"""The trainings of benchmarks/students.py: which there are, how each is done, and their table."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from converting.machine import machine
from pages import DOCS, write_between_markers

from detecting.strengths import strengths
from detecting.table import TUNED, report
from geodistill import config
from geodistill.cli.train import SHIPPED
from geodistill.fit.detector.recipe import Recipe
from geodistill.nn.detector_files import load_detector, save_detector
from geodistill.nn.detector_kinds import new_detector
from geodistill.runs import cache_root
from geodistill.runs.environment import cores
from geodistill.runs.files import atomic_write

PAGE, SECTION = DOCS / "detector_benchmarks.md", "students"
RESULTS = Path(__file__).parent.parent / "results" / "detector.jsonl"
LOCK = threading.Lock()
FRAMES, VAL_SHARE, FRESH = 1300, 0.2308, 300
EPOCHS, LONGER = 8, 12
SEEDS, MORE_SEEDS, SINGLE_SEED = (3, 4, 5), (7, 8), 1
TEACHER, AT_RANDOM, RANDOM = "teacher", "random teacher", "random.safetensors"
Losses = list[dict[str, Any]]
CACHED: dict[str, Losses] = {
    "pillars_small": [
        *({"loss": "hint", "tap": f"backbone.stages.{k}"} for k in range(3)),
        *({"loss": "hint", "tap": tap} for tap in ("encoder", "head.logits")),
        {"loss": "logits"},
    ],
    "second_small": [{"loss": "hint", "tap": f"backbone.stages.{k}"} for k in range(2)],
}
"""Losses at the taps of teachers that are stored; other maps are made of the backbone's."""


def fading(*losses: dict[str, Any]) -> Losses:
    """Whose weights fall to 0 at the end of the training."""
    return [{**one, "until": 1.0} for one in losses]


LOGITS = {"loss": "logits", "classes": 10, "codes": 4}
ENCODER = {"loss": "point_distiller", "samples": 512, "weight": 3}
NECK = {**ENCODER, "tap": "neck", "samples": 128, "importance": "head", "weight": 0.5}
SAID = {**ENCODER, "tap": "head.logits", "samples": 128, "weight": 1}
METHODS: dict[str, Losses] = {
    "none": [],
    "hint": fading({"loss": "hint", "weight": 5}),
    "attention": fading({"loss": "attention", "weight": 2}),
    "CWD": fading({"loss": "channels", "weight": 9}),
    "SparseKD": [*fading(LOGITS), {"loss": "assignment"}],
    "PointDistiller": fading(ENCODER),
    "PointDistiller and logits": fading(ENCODER, LOGITS),
    "logits": fading(LOGITS),
    AT_RANDOM: fading(ENCODER),
}
"""Maps are learnt at a fifth of the weight at which `--weights` says that a loss pulls as strongly
as the labels; PointDistiller's and the heads' weights are larger than that."""
TRIED: dict[str, Losses] = {
    "hint, five times": fading({"loss": "hint", "weight": 23}),
    "hint, all cells": fading({"loss": "hint", "weight": 6, "reach": None}),
    "attention, all cells": fading({"loss": "attention", "weight": 5, "reach": None}),
    "CWD, all cells": fading({"loss": "channels", "weight": 2.4, "reach": None}),
    "logits, half": fading({**LOGITS, "weight": 0.5}),
    "PointDistiller, trained layers": [
        {"loss": "point_distiller", "projection": "trained", "tau": 0.01}
    ],
    "PointDistiller, also at the neck and the head": fading(ENCODER, NECK, SAID),
    "PointDistiller, also at the neck and the head, and logits": fading(
        ENCODER, NECK, SAID, LOGITS
    ),
    "PointDistiller and logits, twice": fading(ENCODER, {**LOGITS, "weight": 2}),
}
"""Other strengths and forms of these: of the smallest students, with the seed on which methods are
tuned. Trained layers have the published temperature and weight, with fewer graphs."""
OTHERS = (
    *(("similarity", 260), ("crd", 0.07), ("ofd", 0.46), ("ab", 0.36), ("mgd", 15)),
    *(("fgd", 0.21), ("vcd", 0.018), ("nst", 0.6), ("fsp", 10), ("kd", 0.009)),
    *(("gid", 0.9), ("nd", 2.6), ("pld", 0.29), ("ofa", 0.17), ("acam", 3.6), ("clock", 0.084)),
)
"""Weights of what is about maps at the same fifth; of what is about objects, as strong as the
labels."""
SINGLE: dict[str, Losses] = {
    "PointDistiller, as released": [{"loss": "point_distiller", "compat": "reference"}],
    **{name: fading({"loss": name, "weight": weight}) for name, weight in OTHERS},
}
"""With one seed."""
CLOSE = ("none", "PointDistiller", "PointDistiller and logits", "logits")
"""What the smallest students learn with the seed on which methods were tuned, beside `TRIED`."""
LATER: dict[str, Losses] = {
    "PointDistiller and SparseKD": [*fading(ENCODER, LOGITS), {"loss": "assignment"}]
}
"""Of the smallest students, with the last of the main seeds, as SparseKD alone did well there."""
AGAIN = ("none", "PointDistiller", "PointDistiller and logits")
"""What the smallest students learn with `MORE_SEEDS` too, as three leave wide intervals."""
LONG = ("none", "PointDistiller and logits")
"""What they also learn for longer, with the seeds of the main methods and of the other losses."""
SECOND: dict[str, Losses] = {
    "none": [],
    "PointDistiller": fading(
        {"loss": "point_distiller", "tap": "backbone.stages.0", "samples": 256},
        {"loss": "point_distiller", "tap": "backbone.stages.1", "samples": 256},
    ),
}


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        recipe: of the detector.
        method: a key of `METHODS`; or "teacher", of the recipe without compression.
        seed: of its weights and of its batches.
        epochs: over the scans to learn from.
    """

    recipe: str
    method: str
    seed: int
    losses: Losses = field(default_factory=list, compare=False)
    epochs: int = EPOCHS

    @property
    def name(self) -> str:
        longer = "" if self.epochs == EPOCHS else f", {self.epochs} epochs"
        return f"{self.recipe}{longer}/{self.method}/{self.seed}"

    @property
    def cached(self) -> bool:
        """Whether it is taught what a cache has: a teacher at random makes its own batches."""
        return bool(self.losses) and self.method != AT_RANDOM

    @property
    def stored(self) -> Path:
        """Where a teacher is, for students to have the same on all machines."""
        return RESULTS.with_name(f"{self.recipe}_teacher.safetensors")

    @property
    def folder(self) -> str:
        return re.sub(r"[^a-zA-Z0-9]+", "_", self.name)


def teacher_of(recipe: str) -> Cell:
    """pillars_small for pillars_small_16x"""
    return Cell(re.sub(r"_\d+x$", "", recipe), TEACHER, 0)


def cells() -> list[Cell]:
    """Students, in the order in which they are trained."""
    small, large, one = "pillars_small_16x", "pillars_small_4x", SINGLE_SEED
    found = []
    for seed in SEEDS:
        found += [Cell(small, name, seed, own) for name, own in METHODS.items()]
        found += [Cell(large, name, seed, own) for name, own in METHODS.items() if name != "logits"]
    found += [Cell(small, name, one, own) for name, own in {"none": [], **SINGLE}.items()]
    found += [Cell(small, name, SEEDS[-1], own) for name, own in LATER.items()]
    found += [Cell(small, name, seed, METHODS[name]) for seed in MORE_SEEDS for name in AGAIN]
    found += [
        Cell(small, name, seed, METHODS[name], LONGER) for seed in (one, *SEEDS) for name in LONG
    ]
    found += [Cell(small, name, TUNED, METHODS[name]) for name in CLOSE]
    found += [Cell(small, name, TUNED, own) for name, own in TRIED.items()]
    return [*found, *(Cell("second_small_4x", name, one, own) for name, own in SECOND.items())]


def main() -> int:
    parser = argparse.ArgumentParser(description="Train students on simulated streets.")
    parser.add_argument("--only", default="", help="a pattern of RECIPE/METHOD/SEED")
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--work", type=Path, default=cache_root() / "benchmarks" / "detector")
    parser.add_argument(
        "--weights", action="store_true", help="print how strong each loss is beside the labels"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the batches of a seed, up to 39 GB, when done"
    )
    parser.add_argument(
        "--report", action="store_true", help="print and write the tables, and train nothing"
    )
    options = parser.parse_args()
    if options.weights:
        print(weights(Work(options.work)))
        return 0
    if not options.report:
        train(Work(options.work), options.only, options.jobs, options.keep)
    text = tables()
    print(text)
    write_between_markers(PAGE, SECTION, text)
    return 0


def weights(work: Work) -> str:
    """How strong each loss is, of a student that has learnt nothing and of one that labels alone
    have taught, which is trained if need be; on a few batches, which stay."""
    taught = Cell("pillars_small_16x", "none", SINGLE_SEED)
    teacher = teacher_of(taught.recipe)
    work.simulate()
    if not work.has(taught):
        work.train(taught)
    work.cache(teacher, SINGLE_SEED, epochs=1)
    several = {**METHODS, **TRIED, **SINGLE}.values()
    losses = [one for own in several for one in own]
    return strengths(work.root, SINGLE_SEED, teacher.stored, losses)


def tables() -> str:
    """Of what is recorded."""
    every = cells()
    return report(records(), len({*every, *(teacher_of(one.recipe) for one in every)}))


def train(work: Work, only: str, jobs: int, keep: bool) -> None:
    """Train the cells whose name has a pattern and that are not done: first the teachers, beside
    students who need none of these, and then by sets of batches, each made for its cells and, if
    not kept, removed after them."""
    done = {record["cell"] for record in records()}
    wanted = [one for one in cells() if re.search(only, one.name) and one.name not in done]
    if not wanted:
        return
    taught = [one for one in wanted if one.cached]
    teachers = dict.fromkeys(teacher_of(one.recipe) for one in taught)
    missing = [one for one in teachers if not one.stored.is_file()]
    work.simulate()
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(work.train, [*missing, *(one for one in wanted if not one.cached)]))
    for teacher, seed in dict.fromkeys((teacher_of(one.recipe), one.seed) for one in taught):
        mine = [one for one in taught if (teacher_of(one.recipe), one.seed) == (teacher, seed)]
        work.cache(teacher, seed, max(one.epochs for one in mine))
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(work.train, mine))
        if not keep:
            shutil.rmtree(work.batches(teacher, seed))


def records() -> list[dict[str, Any]]:
    if not RESULTS.is_file():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def _keep(record: dict[str, Any]) -> None:
    """In the place of an earlier record of its cell."""
    with LOCK:
        others = [one for one in records() if one["cell"] != record["cell"]]
        lines = [json.dumps(one) + "\n" for one in (*others, record)]
        RESULTS.parent.mkdir(exist_ok=True)
        atomic_write(RESULTS, "".join(lines).encode())
    print(f"{record['cell']}: {record['score']:.2f} in {record['seconds']} s", flush=True)


@dataclass(frozen=True)
class Work:
    """The folder of data, batches and runs."""

    root: Path

    @property
    def data(self) -> Path:
        """What is learnt from, and methods were tuned on."""
        return self.root / "streets"

    @property
    def fresh(self) -> Path:
        """What students are measured on."""
        return self.root / "fresh"

    def batches(self, teacher: Cell, seed: int) -> Path:
        return self.root / f"{teacher.recipe}_batches_{seed}"

    def has(self, cell: Cell) -> bool:
        return (self.root / cell.folder / "DONE").is_file()

    def simulate(self) -> None:
        """The data set, and a teacher that has learnt nothing."""
        self.root.mkdir(parents=True, exist_ok=True)
        for out, frames, held, seed in (
            (self.data, FRAMES, VAL_SHARE, 0),
            (self.fresh, FRESH, 1, 1),
        ):
            geodistill(
                *("simulate", "lidar", "-o", out, "--seed", seed),
                *("--frames", frames, "--val-share", held),
                threads=0,
            )
        random = self.root / RANDOM
        if not random.is_file():
            torch.manual_seed(1)
            recipe = config.load(Recipe, SHIPPED / "detector" / "pillars_small.yaml")
            save_detector(random, new_detector(recipe.detector))

    def cache(self, teacher: Cell, seed: int, epochs: int) -> None:
        """The batches of a seed, with what the teacher makes of them."""
        file = self._recipe(
            f"{teacher.recipe}_cached", teacher.recipe, CACHED[teacher.recipe], epochs
        )
        geodistill(
            *("cache", file, "--data", self.data, "--teacher", teacher.stored),
            *("--seed", seed, "-o", self.batches(teacher, seed)),
            threads=0,
        )

    def train(self, cell: Cell) -> None:
        own = teacher_of(cell.recipe)
        file = self._recipe(cell.folder, cell.recipe, cell.losses, cell.epochs)
        teacher = self.root / RANDOM if cell.method == AT_RANDOM else own.stored
        started = time.time()
        trained = geodistill(
            *("train", file, "--data", self.data, "--seed", cell.seed),
            *("-o", self.root / cell.folder),
            *(("--cache", self.batches(own, cell.seed)) if cell.cached else ()),
            *(("--teacher", teacher) if cell.losses else ()),
            *(("--overwrite",) if self.has(cell) else ()),
            threads=1,
        )
        seconds = round(time.time() - started)
        if cell.method == TEACHER:
            self._store(cell)
        model = cell.stored if cell.method == TEACHER else self.root / cell.folder
        found = geodistill("eval", model, "--data", self.fresh, "--split", "val")
        on = machine()
        _keep(
            {
                "cell": cell.name,
                "parameters": trained["parameters"],
                "seconds": seconds,
                "date": time.strftime("%Y-%m-%d"),
                "cpu": on["cpu"],
                "torch": on["torch"],
                "score": found["score"],
                "values": {key: round(found[key], 3) for key in found if "/AP40/" in key},
            }
        )

    def _store(self, teacher: Cell) -> None:
        """Keep it for all machines, in half precision but for norms."""
        detector = load_detector(self.root / teacher.folder)
        for values in detector.parameters():
            if values.dim() > 1:
                values.data = values.data.half()
        save_detector(teacher.stored, detector)

    def _recipe(self, name: str, recipe: str, losses: Losses, epochs: int) -> Path:
        """A shipped recipe with other losses, and shorter."""
        file = self.root / f"{name}.yaml"
        own = config.read_yaml(SHIPPED / "detector" / f"{recipe}.yaml")
        changed = {**own, "epochs": epochs, "losses": losses}
        file.write_text(config.to_yaml(changed), encoding="utf-8")
        return file


def geodistill(*arguments: Any, threads: int = 1) -> dict[str, Any]:
    """What a command gives; on so many threads, 0: all."""
    environment = dict(os.environ)
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, "-m", "geodistill", *map(str, arguments), "--json"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])
