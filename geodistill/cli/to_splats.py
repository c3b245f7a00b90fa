"""The work of `geodistill convert --to splats`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geodistill import config as configs
from geodistill.checks import UsageError
from geodistill.cli.conversion import (
    Made,
    converted,
    expect_no_field_options,
    load_source,
    place_of,
)
from geodistill.cli.options import asked_budget
from geodistill.distill.splats import SMALL, SplatConfig, check_config, to_splats
from geodistill.geometry.points import Points
from geodistill.geometry.splats import Splats, save_splats
from geodistill.io.splats import expect_one_file, writable_endings
from geodistill.metrics.fidelity import compare
from geodistill.runs import Run
from geodistill.shade.viewable import viewable

if TYPE_CHECKING:
    from geodistill.cli.convert import Arguments

INSIDE = "splats.ply"


def run(arguments: Arguments) -> dict[str, Any]:
    base = SMALL if arguments.size == "small" else SplatConfig()
    config = configs.load(SplatConfig, None, arguments.set, base=base)
    check_config(config)
    scene, source = load_source(arguments)
    expect_no_field_options(arguments, trained=not isinstance(scene, Points))
    if isinstance(scene, Splats):
        raise UsageError(f"{source} holds splats already: `export` writes them in another format")
    budget = asked_budget(arguments)
    place = place_of(arguments, source, INSIDE, writable_endings())
    expect_one_file(place.file)

    def make(opened: Run) -> Made:
        splats = to_splats(scene, config, budget, arguments.seed, opened)
        return Made(
            lambda path: save_splats(path, splats),
            lambda: compare(viewable(scene), viewable(splats), resolution=config.resolution),
            {"splats": len(splats)},
        )

    return converted(arguments, place, make)
