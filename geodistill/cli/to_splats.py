"""The work of `geodistill convert --to splats`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from geodistill import config as configs
from geodistill.checks import UsageError
from geodistill.cli.convert import SHEET, default_output, source_scene
from geodistill.cli.options import asked_budget
from geodistill.distill.splats import SMALL, SplatConfig, check_config, to_splats
from geodistill.geometry.splats import Splats, save_splats
from geodistill.io.splats import FORMATS
from geodistill.metrics.fidelity import compare
from geodistill.runs import Run, file_digest, output_paths
from geodistill.shade.viewable import viewable

if TYPE_CHECKING:
    from geodistill.cli.convert import Arguments

INSIDE = "splats.ply"


def run(arguments: Arguments) -> dict[str, Any]:
    _expect_no_fields_options(arguments)
    base = SMALL if arguments.size == "small" else SplatConfig()
    config = configs.load(SplatConfig, None, arguments.set, base=base)
    check_config(config)
    scene, source = source_scene(arguments)
    if isinstance(scene, Splats):
        raise UsageError(f"{source} holds splats already: `export` writes them in another format")
    writable = [ending for ending, one in FORMATS.items() if one.write is not None]
    out = arguments.output or default_output(arguments.source, arguments.to)
    folder, file = output_paths(out, INSIDE, writable)
    if file.resolve() == source.resolve():
        raise UsageError(f"{file} is what is to be converted: choose another -o")
    budget = asked_budget(arguments)
    with Run.open(
        folder,
        "convert",
        arguments.settings(),
        arguments.overwrite,
        outputs=[file],
        inputs={"SRC": file_digest(source)},
    ) as opened:
        start = time.perf_counter()
        splats = to_splats(scene, config, budget, arguments.seed, opened)
        seconds = time.perf_counter() - start
        save_splats(opened.staged(file), splats)
        judged = compare(viewable(scene), viewable(splats), resolution=config.resolution)
        result = {
            "output": str(out),
            **judged.report,
            "seconds": seconds,
            "splats": len(splats),
            "bytes": opened.staged(file).stat().st_size,
        }
        if arguments.sheet:
            judged.save_sheet(opened.path(SHEET))
            result["sheet"] = str(folder / SHEET)
        opened.finish(result)
    return result


def _expect_no_fields_options(arguments: Arguments) -> None:
    """Raise UsageError for what splats are not made with."""
    given = {
        "--recipe": arguments.recipe != "default",
        "--active": bool(arguments.active),
        "--data": arguments.data is not None,
    }
    for option, present in given.items():
        if present:
            raise UsageError(f"{option} is for fields, splats are made without: leave it out")
