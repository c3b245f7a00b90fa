"""`geodistill fit`: a radiance field or splats from posed images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from geodistill.checks import UsageError
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import (
    BACKGROUND_HELP,
    Background,
    Student,
    asked_budget,
    expect_format_holds,
    field_endings,
    prepare,
    student_config,
)
from geodistill.cli.report import fidelity

if TYPE_CHECKING:
    from geodistill.io.posed import PosedImages

DEFAULT_BUDGET_S = 600.0
Fitted = Literal["ngp", "tensorf", "tensorf-cp", "plenoxels", "mlp", "composite", "splats"]


@dataclass(frozen=True, kw_only=True)
class Arguments(Student):
    """Train a radiance field or Gaussian splats from posed images: a folder in NeRF-synthetic
    (Blender), nerfstudio, instant-ngp or COLMAP layout. It takes 10 minutes, unless --budget or
    --steps says otherwise. OUT is a run folder or a file of any format that holds the result:
    NAME.ply, NAME.spz, ... for splats.
    """

    dataset: Annotated[
        Path, Positional("folder or transforms.json of posed images", metavar="DATASET")
    ]
    architecture: Annotated[Fitted, Option("architecture to train, or splats", name="as")]
    background: Annotated[Background, Option(BACKGROUND_HELP)] = "auto"
    strategy: Annotated[
        Literal["default", "mcmc"] | None,
        Option("how splats multiply: density control as in 3DGS, or MCMC (default: default)"),
    ] = None
    max_splats: Annotated[
        int | None,
        Option("most splats that there may be, from 16 to 10 million (default: 100,000)"),
    ] = None

    def trains_on_gpu(self) -> bool:
        return self.architecture == "splats"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output is None:
            raise UsageError("--output is required: fit DATASET --as NAME -o OUT")
        given = {"--strategy": self.strategy, "--max-splats": self.max_splats}
        for option, value in given.items():
            if value is not None and self.architecture != "splats":
                raise UsageError(f"{option} is for --as splats: leave it out")


def run(arguments: Arguments) -> dict[str, Any]:
    prepare(arguments)
    if arguments.architecture == "splats":
        from geodistill.cli.fit_splats import run as fit_splats

        return fit_splats(arguments)
    return _fit_field(arguments)


def _fit_field(arguments: Arguments) -> dict[str, Any]:
    from geodistill.fit.field import FitSettings, fit
    from geodistill.geometry.fields import save_field
    from geodistill.io.posed import load_posed_images
    from geodistill.metrics.fidelity import psnr_to_images, shown_on
    from geodistill.runs import Run, output_paths
    from geodistill.train import Budget

    assert arguments.output is not None
    config = student_config(arguments, arguments.architecture)
    folder, file = output_paths(arguments.output, endings=field_endings())
    images = load_posed_images(arguments.dataset, "train")
    expect_format_holds(arguments, arguments.architecture, config, color_space=images.color_space)
    shown = shown_on(images, arguments.background)
    held_out = held_out_views(arguments.dataset)
    with Run.open(
        folder,
        "fit",
        arguments.settings(),
        arguments.overwrite,
        outputs=[file],
        inputs={"DATASET": images.digest()},
    ) as opened:
        budget = asked_budget(arguments) or Budget(seconds=DEFAULT_BUDGET_S)
        settings = FitSettings(seed=arguments.seed, background=arguments.background)
        field = fit(images, arguments.architecture, config, budget, settings, opened)
        trained = budget.elapsed()
        save_field(field, opened.staged(file))
        result = {
            "output": str(arguments.output),
            "test_psnr_db": psnr_to_images(field, held_out, shown) if held_out else None,
            "seconds": trained,
            "parameters": field.parameter_count(),
            "bytes": opened.staged(file).stat().st_size,
        }
        opened.finish(result)
    return result


def held_out_views(dataset: Path) -> PosedImages | None:
    """The held-out views; None, with a line, where the data set has none."""
    from geodistill.io.posed import load_posed_images
    from geodistill.io.splits import NoSuchSplit
    from geodistill.log import say

    try:
        return load_posed_images(dataset, "test")
    except NoSuchSplit:
        say(f"{dataset} holds no test views: how good the fit is will not be measured")
        return None


def report(result: dict[str, Any]) -> str:
    return fidelity(result)
