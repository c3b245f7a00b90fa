"""What `precision: bfloat16` of a recipe saves of a step."""

from __future__ import annotations

import time
from functools import partial

import torch
from rows import Row, medians

from detecting.streets import simulated_batch
from geodistill import config
from geodistill.cli.train import SHIPPED
from geodistill.fit.detector.recipe import Recipe
from geodistill.nn.anchor_detector import AnchorDetector
from geodistill.nn.detector_kinds import new_detector
from geodistill.nn.precision import Precision, computing

RECIPES = ("pillars_small", "pillars_small_4x", "pillars_small_16x")
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
TIMES = 7


def rows() -> list[Row]:
    torch.set_num_threads(1)
    return [_row(name) for name in RECIPES]


def _row(name: str) -> Row:
    recipe = config.load(Recipe, SHIPPED / "detector" / f"{name}.yaml")
    detector = new_detector(recipe.detector).train()
    assert isinstance(detector, AnchorDetector)
    batch = simulated_batch(detector, recipe.batch)

    def step(precision: Precision) -> None:
        with computing(precision, detector.device):
            predictions = detector(batch.inputs)
        parts = list(detector.losses(predictions, batch.targets).values())
        torch.stack(parts).sum().backward()

    forms = {one: partial(step, one) for one in PRECISIONS}
    full, half = medians(forms, TIMES, time.process_time).values()
    return Row(
        f"{name}'s step in bfloat16 over float32, batch {recipe.batch}",
        f"{half / full:.2f} ({half:.2f} over {full:.2f} CPU-s)",
    )
