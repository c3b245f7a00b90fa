"""A server that says what no server says: the page tells, and goes on."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from geodistill.deform.session import Handle, Session
from geodistill.deform.session_file import session_to_dict
from geodistill.deform.surface import surface_of
from geodistill.viewer.wire import pack
from tests.browser.browsing import serving_edit, show
from tests.browser.deforming import SIZE, VISIBLE, change, drag, expect_shown, kept, now, session
from tests.deform.shapes import blob
from tests.viewer.editing import editor_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, WebSocketRoute

    from geodistill.viewer.editor import Editor

MESH = blob(2)
COUNT = len(surface_of(MESH).positions)
EDIT: dict[str, Any] = {"type": "edit", "server": "s"}
READY = {"type": "ready", "teacher": "x", "channels": 3, "radius": 1, "power": 1}
PLAIN = session_to_dict(Session())
ROW = {
    "type": "row",
    "id": 10**6,
    "about": "likeness",
    "count": 3,
    "longest": 2.0,
    "center": [0, 0, 0],
    "face": None,
    "barycentric": None,
    "features": [[1.0]],
    "kernel": [1, 1],
}


def edit_of(**session: Any) -> str:
    return json.dumps({**EDIT, "session": {**PLAIN, **session}})


ODD: dict[str, str | bytes] = {
    "no JSON": "hello",
    "empty": "",
    "null": "null",
    "a list": "[]",
    "a number": "3",
    "too deep": "[" * 100_000,
    "unknown type": '{"type": "exec"}',
    "a type of all objects": '{"type": "constructor"}',
    "no type": "{}",
    "no number": '{"type": "accepted", "id": "1"}',
    "huge number": '{"type": "accepted", "id": 1e300}',
    "more": '{"type": "accepted", "id": 1, "x": 1}',
    "progress without words": '{"type": "progress", "what": null, "done": 0, "total": 1}',
    "ready for nothing": json.dumps({**READY, "radius": None}),
    "a kernel of zero": json.dumps({**READY, "radius": 0}),
    "no session": json.dumps({**EDIT, "session": None}),
    "session without handles": json.dumps({**EDIT, "session": {"version": 1}}),
    "handle of nothing": edit_of(handles=[None]),
    "handle without a place": edit_of(handles=[{}]),
    "two places": edit_of(handles=[{"vertex": 1, "face": 1}]),
    "half a vertex": edit_of(handles=[{"vertex": 0.5}]),
    "a text of a vector": edit_of(handles=[{"vertex": 1, "translate": ["0", "0", "0"]}]),
    "infinite": '{"type": "progress", "what": "x", "done": 1e999, "total": null}',
    "size 0": edit_of(handles=[{"vertex": 1, "scale": 0}]),
    "a normal of zeros": edit_of(mirrors=[{"normal": [0, 0, 0]}]),
    "mirrors of nothing": '{"type": "mirrors", "id": 1, "mirrors": [{}]}',
    "empty bytes": b"",
    "no header": b"\0\0",
    "a header that is cut off": struct.pack("<I", 10**9) + b"{}",
    "a header that is none": pack("hello", b""),
    "a row that is cut off": pack(json.dumps(ROW), b"\0" * 5),
    "a row of no place": pack(json.dumps({**ROW, "center": [0, None, 0]}), b"\0" * 6),
    "positions that are cut off": pack('{"type": "positions", "id": 1, "count": 2}', b"\0" * 12),
}


class Between:
    """What the server says, and what is said in its place."""

    def __init__(self, page: Page, editor: Editor) -> None:
        self.page, self.editor = page, editor
        self.route: WebSocketRoute | None = None
        self.instead: dict[str, str | bytes] = {}

    def take(self, route: WebSocketRoute) -> None:
        self.route = route
        server = route.connect_to_server()
        server.on_message(lambda message: route.send(self.changed(message)))

    def changed(self, message: str | bytes) -> str | bytes:
        for part, other in self.instead.items():
            if part.encode() in (message if isinstance(message, bytes) else message.encode()):
                return other
        return message

    def say(self, message: str | bytes) -> None:
        assert self.route is not None
        self.route.send(message)


@pytest.fixture
def between(browser: Browser) -> Iterator[Between]:
    """Of a page and its server."""
    editor = editor_of(MESH)
    context = browser.new_context(viewport=SIZE)  # pyright: ignore[reportArgumentType]
    found = Between(context.new_page(), editor)
    found.page.route_web_socket("**/socket*", found.take)
    with serving_edit(editor) as address:
        show(found.page, address)
        yield found
    context.close()


def test_what_no_server_says_is_told(between: Between) -> None:
    page = between.page
    page.mouse.click(500, 350)
    session(page)
    for message in ODD.values():
        page.evaluate("document.getElementById('toast').hidden = true")
        between.say(message)
        page.wait_for_selector(r"#toast:not([hidden]):text-matches('\\S')")
    drag(page, ".marker.handle", (50, -40))
    found = kept(page, between.editor)
    expect_shown(page, found, MESH)
    assert len(found.handles) == 1


OTHERS: dict[str, Callable[[int], str | bytes]] = {
    "another mesh": lambda id: pack(json.dumps({**ROW, "id": id}), b"\0" * 6),
    "no such face": lambda id: pack(
        json.dumps({**ROW, "id": id, "face": 10**9, "count": COUNT}), b"\0" * 2 * COUNT
    ),
    "a failure": lambda id: json.dumps(
        {"type": "failure", "id": id, "reason": "there is <b>none</b>"}
    ),
    "garbage": lambda id: b"\xff" * 9,
}
"""In the place of the answer with this number."""


@pytest.mark.parametrize("name", OTHERS)
def test_an_answer_that_is_none_leaves_the_edit_as_it_is(between: Between, name: str) -> None:
    page = between.page
    # Whichever of the page's requests it answers.
    between.instead = {f'"row", "id": {id},': OTHERS[name](id) for id in range(20)}
    page.mouse.click(500, 350)
    words = ":text-is('there is <b>none</b>')" if name == "a failure" else ""
    page.wait_for_selector(f"#toast:not([hidden]){words}")
    between.instead = {}
    # Undo, and what comes next, are as ever; what failed is asked for again.
    page.keyboard.press("Control+z")
    assert session(page) == Session()
    page.mouse.click(560, 500)
    drag(page, VISIBLE, (50, -40))
    found = session(page)
    expect_shown(page, found, MESH)
    if name != "garbage":
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        page.mouse.click(500, 350)
        drag(page, VISIBLE, (30, -40))
        expect_shown(page, session(page), MESH)


def test_a_polish_of_another_mesh_is_not_shown(between: Between) -> None:
    page = between.page
    change(page, Session(handles=(Handle(vertex=300, translate=(0, 0, 0.3)),)))
    for id in range(20):  # whichever of them it is
        between.instead[f'"id": {id}, "count"'] = pack(
            json.dumps({"type": "positions", "id": id, "count": 1}), b"\0" * 12
        )
    polished = replace(session(page), rigidity=3)
    page.evaluate(
        "session => geodistill.kind.controller.change(session)", session_to_dict(polished)
    )
    page.wait_for_selector("#toast:has-text('another mesh')")
    assert now(page) == polished
    expect_shown(page, replace(polished, rigidity=0), MESH)
