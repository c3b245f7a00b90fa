"""What the deformation page sends and fetches as files: sessions, meshes, colours of features."""

from __future__ import annotations

import asyncio
import io
import re
import tempfile
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from geodistill import config
from geodistill.checks import GeodistillError, InputError
from geodistill.deform.export import Weights, save_edit
from geodistill.deform.session import Session, apply_to
from geodistill.deform.session_file import of_file, read_session, session_to_dict
from geodistill.viewer.editor import Editor

FORMATS = {"glb": "model/gltf-binary", "obj": "model/obj", "ply": "application/octet-stream"}
ZIP = "application/zip"
_LONGEST = 100
"""Characters of a file's name: systems take 255 bytes."""

Handler = Callable[[web.Request], Awaitable[web.Response]]


def add_downloads(app: web.Application, editor: Editor, name: str) -> None:
    """Add what a page of this editor, which shows the file of this name, may ask for."""
    app.router.add_post("/session", _saying(lambda request: _session(request, editor)))
    app.router.add_post("/export", _saying(lambda request: _export(request, editor, name)))
    app.router.add_get("/features", _saying(lambda request: _features(request, editor)))


def _saying(work: Handler) -> Handler:
    """Answer with what is wrong, where something is."""

    async def handler(request: web.Request) -> web.Response:
        try:
            return await work(request)
        except GeodistillError as error:
            raise web.HTTPUnprocessableEntity(text=str(error)) from None

    return handler


async def _session(request: web.Request, editor: Editor) -> web.Response:
    """A session's file becomes a session."""
    name = Path(request.query.get("name", "session.json")).name
    session = await _sent(request, name, editor)
    return web.json_response(session_to_dict(session))


async def _export(request: web.Request, editor: Editor, name: str) -> web.Response:
    """A session becomes the mesh that it makes: one file, or several in an archive."""
    kind = request.query.get("format", "glb")
    if kind not in FORMATS:
        raise InputError(f"meshes are exported as {', '.join(FORMATS)}")
    weights = config.convert(Weights, request.query.get("weights", "none"), "weights")
    session = await _sent(request, "session.json", editor)
    file = f"{_plain_stem(name)}_deformed.{kind}"
    data, mime = await editor.in_background(lambda: exported(editor, session, file, weights))
    return web.Response(body=data, content_type=mime)


async def _sent(request: web.Request, name: str, editor: Editor) -> Session:
    """The session in a file of this name; a large one is read beside what goes on."""
    body = await request.read()

    def read() -> Session:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise InputError(f"{name} is not a session: it is not UTF-8 text") from None
        session = read_session(name, text)
        with of_file(name):
            editor.expect_fit(session)
        return session

    return await asyncio.to_thread(read)


def _plain_stem(name: str) -> str:
    """A file's name without its ending and without blanks, at which many readers of OBJ end the
    names of libraries and textures."""
    return re.sub(r"[^\w.-]+", "_", Path(name).stem)[:_LONGEST]


def exported(editor: Editor, session: Session, name: str, weights: Weights) -> tuple[bytes, str]:
    """The file of this name of a session's mesh, and its type; an archive where textures lie beside
    it."""
    edit = apply_to(session, editor.subject(session))
    with tempfile.TemporaryDirectory() as folder:
        save_edit(Path(folder, name), editor.mesh, edit, weights)
        files = sorted(Path(folder).iterdir())
        if len(files) == 1:
            return files[0].read_bytes(), FORMATS[files[0].suffix[1:]]
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in files:
                packed.write(file, file.name)
        return archive.getvalue(), ZIP


async def _features(request: web.Request, editor: Editor) -> web.Response:
    """The features' principal components as colours: uint8 RGBA of each position."""
    data = await editor.in_background(editor.feature_colors)
    return web.Response(body=data, content_type="application/octet-stream")
