"""`geodistill deform`: an edit of a mesh, in the browser or from a file of handles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from geodistill.checks import InputError, UsageError
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import Axis, Observer, expect_free, expect_whole, prepare, stem_of
from geodistill.cli.report import pairs
from geodistill.cli.serving import Served

if TYPE_CHECKING:
    from torch import Tensor

    from geodistill.deform.session import Edit, Mirror
    from geodistill.geometry.mesh import Mesh
    from geodistill.lift.files import FeatureSet
    from geodistill.lift.scenes import MeshScene

WRITTEN = (".glb", ".obj", ".ply")
KEPT = (".yaml", ".yml", ".json")


@dataclass(frozen=True, kw_only=True)
class Arguments(Served, Observer):
    """Deform a mesh: what looks like a handle moves with it (Deep Feature Deformation Weights).

    Opens a page in the browser; with --script it edits without one and writes the result.
    """

    mesh: Annotated[Path, Positional("the mesh to deform", metavar="MESH")]
    script: Annotated[
        Path | None,
        Option("handles, anchors and transforms, as JSON or YAML: no browser", metavar="FILE"),
    ] = None
    session: Annotated[
        Path | None,
        Option("begin the page with this edit if it is there, and keep it there", metavar="FILE"),
    ] = None
    up: Annotated[
        Axis | None,
        Option("axis that points up on the page (default: what the file says, or a guess)"),
    ] = None
    features: Annotated[
        Path | None,
        Option("features that lift has written (default: lifted, and kept for the next time)"),
    ] = None
    symmetric: Annotated[
        bool, Option("find the mirror planes of the shape and mirror the edit in them")
    ] = False
    weights: Annotated[
        bool, Option("write each handle's weights as an attribute of the vertices")
    ] = False
    skin: Annotated[
        bool, Option("write the mesh at rest, with joints that pose it: GLB for other programs")
    ] = False
    save_session: Annotated[
        Path | None, Option("write the edit with the mesh and mirrors it is for", metavar="FILE")
    ] = None
    output: Annotated[
        Path | None,
        Option("NAME.glb, NAME.obj or NAME.ply", short="-o", metavar="OUT", setting=False),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect_address()
        self._expect_one_way()
        if self.output is not None and self.output.suffix.lower() not in WRITTEN:
            raise UsageError(f"-o {self.output}: meshes are written as {', '.join(WRITTEN)}")
        for flag, path in (("--session", self.session), ("--save-session", self.save_session)):
            if path is not None and path.suffix.lower() not in KEPT:
                raise UsageError(f"{flag} {path}: sessions are written as {', '.join(KEPT)}")
        if self.features is not None:
            for name in ("teacher", "views"):
                if getattr(self, name) != getattr(Observer, name):
                    raise UsageError(f"--{name}: --features has been lifted already, leave it out")
        if self.weights and self.output is not None and self.output.suffix.lower() == ".obj":
            raise UsageError("--weights: OBJ has no room for attributes; write GLB or PLY")
        if self.skin and self.weights:
            raise UsageError("--skin holds the weights already: leave --weights out")
        if self.skin and self.output is not None and self.output.suffix.lower() != ".glb":
            raise UsageError("--skin: only GLB holds one; name -o NAME.glb")

    def _expect_one_way(self) -> None:
        """Raise UsageError for options of the page beside --script, or of scripts without it."""
        pages = ("session", "up", "host", "port", "open", "save")
        scripts = ("symmetric", "weights", "skin", "save_session", "output")
        for name in scripts if self.script is None else pages:
            if getattr(self, name) != getattr(type(self), name):
                flag = "--no-open" if name == "open" else f"--{name.replace('_', '-')}"
                if self.script is None:
                    raise UsageError(f"{flag} needs --script FILE: add it, or leave {flag} out")
                raise UsageError(f"{flag} is for the page, not --script: leave one of them out")


def run(arguments: Arguments) -> dict[str, Any]:
    prepare(arguments)
    if arguments.script is None:
        from geodistill.cli.deform_page import show

        return show(arguments)
    return _edit(arguments, arguments.script)


def report(result: dict[str, Any]) -> str:
    return pairs(result)


def _edit(arguments: Arguments, script: Path) -> dict[str, Any]:
    """Do what a script says."""
    import time

    from geodistill.deform.export import save_edit
    from geodistill.deform.session import (
        apply_to,
        centring_of,
        expect_own,
        expect_room,
        features_for,
        find_mirrors,
    )
    from geodistill.deform.session_file import load_session, of_file, save_session
    from geodistill.deform.subject import subject_of
    from geodistill.deform.surface import surface_of
    from geodistill.geometry.mesh import mesh_digest
    from geodistill.geometry.mesh_files import files_beside, load_mesh
    from geodistill.io.images import write_png
    from geodistill.lift.scenes import MeshScene
    from geodistill.log import say

    started = time.perf_counter()
    output = arguments.output or Path(f"{stem_of(arguments.mesh)}_deformed.glb")
    picture = output.with_name(f"{output.name}_sheet.png")  # NAME.glb and NAME.obj each have one
    expect_free(
        arguments.overwrite,
        *(output, picture),
        inputs=(arguments.mesh, script, arguments.features),
        save_session=arguments.save_session,
    )
    session = load_session(script)
    if not session.handles:
        raise InputError(f"{script} names no handles: there is nothing to do")
    if session.mirrors and arguments.symmetric:
        raise UsageError(f"--symmetric finds mirrors and {script} names some: keep one")
    mesh = load_mesh(arguments.mesh)
    beside = files_beside(output, mesh)
    expect_free(arguments.overwrite, *beside, inputs=(arguments.mesh,))
    expect_whole(arguments.mesh, (output, picture, arguments.save_session, *beside))
    surface = surface_of(mesh)
    with of_file(script):  # before anything is lifted
        expect_own(session, mesh_digest(mesh))
        expect_room(session, surface)
    scene = MeshScene(mesh)
    found = lifted(arguments, scene)
    if arguments.symmetric:
        try:
            mirrors = find_mirrors(mesh, found.whitened(), arguments.seed)
        except InputError as error:
            meant = f"name the plane that is meant under 'mirrors' in {script}"
            raise InputError(f"{error}: {meant}") from None
        session = replace(session, mirrors=mirrors)
    subject = subject_of(mesh, features_for(session, found), centring_of(session), surface)
    with of_file(script):
        edit = apply_to(session, subject)
    posed = replace(mesh, vertices=edit.vertices)
    shown = _sheet(scene, posed, edit, arguments)  # before anything is written
    moved = _moved(mesh, posed)
    if not moved:
        say("the edit moves nothing: its handles stay, or its mirrors undo what they do")
    wanted = "skin" if arguments.skin else "attributes" if arguments.weights else "none"
    save_edit(output, mesh, edit, wanted)
    write_png(picture, shown)
    saved = {}
    if arguments.save_session is not None:
        save_session(arguments.save_session, replace(session, mesh=mesh_digest(mesh)))
        saved = {"session": str(arguments.save_session)}
    return {
        "output": str(output),
        **({"beside": [str(path) for path in beside]} if beside else {}),
        "sheet": str(picture),
        **saved,
        "vertices": len(mesh.vertices),
        "handles": len(session.handles),
        "mirrors": [_shown(mirror) for mirror in session.mirrors],
        "moved": round(moved, 4),
        "seconds": round(time.perf_counter() - started, 2),
    }


def lifted(arguments: Arguments, scene: MeshScene) -> FeatureSet:
    """The features of the mesh: from their file, or lifted, now or the last time."""
    from geodistill.lift.files import load_features
    from geodistill.lift.kept import kept
    from geodistill.lift.scenes import cameras_around
    from geodistill.teachers import MESH_TEACHERS, load_mesh_teacher, load_teacher
    from geodistill.teachers.lifted import described, lift_features

    if arguments.features is not None:
        found = load_features(arguments.features)
        found.expect(scene.kind, scene.digest, len(scene.positions), arguments.features)
        return found
    if arguments.teacher in MESH_TEACHERS:
        described_by = load_mesh_teacher(arguments.teacher)
        return kept(
            scene.mesh, described_by.fingerprint, {}, lambda: described(scene, described_by)
        )
    teacher = load_teacher(arguments.teacher, device=arguments.device, mirrored=True)
    how = {name: getattr(arguments, name) for name in ("views", "resolution", "seed")}

    def lift() -> FeatureSet:
        cameras = cameras_around(scene, arguments.views, arguments.resolution, arguments.seed)
        return lift_features(scene, teacher, cameras).found

    return kept(scene.mesh, teacher.fingerprint, how, lift)


def _sheet(scene: MeshScene, posed: Mesh, edit: Edit, arguments: Arguments) -> Tensor:
    """The mesh as it was, the weights of each handle, and the mesh as it is."""
    import torch

    from geodistill.lift.scenes import MeshScene, cameras_about
    from geodistill.lift.sheet import VIEWS, heat_paint, sheet

    both = torch.cat([scene.framed, MeshScene(posed).framed])
    cameras = cameras_about(both, VIEWS, arguments.resolution, arguments.seed, scene.up)
    before = sheet(scene, cameras, [heat_paint(column) for column in edit.weights.T])
    return torch.cat([before, sheet(MeshScene(posed), cameras, [])])


def _moved(mesh: Mesh, posed: Mesh) -> float:
    """Which part of the vertices has moved."""
    from geodistill.geometry.mesh import diagonal

    away = (posed.vertices - mesh.vertices).norm(dim=1)
    return float((away > 1e-6 * diagonal(mesh)).float().mean())


def _shown(mirror: Mirror) -> dict[str, Any]:
    normal = [round(value, 6) for value in mirror.normal]
    return {"normal": normal, "offset": round(mirror.offset, 6)}
