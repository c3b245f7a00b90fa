"""`geodistill convert`: any radiance field to any other."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from geodistill.checks import InputError, UsageError
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import (
    BACKGROUND_HELP,
    Architecture,
    Background,
    Student,
    asked_budget,
    expect_data,
    prepare,
    stem_of,
    student_config,
)
from geodistill.cli.report import fidelity

if TYPE_CHECKING:
    from geodistill.geometry.fields import Field
    from geodistill.geometry.mesh import Mesh
    from geodistill.geometry.points import Points
    from geodistill.geometry.splats import Splats

Target = Literal["ngp", "tensorf", "tensorf-cp", "plenoxels", "mlp", "composite", "splats"]
BUNDLED = Path(__file__).parent.parent / "assets" / "bundled_ngp.safetensors"
SHEET = "contact_sheet.png"


@dataclass(frozen=True, kw_only=True)
class Arguments(Student):
    """Turn a radiance field, splats, a mesh or points into a field of any architecture or into
    splats. No images are needed. Without SRC, a small field that comes with geodistill is
    converted.
    """

    source: Annotated[
        Path | None, Positional("a field, splats, a mesh, points, or a run folder", metavar="SRC")
    ] = None
    teacher: Annotated[
        Architecture | None,
        Option("architecture that SRC must have (default: any)", name="from"),
    ] = None
    to: Annotated[Target, Option("architecture to make, or splats")]
    recipe: Annotated[Literal["default", "pvd"], Option("how to distil")] = "default"
    active: Annotated[
        tuple[Literal["cameras", "rays", "points"], ...],
        Option("active learning levels of the pvd recipe", metavar="cameras,rays,points"),
    ] = ()
    data: Annotated[
        Path | None,
        Option("posed images whose test views the result is compared on", metavar="DATASET"),
    ] = None
    background: Annotated[Background, Option("with --data: " + BACKGROUND_HELP)] = "auto"
    sheet: Annotated[bool, Option("do not write the contact sheet", setting=False)] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_data(self.data, self.background)


def run(arguments: Arguments) -> dict[str, Any]:
    prepare(arguments)
    if arguments.to == "splats":
        from geodistill.cli.to_splats import run as to_splats

        return to_splats(arguments)
    from geodistill.convert.splat_field import volume_of
    from geodistill.distill.pvd import ConvertSettings, convert
    from geodistill.geometry.fields import Field, save_field
    from geodistill.io.posed import load_posed_images
    from geodistill.metrics.fidelity import compare, compare_on_views, shown_on
    from geodistill.render.viewpoints import expect_in_view
    from geodistill.runs import Run, file_digest, output_paths
    from geodistill.shade.viewable import viewable

    config = student_config(arguments, arguments.to)
    scene, source = source_scene(arguments)
    teacher = scene if isinstance(scene, Field) else volume_of(scene, arguments.seed)
    looked_at = viewable(scene)
    images = load_posed_images(arguments.data, "test") if arguments.data else None
    if images is not None:
        expect_in_view(teacher, images.cameras, arguments.data)
        expect_color_space(teacher.color_space, images.color_space, arguments.data)
        shown = shown_on(images, arguments.background)
    folder, file = output_paths(arguments.output or default_output(arguments.source, arguments.to))
    if file.resolve() == source.resolve():
        raise UsageError(f"{file} is what is to be converted: choose another -o")
    settings = ConvertSettings(arguments.recipe, arguments.active, arguments.seed)
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
        student = convert(teacher, arguments.to, config, budget, settings, opened)
        seconds = time.perf_counter() - start
        save_field(student, opened.staged(file))
        if images is None:
            judged = compare(looked_at, student)
        else:
            judged = compare_on_views(looked_at, student, images, shown)
        result = {
            "output": str(arguments.output or folder),
            **judged.report,
            "seconds": seconds,
            "bytes": opened.staged(file).stat().st_size,
        }
        if arguments.sheet:
            judged.save_sheet(opened.path(SHEET))
            result["sheet"] = str(folder / SHEET)
        opened.finish(result)
    return result


def source_scene(arguments: Arguments) -> tuple[Field | Splats | Mesh | Points, Path]:
    """What is to be converted, and the file that it is in. Raises UsageError where --from names
    something else."""
    from geodistill.geometry.fields import Field, field_path
    from geodistill.geometry.kinds import kind_of
    from geodistill.shade.viewable import load_scene

    path = arguments.source or BUNDLED
    kind = kind_of(path)
    if kind != "field" and arguments.teacher is not None:
        raise UsageError(f"--from names an architecture of fields, {path} is a {kind}")
    scene = load_scene(path, arguments.device)
    if not isinstance(scene, Field):
        return scene, path
    if arguments.teacher not in (None, scene.architecture):
        raise UsageError(
            f"{arguments.source or 'the bundled field'} is {scene.architecture}, not "
            f"{arguments.teacher}: leave --from out or name the architecture it has"
        )
    return scene, field_path(path)


def report(result: dict[str, Any]) -> str:
    return fidelity(result)


def default_output(source: Path | None, to: str) -> Path:
    """`lego_ngp_tensorf` in the current folder for lego_ngp, lego_ngp.safetensors or lego_ngp/x."""
    return Path(f"{'bundled' if source is None else stem_of(source)}_{to}")


def expect_color_space(field: str, images: str, dataset: Path | None) -> None:
    """Raise InputError, before the work, for images whose colours cannot be compared."""
    if field != images:
        raise InputError(f"{dataset} holds {images} colours, and the field {field} ones")
