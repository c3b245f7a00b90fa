"""`geodistill compare`: how alike two representations of one scene are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from geodistill.checks import UsageError
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import (
    BACKGROUND_HELP,
    Background,
    Machine,
    expect_count,
    expect_data,
    expect_free,
    expect_seed,
    prepare,
)
from geodistill.cli.report import fidelity


@dataclass(frozen=True, kw_only=True)
class Arguments(Machine):
    """Measure how alike two representations of one scene are, from seeded viewpoints around it or
    on the test views of a data set.
    """

    a: Annotated[Path, Positional("the reference: a field, splats, a mesh or points", metavar="A")]
    b: Annotated[Path, Positional("what is compared with it", metavar="B")]
    data: Annotated[
        Path | None, Option("posed images; their test views are used", metavar="DATASET")
    ] = None
    background: Annotated[Background, Option("with --data: " + BACKGROUND_HELP)] = "auto"
    views: Annotated[int | None, Option("number of viewpoints without --data (default: 20)")] = None
    resolution: Annotated[
        int | None,
        Option("their pixels along the longer side (default: 200; of splats 400 is fair)"),
    ] = None
    seed: Annotated[int | None, Option("their seed (default: 0)")] = None
    output: Annotated[
        Path | None,
        Option(
            "contact sheet (A | B | difference)", short="-o", metavar="SHEET.png", setting=False
        ),
    ] = None

    overwrite: Annotated[bool, Option("replace a contact sheet", setting=False)] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_seed(self.seed or 0)
        expect_count("views", self.views)
        expect_count("resolution", self.resolution)
        if self.data is not None and self.viewpoints():
            raise UsageError("--views, --resolution and --seed are for viewpoints without --data")
        expect_data(self.data, self.background)
        if self.output is not None and self.output.suffix.lower() != ".png":
            raise UsageError(f"-o {self.output}: the contact sheet is a PNG, name it NAME.png")

    def viewpoints(self) -> dict[str, int]:
        """What was said of them."""
        said = {"views": self.views, "resolution": self.resolution, "seed": self.seed}
        return {name: value for name, value in said.items() if value is not None}


def run(arguments: Arguments) -> dict[str, Any]:
    prepare(arguments)
    from geodistill.fit.photographs import pinholes
    from geodistill.geometry.fields import field_path
    from geodistill.io.posed import load_posed_images
    from geodistill.metrics.fidelity import compare, compare_on_views, shown_on
    from geodistill.render.viewable import FieldView
    from geodistill.render.viewpoints import expect_in_view
    from geodistill.shade.viewable import load_viewable

    expect_free(arguments.overwrite, arguments.output)
    a = load_viewable(arguments.a, arguments.device)
    b = load_viewable(arguments.b, arguments.device)
    if arguments.data is not None:
        images = load_posed_images(arguments.data, "test")
        if not all(isinstance(one, FieldView) for one in (a, b)):
            images = pinholes(images)  # no other scene is drawn through a lens that distorts
        expect_in_view(a, images.cameras, arguments.data)
        judged = compare_on_views(a, b, images, shown_on(images, arguments.background))
    else:
        judged = compare(a, b, **arguments.viewpoints())
    result = dict(judged.report)
    result["bytes"] = field_path(arguments.b).stat().st_size
    result["output"] = None
    if arguments.output is not None:
        judged.save_sheet(arguments.output)
        result["output"] = str(arguments.output)
    return result


def report(result: dict[str, Any]) -> str:
    return fidelity(result)
