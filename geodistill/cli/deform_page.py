"""`geodistill deform` without a script: the page in which a mesh is deformed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geodistill.cli.deform import Arguments
    from geodistill.deform.session import Session
    from geodistill.viewer.editor import Editor


def show(arguments: Arguments) -> dict[str, Any]:
    """Serve the page until Ctrl-C; the mesh can be looked at while its features are found."""
    from geodistill.cli.serving import serve
    from geodistill.geometry.mesh_files import load_mesh
    from geodistill.shade.viewable import MeshView
    from geodistill.viewer.editor import Editor
    from geodistill.viewer.guard import make_token
    from geodistill.viewer.page import load_page
    from geodistill.viewer.scene import describe_edit
    from geodistill.viewer.server import Exhibit

    page = load_page()  # before any work
    session = _begun(arguments.session)
    mesh = load_mesh(arguments.mesh)
    editor = Editor(mesh, session, _keeper(arguments.session))
    description = describe_edit(mesh, editor.surface, arguments.mesh, arguments.up)
    exhibit = Exhibit(page, MeshView(mesh), description, make_token(), arguments.host, editor)
    seconds = serve(arguments, exhibit, lambda: _find(arguments, editor))
    return {"handles": len(editor.session.handles), "seconds": seconds}


def _begun(path: Path | None) -> Session:
    from geodistill.deform.session import Session
    from geodistill.deform.session_file import load_session

    return load_session(path) if path is not None and path.exists() else Session()


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
                editor.bring(lifted(arguments, MeshScene(editor.mesh)))
        except GeodistillError as error:
            say(str(error))
            editor.give_up(str(error))

    threading.Thread(target=work, daemon=True).start()
