"""The trainings of benchmarks/students.py: which there are, how each is done, and their table."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from detecting.strengths import strengths
from detecting.table import table
from geodistill import config
from geodistill.cli.train import SHIPPED
from geodistill.fit.detector.recipe import Recipe
from geodistill.nn.detector_files import save_detector
from geodistill.nn.detector_kinds import new_detector
from geodistill.runs import cache_root

RESULTS = Path(__file__).parent.parent / "results" / "detector.jsonl"
FRAMES, VAL_SHARE = 1300, 0.2308
SEEDS = (0, 1, 2)
TEACHER, RANDOM = "teacher", "random"
STAGES = tuple(f"backbone.stages.{k}" for k in range(3))

Losses = list[dict[str, Any]]
METHODS: dict[str, Losses] = {
    "none": [],
    "hint": [{"loss": "hint"}],
    "attention": [{"loss": "attention"}],
    "CWD": [{"loss": "channels"}],
    "SparseKD": [{"loss": "logits"}, {"loss": "assignment"}],
    "PointDistiller": [{"loss": "point_distiller"}],
    "PointDistiller, as published": [
        {"loss": "point_distiller", "projection": "trained", "tau": 0.01}
    ],
    "random teacher": [{"loss": "point_distiller"}],
}
SINGLE: dict[str, Losses] = {
    name: [{"loss": name}]
    for name in (
        *("similarity", "crd", "ofd", "ab", "mgd", "fgd", "vcd", "nst", "fsp", "kd"),
        *("gid", "nd", "pld", "ofa", "acam", "clock"),
    )
}
"""The other losses, for one seed."""


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        recipe: of the student.
        method: a key of `METHODS`.
        seed: of its weights and of its batches.
    """

    recipe: str
    method: str
    seed: int
    losses: Losses = field(default_factory=list, compare=False)

    @property
    def name(self) -> str:
        return f"{self.recipe}/{self.method}/{self.seed}"

    @property
    def folder(self) -> str:
        return re.sub(r"[^a-zA-Z0-9]+", "_", self.name)


def cells() -> list[Cell]:
    found = []
    for seed in SEEDS:
        for recipe in ("pillars_small_16x", "pillars_small_4x"):
            found += [Cell(recipe, name, seed, losses) for name, losses in METHODS.items()]
    return [*found, *(Cell("pillars_small_16x", name, 0, own) for name, own in SINGLE.items())]


def main() -> int:
    parser = argparse.ArgumentParser(description="Train students on simulated streets.")
    parser.add_argument("--only", default="", help="a pattern of RECIPE/METHOD/SEED")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--work", type=Path, default=cache_root() / "benchmarks" / "detector")
    parser.add_argument(
        "--weights", action="store_true", help="print how strong each loss is beside the labels"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the batches of a seed, 15 GB, when it is done"
    )
    parser.add_argument("--report", action="store_true", help="print the table and train nothing")
    options = parser.parse_args()
    if options.weights:
        print(strengths(options.work, {**METHODS, **SINGLE}))
        return 0
    if not options.report:
        work = Work(options.work)
        done = {record["cell"] for record in records()}
        wanted = [cell for cell in cells() if re.search(options.only, cell.name)]
        for seed in SEEDS:
            mine = [cell for cell in wanted if cell.seed == seed and cell.name not in done]
            if not mine:
                continue
            work.prepare(seed)
            with ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(work.train, mine))
            if not options.keep:
                shutil.rmtree(work.batches(seed))
    print(table(records()))
    return 0


def records() -> list[dict[str, Any]]:
    if not RESULTS.is_file():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True)
class Work:
    """The folder of data, batches and runs."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "streets"

    def batches(self, seed: int) -> Path:
        return self.root / f"seed_{seed}"

    def prepare(self, seed: int) -> None:
        """The data set, the teacher, and the batches of a seed with what the teacher's backbone
        makes of them."""
        self.root.mkdir(parents=True, exist_ok=True)
        geodistill(
            *("simulate", "lidar", "-o", self.data),
            *("--frames", FRAMES, "--val-share", VAL_SHARE),
            threads=0,
        )
        if not (self.root / TEACHER / "DONE").is_file():
            self._run(TEACHER, "pillars_small", 0, [], TEACHER)
        file = self._recipe("stages", "pillars_small", [{"loss": "hint", "tap": x} for x in STAGES])
        geodistill(
            *("cache", file, "--data", self.data, "--teacher", self.root / TEACHER),
            *("--seed", seed, "-o", self.batches(seed)),
            threads=0,
        )
        random = self.root / "random.safetensors"
        if not random.is_file():
            torch.manual_seed(1)
            recipe = config.load(Recipe, SHIPPED / "detector" / "pillars_small.yaml")
            save_detector(random, new_detector(recipe.detector))

    def train(self, cell: Cell) -> None:
        self._run(cell.name, cell.recipe, cell.seed, cell.losses, cell.folder)

    def _run(self, name: str, recipe: str, seed: int, losses: Losses, folder: str) -> None:
        file = self._recipe(folder, recipe, losses)
        cache = self.batches(seed)
        teacher = self.root / (f"{RANDOM}.safetensors" if RANDOM in name else TEACHER)
        started = time.time()
        found = geodistill(
            *("train", file, "--data", self.data, "--seed", seed, "-o", self.root / folder),
            *(("--cache", cache) if cache.is_dir() and teacher.name == TEACHER else ()),
            *(("--teacher", teacher) if losses else ()),
            *(("--overwrite",) if (self.root / folder / "DONE").exists() else ()),
            threads=1,
        )
        record = {
            "cell": name,
            "score": found["score"],
            "parameters": found["parameters"],
            "seconds": round(time.time() - started),
            "date": time.strftime("%Y-%m-%d"),
            "torch": torch.__version__,
            "values": {key: round(found[key], 3) for key in found if "/AP40/" in key},
        }
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as file_:
            file_.write(json.dumps(record) + "\n")
        print(f"{name}: {found['score']:.2f} in {record['seconds']} s", flush=True)

    def _recipe(self, name: str, recipe: str, losses: Losses) -> Path:
        """A shipped recipe with other losses."""
        file = self.root / f"{name}.yaml"
        own = config.read_yaml(SHIPPED / "detector" / f"{recipe}.yaml")
        file.write_text(config.to_yaml({**own, "losses": losses}), encoding="utf-8")
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
