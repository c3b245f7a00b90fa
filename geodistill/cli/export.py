"""`geodistill export`: the same geometry in another file format."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from geodistill.checks import InputError, UsageError
from geodistill.cli.arguments import Common, Option, Positional
from geodistill.cli.options import expect_free, expect_whole, field_endings
from geodistill.cli.report import pairs

if TYPE_CHECKING:
    from geodistill.cameras import Similarity
    from geodistill.geometry.fields import Field
    from geodistill.geometry.mesh import Mesh

HAZE = 0.01
"""Opacity of a unit of empty space from which a line says so."""
Frame = Literal["original", "opencv", "opengl", "blender", "y-up", "z-up"]
Axes = Literal["opencv", "opengl", "blender", "y-up", "z-up"]


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Write a mesh, points, splats, a field or a detector in another file format, which OUT's
    ending names. What it is stays: `convert` makes something else of it.
    """

    source: Annotated[
        Path, Positional("a mesh, points, splats, a field or a detector", metavar="IN")
    ]
    output: Annotated[
        Path, Option("NAME.ply, NAME.spz, NAME.glb, ...", short="-o", metavar="OUT", setting=False)
    ]
    frame: Annotated[Frame, Option("axes to turn it to; original: as they are in IN")] = "original"
    axes: Annotated[
        Axes | None,
        Option("axes of IN (default: opencv, and y-up of meshes)", name="from-frame"),
    ] = None
    crop: Annotated[
        tuple[float, ...],
        Option("keep what lies in this box of IN's axes", metavar="X,Y,Z,X,Y,Z"),
    ] = ()
    prune: Annotated[
        float | None, Option("leave out splats of a lower opacity", metavar="OPACITY")
    ] = None
    floaters: Annotated[
        float | None,
        Option("leave out clumps that touch nothing else and hold less of all", metavar="SHARE"),
    ] = None
    max_splats: Annotated[
        int | None, Option("keep the N splats that cover most, by size and opacity")
    ] = None
    toolbox: Annotated[
        Literal["mmdet3d", "openpcdet"] | None,
        Option("of a detector: write NAME.pth for this one, and its config beside it"),
    ] = None
    overwrite: Annotated[bool, Option("replace OUT", setting=False)] = False

    def __post_init__(self) -> None:
        if self.axes is not None and self.frame == "original":
            raise UsageError("--from-frame says what --frame turns from: give both")
        if self.crop and len(self.crop) != 6:
            raise UsageError(f"--crop takes six numbers, two corners, got {len(self.crop)}")
        if not all(map(math.isfinite, self.crop)):
            raise UsageError("--crop takes six finite numbers, two corners")
        if self.crop and any(
            low >= high for low, high in zip(self.crop[:3], self.crop[3:], strict=True)
        ):
            raise UsageError("--crop: the second corner must lie beyond the first on every axis")
        if self.prune is not None and not 0 <= self.prune <= 1:
            raise UsageError(f"--prune must lie between 0 and 1, got {self.prune}")
        if self.floaters is not None and not 0 < self.floaters < 1:
            raise UsageError(f"--floaters is a share between 0 and 1, got {self.floaters}")
        if self.max_splats is not None and self.max_splats < 1:
            raise UsageError(f"--max-splats must be at least 1, got {self.max_splats}")


def run(arguments: Arguments) -> dict[str, Any]:
    from geodistill.cli.detector_files import export_detector, holds_detector
    from geodistill.geometry.kinds import kind_of
    from geodistill.io.nerfstudio import files_of_run
    from geodistill.runs import result_file

    source = result_file(arguments.source)
    if not source.exists():
        raise InputError(f"{source} does not exist: check the path")
    if holds_detector(source):
        _expect_no_geometry(arguments)
        return export_detector(source, arguments.output, arguments.toolbox, arguments.overwrite)
    if arguments.toolbox:
        raise UsageError("--toolbox is for detectors")
    arguments = replace(arguments, source=source)
    read = (source, *files_of_run(source))
    expect_free(arguments.overwrite, arguments.output, inputs=read)
    kind = kind_of(source)
    thinning = (arguments.prune, arguments.floaters, arguments.max_splats)
    if kind != "splats" and any(value is not None for value in thinning):
        raise UsageError("--prune, --floaters and --max-splats are for splats")
    makers = {"splats": _splats, "mesh": _mesh, "points": _points, "field": _field}
    return makers[kind](arguments)


def _expect_no_geometry(arguments: Arguments) -> None:
    given = (arguments.prune, arguments.floaters, arguments.max_splats)
    if arguments.crop or arguments.frame != "original" or any(v is not None for v in given):
        raise UsageError("a detector has no geometry: it takes --toolbox alone")


def report(result: dict[str, Any]) -> str:
    return pairs(result)


def _turn(arguments: Arguments, default: Axes) -> Similarity | None:
    from geodistill.geometry.axes import turn

    if arguments.frame == "original":
        return None
    return turn(arguments.axes or default, arguments.frame)


def _splats(arguments: Arguments) -> dict[str, Any]:
    import torch

    from geodistill.geometry.floaters import anchored
    from geodistill.geometry.splats import (
        largest,
        load_splats_with_attributes,
        save_splats,
        transformed,
    )
    from geodistill.io.splats import expect_writable

    expect_writable(arguments.output)
    splats, attributes = load_splats_with_attributes(arguments.source)
    count = len(splats)
    keep = _inside(splats.means, arguments.crop)
    if arguments.prune is not None:
        keep &= torch.sigmoid(splats.opacity_logits) >= arguments.prune
    kept = keep.nonzero()[:, 0]
    if arguments.floaters is not None and len(kept):
        kept = kept[anchored(splats[kept], arguments.floaters)]
    if arguments.max_splats is not None and len(kept) > arguments.max_splats:
        kept = kept[largest(splats[kept], arguments.max_splats)]
    _expect_some(kept, arguments)
    if len(kept) < count:
        splats = splats[kept]
        attributes = {name: values[kept] for name, values in attributes.items()}
    turn = _turn(arguments, "opencv")
    save_splats(arguments.output, transformed(splats, turn) if turn else splats, attributes)
    return _told(arguments, splats=len(splats), of=count)


def _mesh(arguments: Arguments) -> dict[str, Any]:
    from geodistill.geometry.mesh import transformed
    from geodistill.geometry.mesh_files import (
        files_beside,
        load_mesh_with_attributes,
        save_mesh,
    )
    from geodistill.io.meshes import expect_writable

    if arguments.crop:
        raise UsageError("--crop is for points and splats")
    expect_writable(arguments.output)
    mesh, attributes = load_mesh_with_attributes(arguments.source)
    beside = files_beside(arguments.output, mesh)
    expect_free(arguments.overwrite, *beside, inputs=(arguments.source,))
    expect_whole(arguments.source, (arguments.output, *beside))
    turn = _turn(arguments, "y-up")
    mesh = transformed(mesh, turn.matrix()) if turn else mesh
    if arguments.output.suffix.lower() == ".obj":
        _say_what_obj_loses(arguments.output, mesh, [*attributes])
        attributes = {}
    save_mesh(arguments.output, mesh, attributes)
    more = {"beside": [str(path) for path in beside]} if beside else {}
    return _told(arguments, beside, vertices=len(mesh.vertices), faces=len(mesh.faces), **more)


def _say_what_obj_loses(output: Path, mesh: Mesh, attributes: list[str]) -> None:
    from geodistill import log

    lost = [f"the attributes {', '.join(attributes)}"] if attributes else []
    if mesh.colors is not None and bool((mesh.colors[:, 3] < 255).any()):
        lost.append("the alpha of its colours")
    if lost:
        log.say(f"{output}: OBJ cannot hold {' and '.join(lost)}: left out")


def _points(arguments: Arguments) -> dict[str, Any]:
    from geodistill.geometry.points import load_points, save_points, transformed
    from geodistill.io.clouds import FORMATS

    if arguments.output.suffix.lower() not in FORMATS:
        raise UsageError(
            f"-o {arguments.output}: points are written as {', '.join(FORMATS)}; "
            "`convert --to splats` makes splats of them"
        )
    points = load_points(arguments.source)
    count = len(points)
    kept = _inside(points.positions, arguments.crop).nonzero()[:, 0]
    _expect_some(kept, arguments)
    points = points if len(kept) == count else points[kept]
    turn = _turn(arguments, "opencv")
    save_points(arguments.output, transformed(points, turn) if turn else points)
    return _told(arguments, points=len(points), of=count)


def _field(arguments: Arguments) -> dict[str, Any]:
    from geodistill.geometry.fields import load_field, save_field
    from geodistill.io.fields import format_of
    from geodistill.io.nerfstudio import CONFIG

    if arguments.crop:
        raise UsageError("--crop is for points and splats")
    out = arguments.output
    if out.suffix.lower() != ".safetensors" and format_of(out) is None:
        raise UsageError(
            f"-o {out}: fields are written as {', '.join(field_endings())} and FOLDER/config.yml"
        )
    field = load_field(arguments.source)
    turn = _turn(arguments, "opencv")
    if turn:
        field.world_from_field = turn.matrix() @ field.world_from_field
        if field.views is not None:
            field.views = turn.apply_camera(field.views)
    save_field(field, out)
    if out.name == CONFIG:
        _say_haze(field, out)
    return _told(arguments, architecture=field.architecture, parameters=field.parameter_count())


def _say_haze(field: Field, out: Path) -> None:
    """Say what shows in a nerfacto, which has no occupancy grid, of what the field's grid hides."""
    import torch

    from geodistill import log
    from geodistill.render.samples import free_points, free_space_loss

    with torch.no_grad():
        haze = free_space_loss(field.sigma(free_points(field, torch.Generator().manual_seed(0))))
    if haze > HAZE:
        log.say(
            f"{out}: a nerfacto has no occupancy grid, and this field is not transparent outside "
            f"its own: the file looks foggy ({100 * float(haze):.0f} % a unit). Train it longer"
        )


def _inside(positions: Any, crop: tuple[float, ...]) -> Any:
    """bool [N], all where there is no box."""
    import torch

    if not crop:
        return torch.ones(len(positions), dtype=torch.bool)
    corners = torch.tensor(crop, dtype=torch.float64).view(2, 3)
    return ((positions >= corners[0]) & (positions <= corners[1])).all(dim=1)


def _expect_some(kept: Any, arguments: Arguments) -> None:
    if not len(kept):
        raise UsageError(f"nothing of {arguments.source} is left: --crop or --prune leave all out")


def _told(arguments: Arguments, others: Iterable[Path] = (), **more: Any) -> dict[str, Any]:
    from geodistill.io.nerfstudio import files_of_run

    written = {arguments.output, *others, *files_of_run(arguments.output)}
    size = sum(path.stat().st_size for path in written)
    return {"output": str(arguments.output), **more, "frame": arguments.frame, "bytes": size}
