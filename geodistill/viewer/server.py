"""The server: the page, the scene's description and arrays, and a websocket, behind one guard."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import WSCloseCode, WSMsgType, web

from geodistill import log
from geodistill.checks import InputError
from geodistill.render.viewable import Viewable
from geodistill.viewer.guard import is_known_host, is_same_origin, is_token
from geodistill.viewer.protocol import FailureMessage, Malformed, encode, read_message
from geodistill.viewer.scene import SceneDescription
from geodistill.viewer.studio import Latest, Studio

MOST_MESSAGE = 1 << 14
"""Bytes of a message from the page: a camera takes a few hundred."""
MOST_REASON = 123
"""Bytes of a reason for closing, by RFC 6455."""
MOST_PAGES = 32
"""Websockets at a time."""
HEARTBEAT_SECONDS = 20.0
SHUTDOWN_SECONDS = 2.0

CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; worker-src blob:; "
    "connect-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, eq=False)
class Exhibit:
    """What is shown, and to whom: `host` is the name or address that the server is bound to."""

    page: bytes
    scene: Viewable
    description: SceneDescription
    token: str
    host: str


EXHIBIT = web.AppKey("exhibit", Exhibit)
STUDIO = web.AppKey("studio", Studio)
SOCKETS = web.AppKey("sockets", set)


def make_app(exhibit: Exhibit) -> web.Application:
    """The application; nothing but the scene is within its reach."""
    app = web.Application(middlewares=[_guard], client_max_size=MOST_MESSAGE)
    app[EXHIBIT], app[STUDIO], app[SOCKETS] = exhibit, Studio(exhibit.scene), set()
    manifest = json.dumps(exhibit.description.manifest(), allow_nan=False).encode()
    arrays = exhibit.description.by_digest()

    async def page(request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": CONTENT_POLICY, "Cache-Control": "no-store"}
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
    return web.Response(status=status, text=reason, headers=HEADERS)


async def _socket(request: web.Request) -> web.StreamResponse:
    app = request.app
    if len(app[SOCKETS]) >= MOST_PAGES:
        return _refusal(503, f"{MOST_PAGES} pages are open already: close one")
    socket = web.WebSocketResponse(
        max_msg_size=MOST_MESSAGE, heartbeat=HEARTBEAT_SECONDS, timeout=SHUTDOWN_SECONDS
    )
    await socket.prepare(request)
    app[SOCKETS].add(socket)
    latest = Latest()
    painting = asyncio.create_task(_paint(socket, app[STUDIO], latest))
    try:
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                await _close(socket, "messages of the page are texts")
                break
            try:
                camera = read_message(message.data)
                if app[EXHIBIT].description.kind != "field":
                    raise Malformed("the page draws this scene itself")
            except Malformed as error:
                await _close(socket, str(error))
                break
            latest.put(camera)
    finally:
        painting.cancel()
        app[SOCKETS].discard(socket)
        with contextlib.suppress(asyncio.CancelledError):
            await painting
    return socket


async def _close(socket: web.WebSocketResponse, reason: str) -> None:
    short = reason.encode()[:MOST_REASON].decode(errors="ignore").encode()
    await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=short)


async def _paint(socket: web.WebSocketResponse, studio: Studio, latest: Latest) -> None:
    """Answer cameras with pictures until the page is gone."""
    while True:
        message = await latest.take()
        try:
            async for picture in studio.pictures(message, latest.waiting):
                await socket.send_bytes(picture)
        except ConnectionError:
            return
        except Exception as error:
            # The page stays usable: from elsewhere the field may be seen.
            reason = f"this view cannot be rendered: {type(error).__name__}: {error}"
            log.say(reason)
            with contextlib.suppress(ConnectionError):
                await socket.send_str(encode(FailureMessage(message.id, reason)))


async def _say_goodbye(app: web.Application) -> None:
    goodbye = {"code": WSCloseCode.GOING_AWAY, "message": b"the server has ended"}
    await asyncio.gather(*(socket.close(**goodbye) for socket in set(app[SOCKETS])))
    app[STUDIO].close()
