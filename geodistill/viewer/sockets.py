"""What is said on the websockets of pages, by the kind of their scene."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine

from aiohttp import WSCloseCode, WSMsgType, web

from geodistill import log
from geodistill.checks import GeodistillError
from geodistill.viewer.editor import Editor
from geodistill.viewer.edits import (
    Accepted,
    EditMessage,
    FromEditor,
    MirrorsMessage,
    PolishMessage,
    ProgressMessage,
    RowMessage,
    ToEditor,
    encode_edit,
)
from geodistill.viewer.protocol import CameraMessage, read_message
from geodistill.viewer.studio import Latest, Studio
from geodistill.viewer.wire import FailureMessage, Malformed

MOST_REASON = 123
"""Bytes of a reason for closing, by RFC 6455."""
LARGE = 1 << 16
"""Characters of a message from which on it is read beside what else goes on."""
MOST_WAITING = 256
"""Questions of a page that are not answered yet."""

Socket = web.WebSocketResponse


async def look(socket: Socket, studio: Studio) -> None:
    """Answer the cameras of a page with pictures of a field, until it is gone."""
    latest = Latest()
    painting = asyncio.create_task(_paint(socket, studio, latest))
    try:
        async for message in _messages(socket):
            if not isinstance(message, CameraMessage):
                await close(socket, "this scene cannot be deformed")
                break
            latest.put(message)
    finally:
        painting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await painting


async def be_silent(socket: Socket) -> None:
    """Stay connected to a page that draws its scene itself."""
    async for _ in _messages(socket):
        await close(socket, "the page draws this scene itself")
        break


class Dialogue:
    """Brings the pages of an editor together: each sees what the others do."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[Socket, set[asyncio.Task[None]]] = {}
        editor.told = self._from_thread

    async def hold(self, socket: Socket) -> None:
        """Answer a page until it is gone."""
        self._loop = asyncio.get_running_loop()
        self._waiting[socket] = set()
        try:
            for message in self.editor.state():
                await _send(socket, message)
            async for message in _messages(socket):
                if isinstance(message, CameraMessage):
                    await close(socket, "the page draws this scene itself")
                    break
                if isinstance(message, EditMessage):
                    await self._edit(socket, message)
                    continue
                if len(self._waiting[socket]) >= MOST_WAITING:
                    await close(socket, f"more than {MOST_WAITING} questions at once")
                    break
                self._start(socket, self._answer(socket, message))
        finally:
            for task in self._waiting.pop(socket):
                task.cancel()

    def _start(self, socket: Socket, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._waiting[socket].add(task)
        task.add_done_callback(lambda done: self._waiting.get(socket, set()).discard(done))

    async def _edit(self, socket: Socket, message: EditMessage) -> None:
        try:
            shared = await self.editor.accept(message.session)
        except GeodistillError as error:
            await _fail(socket, message.id, str(error))
            return
        self._tell(shared, but=socket)
        await _send(socket, Accepted(message.id))

    async def _answer(self, socket: Socket, message: FromEditor) -> None:
        try:
            if isinstance(message, RowMessage):
                await socket.send_bytes(await self.editor.row(message))
            elif isinstance(message, PolishMessage):
                await socket.send_bytes(await self.editor.polished(message.id, message.session))
            elif isinstance(message, MirrorsMessage):
                await _send(socket, await self.editor.mirrors_found(message.id))
        except ConnectionError:
            return
        except GeodistillError as error:
            await _fail(socket, message.id, str(error))
        except Exception as error:
            # The page stays usable: other places may do.
            reason = f"this cannot be computed: {type(error).__name__}: {error}"
            log.say(reason)
            await _fail(socket, message.id, reason)

    def _from_thread(self, message: ToEditor) -> None:
        """Tell all pages, from any thread; nobody where there is none yet, or no server now."""
        if self._loop is None:
            return
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell, message)

    def _tell(self, message: ToEditor, but: Socket | None = None) -> None:
        for socket, waiting in self._waiting.items():
            if socket is but:
                continue
            if isinstance(message, ProgressMessage) and len(waiting) >= MOST_WAITING:
                continue  # a page that does not listen; the next one will do
            self._start(socket, _send(socket, message))


async def _messages(socket: Socket) -> AsyncIterator[CameraMessage | FromEditor]:
    """What a page says, until it is gone or says what no page does."""
    async for message in socket:
        if message.type != WSMsgType.TEXT:
            await close(socket, "messages of the page are texts")
            return
        try:
            text = message.data
            large = len(text) > LARGE
            read = await asyncio.to_thread(read_message, text) if large else read_message(text)
        except Malformed as error:
            await close(socket, str(error))
            return
        yield read


async def _send(socket: Socket, message: ToEditor) -> None:
    with contextlib.suppress(ConnectionError):
        await socket.send_str(encode_edit(message))


async def _fail(socket: Socket, id: int, reason: str) -> None:
    await _send(socket, FailureMessage(id, reason))


async def close(socket: Socket, reason: str) -> None:
    """End a connection, and say why."""
    short = reason.encode(errors="backslashreplace")[:MOST_REASON].decode(errors="ignore").encode()
    await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=short)


async def _paint(socket: Socket, studio: Studio, latest: Latest) -> None:
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
            await _fail(socket, message.id, reason)
