"""The server: the page, the scene's description and arrays, and a websocket, behind one guard."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import WSCloseCode, web

from geodistill.checks import InputError
from geodistill.render.viewable import Viewable
from geodistill.viewer.downloads import add_downloads
from geodistill.viewer.editor import Editor
from geodistill.viewer.guard import is_known_host, is_same_origin, is_token
from geodistill.viewer.scene import SceneDescription
from geodistill.viewer.sockets import Dialogue, be_silent, close, look
from geodistill.viewer.studio import Studio

MOST_MESSAGE = 1 << 14
"""Bytes of a message from the page: a camera takes a few hundred."""
MOST_EDIT = 1 << 24
"""Bytes of an edit: a region of a million vertices takes half of it."""
MOST_PAGES = 32
"""Websockets at a time."""
HEARTBEAT_SECONDS = 20.0
SHUTDOWN_SECONDS = 2.0

CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; worker-src blob:; "
    "connect-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors "
)
NOTEBOOKS = "http://localhost:* https://localhost:* http://127.0.0.1:* vscode-webview:"
"""Who may show the page inside of theirs, where it is meant for that."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, eq=False)
class Exhibit:
    """What is shown, and to whom: `host` is the name or address that the server is bound to.

    Pages draw everything but a field by themselves; an `editor` is there for what they deform.
    A `framed` page may be a part of a notebook's."""

    page: bytes
    scene: Viewable
    description: SceneDescription
    token: str
    host: str
    editor: Editor | None = None
    framed: bool = False


EXHIBIT = web.AppKey("exhibit", Exhibit)
STUDIO = web.AppKey("studio", Studio)
DIALOGUE = web.AppKey("dialogue", Dialogue)
SOCKETS = web.AppKey("sockets", set)


def make_app(exhibit: Exhibit) -> web.Application:
    """The application; nothing but the scene is within its reach."""
    most = MOST_MESSAGE if exhibit.editor is None else MOST_EDIT
    app = web.Application(middlewares=[_guard], client_max_size=most)
    app[EXHIBIT], app[STUDIO], app[SOCKETS] = exhibit, Studio(exhibit.scene), set()
    if exhibit.editor is not None:
        app[DIALOGUE] = Dialogue(exhibit.editor)
        add_downloads(app, exhibit.editor, exhibit.description.name)
    manifest = json.dumps(exhibit.description.manifest(), allow_nan=False).encode()
    arrays = exhibit.description.by_digest()
    policy = CONTENT_POLICY + (NOTEBOOKS if exhibit.framed else "'none'")

    async def page(request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
        return web.Response(
            body=exhibit.page, content_type="text/html", charset="utf-8", headers=headers
        )

    async def scene(request: web.Request) -> web.Response:
        headers = {"Cache-Control": "no-store"}
        return web.Response(body=manifest, content_type="application/json", headers=headers)

    async def blob(request: web.Request) -> web.Response:
        array = arrays.get(request.match_info["sha"])
        if array is None:
            raise web.HTTPNotFound(text="no such array")
        # Named by their contents, they never change.
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return web.Response(
            body=array.data, content_type="application/octet-stream", headers=headers
        )

    app.router.add_get("/", page)
    app.router.add_get("/scene.json", scene)
    app.router.add_get("/blob/{sha}", blob)
    app.router.add_get("/socket", _socket)
    app.on_shutdown.append(_say_goodbye)
    return app


async def run(
    app: web.Application, port: int, fallback: bool, ready: Callable[[int], None]
) -> None:
    """Serve until cancelled.

    Args:
        app: from `make_app`.
        port: 0 for any free one.
        fallback: whether to take any free one where the port is taken.
        ready: called with the port once the server listens.

    Raises InputError where it cannot listen there.
    """
    host = app[EXHIBIT].host
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            await _listen(runner, host, port)
        except OSError as error:
            if not (fallback and error.errno == errno.EADDRINUSE):
                reason = error.strerror or error
                if error.errno == errno.EADDRINUSE:
                    reason = "it is in use, choose another port, or 0 for any"
                raise InputError(f"cannot listen on {host}, port {port}: {reason}") from None
            await _listen(runner, host, 0)
        ready(runner.addresses[0][1])
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    await web.TCPSite(runner, host, port).start()


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    exhibit, host = request.app[EXHIBIT], request.headers.get("Host")
    origin = request.headers.get("Origin")
    if not is_known_host(host, exhibit.host):
        return _refusal(421, "this server is not known by that name")
    foreign = origin is not None and not is_same_origin(origin, host)
    if foreign or (origin is None and request.path == "/socket"):
        return _refusal(403, "only the viewer's own page may ask")
    if not is_token(request.query.get("token"), exhibit.token):
        return _refusal(403, "the token is missing or wrong: open the address that was printed")
    try:
        response = await handler(request)
    except web.HTTPException as error:
        return _refusal(error.status, error.text or error.reason)
    if not response.prepared:
        response.headers.update(HEADERS)
    return response


def _refusal(status: int, reason: str) -> web.Response:
    body = reason.encode(errors="backslashreplace")  # of whatever was sent
    return web.Response(
        status=status, body=body, content_type="text/plain", charset="utf-8", headers=HEADERS
    )


async def _socket(request: web.Request) -> web.StreamResponse:
    app = request.app
    shown = request.query.get("scene")
    if shown is not None and shown not in app[EXHIBIT].description.by_digest():
        return _refusal(409, "another scene is shown now: reload the page")
    editor = app[EXHIBIT].editor
    socket = web.WebSocketResponse(
        max_msg_size=MOST_MESSAGE if editor is None else MOST_EDIT,
        heartbeat=HEARTBEAT_SECONDS,
        timeout=SHUTDOWN_SECONDS,
        compress=False,  # rows and pictures hardly shrink, and a click would wait for it
    )
    await socket.prepare(request)
    if (
        len(app[SOCKETS]) >= MOST_PAGES
    ):  # said on the connection: pages do not hear why there is none
        await close(socket, f"{MOST_PAGES} pages are open already: close one")
        return socket
    app[SOCKETS].add(socket)
    try:
        if editor is not None:
            await app[DIALOGUE].hold(socket)
        elif app[EXHIBIT].description.kind == "field":
            await look(socket, app[STUDIO])
        else:
            await be_silent(socket)
    finally:
        app[SOCKETS].discard(socket)
    return socket


async def _say_goodbye(app: web.Application) -> None:
    goodbye = {"code": WSCloseCode.GOING_AWAY, "message": b"the server has ended"}
    await asyncio.gather(*(socket.close(**goodbye) for socket in set(app[SOCKETS])))
    app[STUDIO].close()
    if (editor := app[EXHIBIT].editor) is not None:
        editor.close()
