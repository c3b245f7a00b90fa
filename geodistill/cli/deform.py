"""`geodistill deform`: an edit of a mesh, from a file of handles and what they do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from geodistill.checks import InputError, UsageError
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import Machine, expect_free, expect_seed, expect_views, prepare, stem_of
from geodistill.cli.report import pairs

if TYPE_CHECKING:
    from torch import Tensor

    from geodistill.deform.session import Edit, Mirror
    from geodistill.geometry.mesh import Mesh
    from geodistill.lift.files import FeatureSet
    from geodistill.lift.scenes import MeshScene

SHEET_VIEWS = 4
WRITTEN = (".glb", ".obj", ".ply")


@dataclass(frozen=True, kw_only=True)
class Arguments(Machine):
    """Deform a mesh: what looks like a handle moves with it (Deep Feature Deformation Weights)."""

    mesh: Annotated[Path, Positional("the mesh to deform", metavar="MESH")]
    script: Annotated[
        Path, Option("handles, anchors and transforms, as JSON or YAML", metavar="FILE")
    ]
    features: Annotated[
        Path | None, Option("features that lift has written; lifted anew when left out")
    ] = None
    teacher: Annotated[str, Option("teacher of the features, as lift takes it")] = "lite0"
    views: Annotated[int, Option("number of views to lift from")] = 24
    resolution: Annotated[int, Option("pixels along the side of a view")] = 448
    symmetric: Annotated[
        bool, Option("find the mirror planes of the shape and mirror the edit in them")
    ] = False
    weights: Annotated[
        bool, Option("write each handle's weights as an attribute of the vertices")
    ] = False
    save_session: Annotated[
        Path | None, Option("write the edit with the mesh and mirrors it is for", metavar="FILE")
    ] = None
    seed: Annotated[int, Option("seed of views and samples")] = 0
    output: Annotated[
        Path | None,
        Option("NAME.glb, NAME.obj or NAME.ply", short="-o", metavar="OUT", setting=False),
    ] = None
    overwrite: Annotated[bool, Option("replace a finished output", setting=False)] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_seed(self.seed)
        expect_views(self.views, self.resolution)
        if self.output is not None and self.output.suffix.lower() not in WRITTEN:
            raise UsageError(f"-o {self.output}: meshes are written as {', '.join(WRITTEN)}")
        if self.weights and self.output is not None and self.output.suffix.lower() == ".obj":
            raise UsageError("--weights: OBJ has no room for attributes; write GLB or PLY")


def run(arguments: Arguments) -> dict[str, Any]:
    import time

    prepare(arguments)
    from geodistill.deform.session import apply
    from geodistill.deform.session_file import load_session, save_session
    from geodistill.geometry.mesh import mesh_digest
    from geodistill.geometry.mesh_files import load_mesh, save_mesh
    from geodistill.io.images import write_png
    from geodistill.lift.scenes import MeshScene

    started = time.perf_counter()
    output = arguments.output or Path(f"{stem_of(arguments.mesh)}_deformed.glb")
    picture = output.with_name(f"{output.stem}_sheet.png")
    expect_free(arguments.overwrite, output, picture, arguments.save_session)
    if arguments.mesh.resolve() == output.resolve():
        raise UsageError(f"-o {output} is the mesh itself: choose another name")
    session = load_session(arguments.script)
    mesh = load_mesh(arguments.mesh)
    scene = MeshScene(mesh)
    directions = _features(arguments, scene).directions()
    if arguments.symmetric:
        session = replace(session, mirrors=_mirrors(mesh, directions, arguments.seed))
    edit = apply(session, mesh, directions)
    posed = replace(mesh, vertices=edit.vertices)
    columns = {f"weight_{k}": column for k, column in enumerate(edit.weights.T)}
    save_mesh(output, posed, columns if arguments.weights else None)
    write_png(picture, _sheet(scene, posed, edit, arguments))
    saved = {}
    if arguments.save_session is not None:
        save_session(arguments.save_session, replace(session, mesh=mesh_digest(mesh)))
        saved = {"session": str(arguments.save_session)}
    moved = (edit.vertices - mesh.vertices).norm(dim=1)
    diagonal = (mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)).norm()
    return {
        "output": str(output),
        "sheet": str(picture),
        **saved,
        "vertices": len(mesh.vertices),
        "handles": len(session.handles),
        "mirrors": [_shown(mirror) for mirror in session.mirrors],
        "moved": round(float((moved > 1e-6 * diagonal).float().mean()), 4),
        "seconds": round(time.perf_counter() - started, 2),
    }


def report(result: dict[str, Any]) -> str:
    return pairs(result)


def _features(arguments: Arguments, scene: MeshScene) -> FeatureSet:
    """The features of the mesh: from their file, or lifted now."""
    from geodistill.lift.files import load_features
    from geodistill.lift.scenes import cameras_around
    from geodistill.teachers import MESH_TEACHERS, load_mesh_teacher, load_teacher
    from geodistill.teachers.lifted import described, lift_features

    if arguments.features is not None:
        found = load_features(arguments.features)
        found.expect(scene.kind, scene.digest, len(scene.positions), arguments.features)
        return found
    if arguments.teacher in MESH_TEACHERS:
        return described(scene, load_mesh_teacher(arguments.teacher))
    teacher = load_teacher(arguments.teacher, device=arguments.device)
    cameras = cameras_around(scene, arguments.views, arguments.resolution, arguments.seed)
    return lift_features(scene, teacher, cameras).found


def _mirrors(mesh: Mesh, directions: Tensor, seed: int) -> tuple[Mirror, ...]:
    """The planes that an edit of this mesh can mirror itself in.

    Raises InputError when there is none.
    """
    from geodistill.deform.features import prepare as prepared
    from geodistill.deform.mirror import square_planes
    from geodistill.deform.session import Mirror
    from geodistill.deform.surface import surface_of
    from geodistill.deform.symmetry import SAMPLES, find_symmetries, surface_samples

    surface = surface_of(mesh)
    table = prepared(directions, surface, centring=0.0)
    found = find_symmetries(surface_samples(surface, table, SAMPLES, seed))
    planes = square_planes(found.planes)
    if not planes and found.axes:
        raise InputError(
            "--symmetric: the shape has an axis, and any plane through it is a mirror; write the "
            "one you mean under 'mirrors' in the script"
        )
    if not planes:
        raise InputError("--symmetric: the shape has no mirror plane")
    vectors = [[float(x) for x in plane.normal] for plane in planes]
    return tuple(
        Mirror((x, y, z), plane.offset) for (x, y, z), plane in zip(vectors, planes, strict=True)
    )


def _sheet(scene: MeshScene, posed: Mesh, edit: Edit, arguments: Arguments) -> Tensor:
    """The mesh as it was, the weights of each handle, and the mesh as it is."""
    import torch

    from geodistill.lift.scenes import MeshScene, cameras_about
    from geodistill.lift.sheet import heat_paint, sheet

    both = torch.cat([scene.positions, posed.vertices])
    cameras = cameras_about(both, SHEET_VIEWS, arguments.resolution, arguments.seed)
    before = sheet(scene, cameras, [heat_paint(column) for column in edit.weights.T])
    return torch.cat([before, sheet(MeshScene(posed), cameras, [])])


def _shown(mirror: Mirror) -> dict[str, Any]:
    normal = [round(value, 6) for value in mirror.normal]
    return {"normal": normal, "offset": round(mirror.offset, 6)}
