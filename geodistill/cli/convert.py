"""`geodistill convert`: any scene to any field, to splats or to a mesh."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from geodistill.checks import InputError
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.conversion import Made, converted, load_source, place_of
from geodistill.cli.options import (
    BACKGROUND_HELP,
    Architecture,
    Background,
    Student,
    asked_budget,
    expect_data,
    expect_format_holds,
    field_endings,
    prepare,
    student_config,
)
from geodistill.cli.report import fidelity

Target = Literal["ngp", "tensorf", "tensorf-cp", "plenoxels", "mlp", "composite", "splats", "mesh"]


@dataclass(frozen=True, kw_only=True)
class Arguments(Student):
    """Turn a radiance field, splats, a mesh or points into a field of any architecture or into
    splats, and fields and splats into a mesh. No images are needed. Without SRC, a small field
    that comes with geodistill is converted.
    """

    source: Annotated[
        Path | None,
        Positional("a field or its run folder, splats, a mesh, points", metavar="SRC"),
    ] = None
    teacher: Annotated[
        Architecture | None,
        Option("architecture that SRC must have (default: any)", name="from"),
    ] = None
    to: Annotated[Target, Option("architecture to make, or splats, or mesh")]
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
    if arguments.to == "mesh":
        from geodistill.cli.to_mesh import run as to_mesh

        return to_mesh(arguments)
    return _to_field(arguments)


def _to_field(arguments: Arguments) -> dict[str, Any]:
    from geodistill.convert.splat_field import volume_of
    from geodistill.distill.pvd import ConvertSettings, convert
    from geodistill.distill.splats import SplatConfig
    from geodistill.fit.photographs import pinholes
    from geodistill.geometry.fields import Field, save_field
    from geodistill.geometry.splats import Splats
    from geodistill.io.posed import load_posed_images
    from geodistill.metrics.fidelity import compare, compare_on_views, shown_on
    from geodistill.render.viewpoints import expect_in_view
    from geodistill.runs import Run
    from geodistill.shade.viewable import viewable

    config = student_config(arguments, arguments.to)
    scene, source = load_source(arguments)
    teacher = scene if isinstance(scene, Field) else volume_of(scene, arguments.seed)
    expect_format_holds(arguments, arguments.to, config, teacher=teacher)
    looked_at = viewable(scene)
    # Splats that are drawn smaller than what they were trained on are wider than they are.
    looks = {"resolution": SplatConfig().resolution} if isinstance(scene, Splats) else {}
    images = load_posed_images(arguments.data, "test") if arguments.data else None
    if images is not None and not isinstance(scene, Field):
        images = pinholes(images)  # no other scene is drawn through a lens that distorts
    if images is not None:
        expect_in_view(teacher, images.cameras, arguments.data)
        expect_color_space(teacher.color_space, images.color_space, arguments.data)
        shown = shown_on(images, arguments.background)
    place = place_of(arguments, source, "field.safetensors", field_endings())
    settings = ConvertSettings(arguments.recipe, arguments.active, arguments.seed)
    budget = asked_budget(arguments)

    def make(opened: Run) -> Made:
        student = convert(teacher, arguments.to, config, budget, settings, opened)
        return Made(
            lambda path: save_field(student, path),
            lambda: (
                compare(looked_at, student, **looks)
                if images is None
                else compare_on_views(looked_at, student, images, shown)
            ),
        )

    return converted(arguments, place, make)


def report(result: dict[str, Any]) -> str:
    return fidelity(result)


def expect_color_space(field: str, images: str, dataset: Path | None) -> None:
    """Raise InputError, before the work, for images whose colours cannot be compared."""
    if field != images:
        raise InputError(f"{dataset} holds {images} colours, and the field {field} ones")
