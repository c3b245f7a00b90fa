"""A server among whose pages is one that does not behave, and what that one may send."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse
from yarl import URL

from geodistill.deform.session import Handle, Session
from geodistill.shade.viewable import MeshView
from geodistill.viewer.background import BackgroundServer
from geodistill.viewer.editor import Editor
from geodistill.viewer.scene import describe_edit
from geodistill.viewer.server import Exhibit
from tests.deform.shapes import blob
from tests.viewer.editing import editor_of
from tests.viewer.viewing import TOKEN

KEPT = Session(handles=(Handle(vertex=300, translate=(0.0, 0.0, 0.5)),))
SECONDS = 60


class Place:
    """A running server, a page of it that behaves, and ways to come as one that does not."""

    def __init__(self, editor: Editor, client: ClientSession, url: str) -> None:
        self.editor, self.client, self.url = editor, client, URL(url, encoded=True)
        self.good: ClientWebSocketResponse

    async def page(self, **headers: str) -> ClientWebSocketResponse:
        """A page that has been told all that there is to begin with."""
        sent = {"Origin": str(self.url.origin()), **headers}
        url = self.url.with_path("/socket").with_query(token=TOKEN)
        socket = await self.client.ws_connect(url, headers=sent, max_msg_size=0)
        for kind in ("ready", "edit"):
            assert json.loads(await socket.receive_str(timeout=SECONDS))["type"] == kind
        return socket

    async def works(self) -> None:
        """The page that behaves is answered, the edit is as it was."""
        await self.good.send_json(row(vertex=300))
        assert len(await self.good.receive_bytes(timeout=SECONDS)) > 1000
        assert self.editor.session == KEPT

    async def get(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        """An answer to a path as it is written."""
        joint = "&" if "?" in path else "?"
        url = URL(f"{self.url.origin()}{path}{joint}token={TOKEN}", encoded=True)
        method = "GET" if body is None else "POST"
        async with self.client.request(method, url, data=body, headers=headers) as answer:
            return answer.status, await answer.text(errors="replace")


def among_others(
    script: Callable[[Place], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    """Play a script at a server; in the end everything works, and nothing was out of order."""

    async def main() -> None:
        editor = editor_of(blob(1), KEPT)
        described = describe_edit(editor.mesh, editor.surface, Path("shape.glb"))
        page = b"<html><!--scene--></html>"
        exhibit = Exhibit(page, MeshView(editor.mesh), described, TOKEN, "127.0.0.1", editor)
        with BackgroundServer(exhibit) as running:
            async with ClientSession() as client:
                place = Place(editor, client, running.url)
                place.good = await place.page()
                await script(place)
                await place.works()
                await place.good.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(asyncio.wait_for(main(), 2 * SECONDS))
    assert not caplog.records, caplog.text


def row(**site: Any) -> dict[str, Any]:
    values = {"about": "likeness", "method": "cardinal", "centring": None, "mirrors": []}
    return {"type": "row", "id": 7, "site": site, **values}


def edit(**session: Any) -> dict[str, Any]:
    return {"type": "edit", "id": 7, "session": session}


DEEP = "[" * 100_000 + "]" * 100_000
LESS_DEEP = "[" * 900 + "]" * 900
LONG = "9" * 5000
TOO_MANY = [{"vertex": k} for k in range(3000)]
