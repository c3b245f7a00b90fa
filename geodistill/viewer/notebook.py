"""A scene in the browser from Python and in notebooks: `geodistill.view`."""

from __future__ import annotations

import contextlib
import html
import threading
from pathlib import Path

import torch
from torch import Tensor

from geodistill import config
from geodistill.checks import InputError, UsageError, check, shown
from geodistill.deform.session import Session, apply_to
from geodistill.deform.session_file import load_session, of_file
from geodistill.geometry.fields import Field
from geodistill.geometry.mesh import Mesh, mesh_digest
from geodistill.geometry.orientation import Axis
from geodistill.geometry.points import Points
from geodistill.geometry.splats import Splats
from geodistill.lift.files import FeatureSet, load_features
from geodistill.render.viewable import FieldView
from geodistill.shade.viewable import MeshView, PointView, Scene, SplatView, load_scene, viewable
from geodistill.viewer.background import BackgroundServer
from geodistill.viewer.baked import baked
from geodistill.viewer.editor import Editor
from geodistill.viewer.guard import make_token
from geodistill.viewer.page import load_page, save_html
from geodistill.viewer.scene import describe, describe_edit
from geodistill.viewer.server import Exhibit

HOST = "127.0.0.1"
_SCENES = (Mesh, Points, Splats, Field, MeshView, PointView, SplatView, FieldView)


class Viewer(BackgroundServer):
    """A scene that is served until it is closed or the program ends; from `view`.

    In a notebook it shows itself; elsewhere open its `url`. Several pages show the same edit.
    """

    def __init__(self, exhibit: Exhibit, port: int = 0, height_px: int = 640) -> None:
        super().__init__(exhibit, port)
        self._height_px = height_px

    @property
    def session(self) -> Session:
        """The edit as the pages have it; setting it changes theirs.

        It may be set to a `geodistill.deform.session.Session` or to the file of one. Raises
        UsageError where nothing is edited or it is neither, InputError for a session of another
        mesh.
        """
        return self._editor.session

    @session.setter
    def session(self, session: Session | Path | str) -> None:
        editor, given = self._editor, _session(session)
        with of_file(_file(session)):
            editor.told(editor.change(given))

    @property
    def vertices(self) -> Tensor:
        """Vertices of the mesh after the edit, float64 [V, 3], in the mesh's frame.

        Raises UsageError where nothing is edited, InputError as the edit cannot be applied.
        """
        editor, session = self._editor, self.session
        return apply_to(session, editor.subject(session)).vertices

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write one HTML file that opens without a server or a network, and still deforms.

        Raises UsageError for a radiance field, which is rendered by a server, for a name that does
        not end in .html and for a file that exists, unless it may be overwritten; InputError where
        the features are too many for a page or the file cannot be written.
        """
        file: Path = config.convert(Path, path, "path")
        if file.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"{file}: name a file that ends in .html")
        if file.exists() and not overwrite:
            raise UsageError(f"{file} exists: choose another name or pass overwrite=True")
        description, editor = self._exhibit.description, self._exhibit.editor
        save_html(file, description if editor is None else baked(description, editor))

    def wait(self) -> None:
        """Serve until Ctrl-C: what a script ends with."""
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
        self.close()

    @property
    def _editor(self) -> Editor:
        if self._exhibit.editor is None:
            raise UsageError("nothing is edited here: view a mesh with its features")
        return self._exhibit.editor

    def _repr_html_(self) -> str:
        """The page inside a notebook."""
        return (
            f'<iframe src="{html.escape(self.url)}" title="geodistill" width="100%" '
            f'height="{self._height_px}" style="border:0" allow="fullscreen"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Viewer({self.url})"


def view(
    scene: Scene | Path | str,
    features: FeatureSet | Tensor | Path | str | None = None,
    *,
    session: Session | Path | str | None = None,
    up: Axis | None = None,
    port: int = 0,
    height_px: int = 640,
) -> Viewer:
    """Show a scene in the browser; a mesh with features can be deformed there.

    Args:
        scene: a mesh, points, splats, a field, or the file of any of them.
        features: of the mesh's vertices: from `geodistill lift`, their file, or a tensor [V, C].
        session: the edit to begin with, or its file.
        up: the axis that points up; when left out what the file says, or a guess.
        port: to serve on, on this machine alone; 0 for any.
        height_px: of the page inside a notebook.

    Raises:
        InputError: a file is missing or damaged; features or a session of another mesh; the page
            was not built; nothing can listen on the port.
        UsageError: features or a session of what is no mesh; an argument of another kind.
        ShapeError: a tensor of features without a row for each vertex.
    """
    page = load_page()
    _expect_settings(up, port, height_px)
    if features is None and session is not None:
        raise UsageError("a session deforms a mesh by its features: give these too")
    given, path = _scene(scene)
    name = path or Path(type(given).__name__.lower())
    editor, looked_at = None, viewable(given)
    if features is None:
        description = describe(looked_at, name, up)
    elif isinstance(given, Mesh):
        editor = _editor(given, features, session)
        description = describe_edit(given, editor.surface, name, up)
    else:
        raise UsageError(f"only meshes are deformed by features, this is a {name.name}")
    exhibit = Exhibit(page, looked_at, description, make_token(), HOST, editor, framed=True)
    return Viewer(exhibit, port, height_px)


def _expect_settings(up: Axis | None, port: int, height_px: int) -> None:
    config.convert(Axis | None, up, "up")
    if not 0 <= config.convert(int, port, "port") <= 65535:
        raise UsageError(f"port must be from 0, for any, to 65535, got {port}")
    if config.convert(int, height_px, "height_px") < 1:
        raise UsageError(f"height_px must be at least 1, got {height_px}")


def _scene(given: Scene | Path | str) -> tuple[Scene, Path | None]:
    """The scene, and its file where it is from one. Raises UsageError for what is neither."""
    if isinstance(given, (str, Path)):
        return load_scene(Path(given)), Path(given)
    if not isinstance(given, _SCENES):
        raise UsageError(
            "a scene is a mesh, points, splats, a field or the path of a file of one, "
            f"got {shown(given)}"
        )
    return given, None


def _editor(
    mesh: Mesh, features: FeatureSet | Tensor | Path | str, session: Session | Path | str | None
) -> Editor:
    digest, count = mesh_digest(mesh), len(mesh.vertices)
    if isinstance(features, Tensor):
        check(vertices=(mesh.vertices, "V 3"), features=(features, "V C"))
        values = features.detach().cpu().float()
        seen = torch.ones(count, dtype=torch.bool)
        found = FeatureSet(values, seen, "mesh", digest, "given", "given")
    elif isinstance(features, FeatureSet):
        found = features
        found.expect("mesh", digest, count, "the given set")
    elif isinstance(features, (str, Path)):
        found = load_features(features)
        found.expect("mesh", digest, count, features)
    else:
        raise UsageError(
            "features are a geodistill.lift.files.FeatureSet, a tensor [V, C] or the path of a "
            f"file of them, got {shown(features)}"
        )
    begun = Session() if session is None else _session(session)
    with of_file(_file(session)):
        editor = Editor(mesh, begun)
    try:
        editor.bring(found)
    except InputError:
        editor.close()
        raise
    return editor


def _file(given: Session | Path | str | None) -> Path | str | None:
    return given if isinstance(given, (str, Path)) else None


def _session(given: Session | Path | str) -> Session:
    """Raises UsageError for what is none and no file of one, InputError for a bad file."""
    if isinstance(given, (str, Path)):
        return load_session(Path(given))
    if not isinstance(given, Session):
        kind = type(given).__name__
        raise UsageError(
            f"a session is a geodistill.deform.session.Session or a file, not a {kind}"
        )
    return given
