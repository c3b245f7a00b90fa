"""The work of `geodistill fit --as splats`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from geodistill import config as configs
from geodistill.checks import UsageError
from geodistill.cli.fit import DEFAULT_BUDGET_S, held_out_views
from geodistill.cli.options import asked_budget
from geodistill.fit.photographs import pinholes
from geodistill.fit.posed_splats import SplatFitSettings, expect_srgb, fit_splats
from geodistill.fit.splat_config import (
    SMALL,
    SplatFitConfig,
    StrategyName,
    check_config,
    check_count,
)
from geodistill.geometry.points import Points, points_digest
from geodistill.geometry.splats import save_splats
from geodistill.io.posed import load_posed_images
from geodistill.io.sparse_points import read_sparse_points
from geodistill.io.splats import expect_one_file, writable_endings
from geodistill.metrics.fidelity import psnr_to_images, shown_on
from geodistill.runs import Run, output_paths
from geodistill.shade.viewable import viewable
from geodistill.train import Budget

if TYPE_CHECKING:
    from geodistill.cli.fit import Arguments

INSIDE = "splats.ply"


def run(arguments: Arguments) -> dict[str, Any]:
    assert arguments.output is not None
    base = SMALL if arguments.size == "small" else SplatFitConfig()
    config = configs.load(SplatFitConfig, None, arguments.set, base=base)
    check_config(config)
    settings = SplatFitSettings(seed=arguments.seed, background=arguments.background)
    if arguments.strategy is not None:
        settings = replace(settings, strategy=arguments.strategy)
    _expect_own_settings(arguments, settings.strategy)
    if arguments.max_splats is not None:
        settings = replace(settings, max_splats=arguments.max_splats)
    check_count("--max-splats", settings.max_splats)
    folder, file = output_paths(arguments.output, INSIDE, writable_endings())
    expect_one_file(file)
    taken = load_posed_images(arguments.dataset, "train")
    expect_srgb(taken)
    shown = shown_on(taken, arguments.background)
    found = _points(arguments)
    inputs = {"DATASET": taken.digest(), **({"its points": points_digest(found)} if found else {})}
    images = pinholes(taken)
    held_out = held_out_views(arguments.dataset)
    held_out = pinholes(held_out) if held_out else None
    with Run.open(
        folder,
        "fit",
        arguments.settings(),
        arguments.overwrite,
        outputs=[file],
        inputs=inputs,
    ) as opened:
        budget = asked_budget(arguments) or Budget(seconds=DEFAULT_BUDGET_S)
        splats = fit_splats(images, config, budget, settings, found, opened, arguments.device)
        trained = budget.elapsed()
        save_splats(opened.staged(file), splats)
        scene = viewable(splats.to(arguments.device))
        score = psnr_to_images(scene, held_out, shown) if held_out else None
        result = {
            "output": str(arguments.output),
            "test_psnr_db": score,
            "seconds": trained,
            "splats": len(splats),
            "parameters": splats.parameter_count(),
            "bytes": opened.staged(file).stat().st_size,
        }
        opened.finish(result)
    return result


def _points(arguments: Arguments) -> Points | None:
    """The sparse points of the data set, where it has some."""
    found = read_sparse_points(arguments.dataset)
    if found is None:
        return None
    colors = F.pad(torch.from_numpy(found.colors), (0, 1), value=255)
    return Points(torch.from_numpy(found.positions), colors)


def _expect_own_settings(arguments: Arguments, strategy: StrategyName) -> None:
    """Raise UsageError for a setting of the strategy that is not used."""
    other = "mcmc" if strategy == "default" else "default"
    for given in arguments.set:
        if given.startswith(f"{other}."):
            raise UsageError(
                f"--set {given} is of --strategy {other}, this is {strategy}: leave it out"
            )
