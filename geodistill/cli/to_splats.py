"""The work of `geodistill convert --to splats`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geodistill import config as configs
from geodistill.checks import UsageError
from geodistill.cli.conversion import (
    Made,
    converted,
    expect_no_field_options,
    load_teacher,
    place_of,
    source_of,
)
from geodistill.cli.options import asked_budget
from geodistill.distill.splats import SMALL, SplatConfig, check_config, to_splats
from geodistill.geometry.fields import Field, field_path
from geodistill.geometry.kinds import kind_of
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.mesh_files import load_mesh
from geodistill.geometry.points import Points, load_points
from geodistill.geometry.splats import save_splats
from geodistill.io.splats import FORMATS
from geodistill.metrics.fidelity import compare
from geodistill.runs import Run
from geodistill.shade.viewable import viewable

if TYPE_CHECKING:
    from geodistill.cli.convert import Arguments

INSIDE = "splats.ply"


def run(arguments: Arguments) -> dict[str, Any]:
    expect_no_field_options(arguments, trained=True)
    base = SMALL if arguments.size == "small" else SplatConfig()
    config = configs.load(SplatConfig, None, arguments.set, base=base)
    check_config(config)
    scene, source = _scene(arguments), source_of(arguments)
    writable = [ending for ending, one in FORMATS.items() if one.write is not None]
    source = field_path(source) if isinstance(scene, Field) else source
    budget = asked_budget(arguments)

    def make(opened: Run) -> Made:
        splats = to_splats(scene, config, budget, arguments.seed, opened)
        return Made(
            lambda path: save_splats(path, splats),
            lambda: compare(viewable(scene), viewable(splats), resolution=config.resolution),
            {"splats": len(splats)},
        )

    return converted(arguments, place_of(arguments, source, INSIDE, writable), make)


def _scene(arguments: Arguments) -> Field | Mesh | Points:
    source = source_of(arguments)
    kind = kind_of(source)
    if kind == "splats":
        raise UsageError(f"{source} holds splats already: `export` writes them in another format")
    if kind != "field" and arguments.teacher is not None:
        raise UsageError(f"--from names an architecture of fields, {source} is a {kind}")
    if kind == "mesh":
        return load_mesh(source)
    if kind == "points":
        return load_points(source)
    return load_teacher(arguments)
