"""`geodistill view`: a scene in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import Axis, Machine, expect_free, prepare
from geodistill.cli.report import pairs
from geodistill.cli.serving import Served, serve


@dataclass(frozen=True, kw_only=True)
class Arguments(Served, Machine):
    """Show a scene in the browser: a mesh, points, splats or a radiance field."""

    source: Annotated[Path, Positional("a field, splats, a mesh or points", metavar="X")]
    up: Annotated[
        Axis | None,
        Option(
            "axis that points up, as --up z or --up=-y (default: what the file says, or a guess)"
        ),
    ] = None
    overwrite: Annotated[bool, Option("replace the file of --save", setting=False)] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect_address()


def run(arguments: Arguments) -> dict[str, Any]:
    prepare(arguments)
    from geodistill.runs import result_file
    from geodistill.shade.viewable import load_viewable
    from geodistill.viewer.page import load_page, save_html
    from geodistill.viewer.scene import describe

    page = load_page()  # before any work
    if arguments.save is not None:
        expect_free(arguments.overwrite, inputs=(arguments.source,), save=arguments.save)
    source = result_file(arguments.source)
    scene = load_viewable(source, arguments.device)
    description = describe(scene, source, arguments.up)
    if arguments.save is not None:
        size = save_html(arguments.save, description)
        return {"output": str(arguments.save), "kind": description.kind, "bytes": size}
    from geodistill.viewer.guard import make_token
    from geodistill.viewer.server import Exhibit

    exhibit = Exhibit(page, scene, description, make_token(), arguments.host)
    return {"kind": description.kind, "seconds": serve(arguments, exhibit)}


def report(result: dict[str, Any]) -> str:
    return pairs(result)
