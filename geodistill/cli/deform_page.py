"""`geodistill deform` without a script: the page in which a mesh is deformed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geodistill.cli.deform import Arguments
    from geodistill.deform.session import Session
    from geodistill.viewer.editor import Editor
    from geodistill.viewer.scene import SceneDescription


def show(arguments: Arguments) -> dict[str, Any]:
    """Serve the page until Ctrl-C; the mesh can be looked at while its features are found."""
    from geodistill.cli.options import expect_free
    from geodistill.cli.serving import serve
    from geodistill.deform.session_file import of_file
    from geodistill.geometry.mesh_files import load_mesh
    from geodistill.shade.viewable import MeshView
    from geodistill.viewer.editor import Editor
    from geodistill.viewer.guard import make_token
    from geodistill.viewer.page import load_page
    from geodistill.viewer.scene import describe_edit
    from geodistill.viewer.server import Exhibit

    page = load_page()  # before any work
    if arguments.save is not None:
        inputs = (arguments.mesh, arguments.features, arguments.session)
        expect_free(arguments.overwrite, inputs=inputs, save=arguments.save)
    session = _begun(arguments)
    mesh = load_mesh(arguments.mesh)
    with of_file(arguments.session):
        editor = Editor(mesh, session, _keeper(arguments.session))
    description = describe_edit(mesh, editor.surface, arguments.mesh, arguments.up)
    if arguments.save is not None:
        return _save(arguments, arguments.save, editor, description)
    exhibit = Exhibit(page, MeshView(mesh), description, make_token(), arguments.host, editor)
    seconds = serve(arguments, exhibit, lambda: _find(arguments, editor))
    return {"handles": len(editor.session.handles), "seconds": seconds}


def _save(
    arguments: Arguments, path: Path, editor: Editor, description: SceneDescription
) -> dict[str, Any]:
    """Find the features and write the page with them, which then needs no server."""
    from geodistill.cli.deform import lifted
    from geodistill.lift.scenes import MeshScene
    from geodistill.viewer.baked import baked
    from geodistill.viewer.page import save_html

    editor.bring(lifted(arguments, MeshScene(editor.mesh)))
    size = save_html(path, baked(description, editor))
    editor.close()
    return {"output": str(path), "handles": len(editor.session.handles), "bytes": size}


def _begun(arguments: Arguments) -> Session:
    """The edit to begin with. Raises InputError where it cannot be read, or not be kept there."""
    from geodistill.checks import InputError
    from geodistill.deform.session import Session
    from geodistill.deform.session_file import load_session

    path = arguments.session
    if path is None:
        return Session()
    if path.exists():
        return load_session(path)
    if not path.absolute().parent.is_dir():
        raise InputError(f"--session {path}: its folder does not exist, make it first")
    return Session()


def _keeper(path: Path | None) -> Any:
    from geodistill.deform.session_file import save_session

    return None if path is None else lambda session: save_session(path, session)


def _find(arguments: Arguments, editor: Editor) -> None:
    """Find the features beside the page, which is told how far that is."""
    import threading

    from geodistill.checks import GeodistillError
    from geodistill.cli.deform import lifted
    from geodistill.lift.scenes import MeshScene
    from geodistill.log import say, watching

    def work() -> None:
        try:
            with watching(editor.advance):
                found = lifted(arguments, MeshScene(editor.mesh))
            editor.advance("preparing the handles", 0, None)
            editor.bring(found)
        except Exception as error:  # the mesh can be looked at without
            known = isinstance(error, GeodistillError)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            say(reason)
            editor.give_up(reason)

    threading.Thread(target=work, daemon=True).start()
