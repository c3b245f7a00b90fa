"""Pages that say what no page says: their connection ends or they are told so, and nothing else
happens, neither to the edit nor to the others."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from geodistill.deform.session import Anchor, Handle, Mirror, Session
from geodistill.deform.session_file import session_to_dict
from geodistill.viewer import server
from geodistill.viewer.sockets import MOST_REASON
from tests.viewer.hostility import (
    DEEP,
    KEPT,
    LESS_DEEP,
    LONG,
    SECONDS,
    TOO_MANY,
    Place,
    among_others,
    edit,
    row,
)


async def ended(socket: ClientWebSocketResponse) -> tuple[int, str]:
    """How the server ends a connection: the code and the reason."""
    found = await socket.receive(timeout=SECONDS)
    assert found.type == WSMsgType.CLOSE, found
    assert len(str(found.extra).encode()) <= MOST_REASON
    return found.data, str(found.extra)


def handle(**values: Any) -> dict[str, Any]:
    return edit(handles=[{"vertex": 300, **values}])


MANY = ",".join(["1"] * 1_000_000)
WHOLE = json.dumps(handle(translate=[0, 0, 1]))

ENDS: dict[str, tuple[str, str]] = {
    "no JSON": ("hello", "JSON object"),
    "cut off": (WHOLE[:-1], "JSON object"),
    "a list": ("[]", "JSON object"),
    "null": ("null", "JSON object"),
    "empty": ("", "JSON object"),
    "too deep": (DEEP, "JSON object"),
    "deep session": (f'{{"type":"edit","id":1,"session":{LESS_DEEP}}}', "bad session"),
    "deep handle": (f'{{"type":"edit","id":1,"session":{{"handles":{LESS_DEEP}}}}}', "handles[0]"),
    "deep site": (WHOLE.replace("300", LESS_DEEP), "vertex"),
    "NaN": (WHOLE.replace("[0, 0, 1]", "[0, NaN, 1]"), "JSON object"),
    "infinite": (WHOLE.replace("[0, 0, 1]", "[0, 1e999, 1]"), "finite"),
    "too large for a float": (WHOLE.replace("[0, 0, 1]", f"[0, 1{'0' * 400}, 1]"), ""),
    "too long for a number": (WHOLE.replace("[0, 0, 1]", f"[0, {LONG}, 1]"), "JSON object"),
    "no type": ('{"id": 1}', "unknown type"),
    "type of a number": ('{"type": 7, "id": 1}', "unknown type"),
    "unknown type": ('{"type": "exec", "id": 1}', "unknown type"),
    "half a character": ('{"type": "\\ud800", "id": 1}', "unknown type"),
    "half a character as a key": ('{"type": "mirrors", "id": 1, "\\ud800": 2}', "unknown"),
    "half a character in a session": (WHOLE.replace("translate", "\\ud800"), "unknown key"),
    "another page's message": ('{"type": "camera"}', "is missing"),
    "huge id": ('{"type": "mirrors", "id": 9007199254740992}', "bad id"),
    "negative id": ('{"type": "mirrors", "id": -1}', "bad id"),
    "half an id": ('{"type": "mirrors", "id": 0.5}', "bad id"),
    "true id": ('{"type": "mirrors", "id": true}', "bad id"),
    "no id": ('{"type": "mirrors"}', "id is missing"),
    "more than asked": ('{"type": "mirrors", "id": 1, "x": 1}', "unknown x"),
    "long key": (json.dumps(edit(**{"k" * 1_000_000: 1})), "unknown key"),
    "no session": ('{"type": "edit", "id": 1, "session": null}', "bad session"),
    "handles that are none": (json.dumps(edit(handles={"0": {}})), "must be a list"),
    "a million handles": (f'{{"type":"edit","id":1,"session":{{"handles":[{MANY}]}}}}', "handles"),
    "a long vector": (WHOLE.replace("[0, 0, 1]", f"[{MANY}]"), "3 values"),
    "a vector of texts": (json.dumps(handle(translate=["0", "0", "1"])), "must be a number"),
    "a place too many": (json.dumps(handle(face=3)), "exactly one"),
    "no place": (json.dumps(edit(handles=[{}])), "exactly one"),
    "negative vertex": (json.dumps(edit(handles=[{"vertex": -1}])), "counted from 0"),
    "negative in a region": (json.dumps(edit(anchors=[{"region": [1, -2]}])), "counted from 0"),
    "empty region": (json.dumps(edit(anchors=[{"region": []}])), "at least one"),
    "half a vertex": (json.dumps(edit(anchors=[{"vertex": 0.5}])), "must be an integer"),
    "radius 0": (json.dumps(edit(radius=0)), "between"),
    "radius -1": (json.dumps(edit(radius=-1)), "between"),
    "radius 1e308": (json.dumps(edit(radius=1e308)), "between"),
    "scale 0": (json.dumps(handle(scale=0)), "must be positive"),
    "a quaternion of zeros": (json.dumps(handle(quaternion=[0, 0, 0, 0])), "zero"),
    "a normal of zeros": (json.dumps(edit(mirrors=[{"normal": [0, 0, 0]}])), "zero"),
    "unknown method": (json.dumps(edit(method="magic")), "must be one of"),
    "later version": (json.dumps(edit(version=2)), "version"),
    "row about nothing": (json.dumps({**row(vertex=1), "about": []}), "bad about"),
    "row of nowhere": (json.dumps({**row(), "site": 7}), "site"),
}

PLANES = [{"normal": [1, 0, 0], "offset": k} for k in range(100)]
FAILS: dict[str, tuple[dict[str, Any], str]] = {
    "another mesh": (edit(mesh="0123456789abcdef"), "is for the mesh"),
    "a mesh with half a character": (edit(mesh="\ud800"), "is for the mesh"),
    "vertex": (edit(handles=[{"vertex": 10**6}]), "handles[0]"),
    "vertex 2^53": (edit(anchors=[{"vertex": 2**53}]), "anchors[0]"),
    "vertex 2^80": (edit(anchors=[{"vertex": 2**80}]), "anchors[0]"),
    "face": (edit(handles=[{"face": 10**6}]), "handles[0]"),
    "negative face": (edit(handles=[{"face": -1}]), "handles[0]"),
    "region": (edit(anchors=[{"vertex": 1}, {"region": [1, 10**6]}]), "anchors[1]"),
    "region 2^80": (edit(anchors=[{"region": [1, 2**80]}]), "anchors[0]"),
    "position": (edit(handles=[{"position": [1e308, 0, 0]}]), "handles[0]"),
    "translate": (handle(translate=[0, 1e308, 0]), "translate"),
    "pivot": (handle(pivot=[0, -1e308, 0]), "pivot"),
    "handles by the thousand": (edit(handles=TOO_MANY), "64 handles"),
    "anchors by the thousand": (edit(anchors=TOO_MANY), "as many anchors"),
    "a polish without end": (edit(rigidity=5000), "100 iterations"),
    "planes by the hundred": (edit(mirrors=PLANES), "3 planes"),
    "a row of no vertex": (row(vertex=10**6), "place"),
    "a row of vertex 2^80": (row(vertex=2**80), "place"),
    "a row of no face": (row(face=2**53), "place"),
    "a row of a region": (row(region=[2**80]), "place"),
    "a row of a position": (row(position=[1e308, -1e308, 1e308]), "position"),
    "a row of many planes": ({**row(vertex=1), "about": "path", "mirrors": PLANES}, "3 planes"),
    "a polish of no vertex": (
        {"type": "polish", "id": 7, "session": {"handles": [{"vertex": 2**80}]}},
        "handles[0]",
    ),
    "a polish of thousands": (
        {"type": "polish", "id": 7, "session": {"rigidity": 9, "handles": TOO_MANY}},
        "64 handles",
    ),
}


def test_what_no_page_says_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def script(place: Place) -> None:
        for name, (text, reason) in ENDS.items():
            socket = await place.page()
            await socket.send_str(text)
            code, said = await ended(socket)
            assert code == 1008 and reason in said, (name, said)
        socket = await place.page()
        await socket.send_bytes(b"\0" * 3)
        assert await ended(socket) == (1008, "messages of the page are texts")
        for large in ("x" * (server.MOST_EDIT + 1), "x" * 4 * server.MOST_EDIT):
            socket = await place.page()
            with contextlib.suppress(ConnectionError):  # it is not read to its end
                await socket.send_str(large)
            found = await socket.receive(timeout=SECONDS)
            assert found.type != WSMsgType.CLOSE or found.data == 1009
            assert socket.closed

    among_others(script, caplog)


def test_what_the_mesh_does_not_have_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def script(place: Place) -> None:
        socket = await place.page()
        for name, (message, reason) in FAILS.items():
            await socket.send_json(message)
            said = json.loads(await socket.receive_str(timeout=SECONDS))
            assert (said["type"], said["id"]) == ("failure", 7), name
            assert reason in said["reason"], (name, said)
            assert "\n" not in said["reason"] and len(said["reason"]) < 400, name
        await socket.close()

    among_others(script, caplog)


# Messages as pages send them, changed at random

MESSAGES: list[dict[str, Any]] = [
    {"type": "mirrors", "id": 1},
    row(face=3, barycentric=[0.2, 0.3, 0.5]),
    {**row(region=[1, 2, 3]), "about": "path", "mirrors": [{"normal": [1, 0, 0], "offset": 0.5}]},
    {
        "type": "polish",
        "id": 2,
        "session": session_to_dict(
            Session(
                rigidity=1,
                handles=(Handle(vertex=300, rotate=(0, 0, 20), locality=2.0), Handle(face=7)),
                anchors=(Anchor(region=(4, 5)), Anchor(position=(0.0, 0.0, 1.0))),
                mirrors=(Mirror((1, 0, 0)),),
            )
        ),
    },
    # Of another mesh, so that none is ever accepted.
    edit(**session_to_dict(Session(mesh="0" * 16, handles=KEPT.handles, radius=0.5))),
]
ODD: list[Any] = [
    None, True, -1, 0, 2, 2**31, 2**53, 2**63, 2**64, -(2**70), 0.5, 1e308, -1e-320, "", "x",
    "\ud800", "\0", "cardinal", [], [[]], {}, {"vertex": 1}, [1, 2, 3], [1e308] * 3,
    ["1", "2", "3"],
]  # fmt: skip


def changed(value: Any, draw: random.Random) -> Any:
    """A value of JSON with one of its parts replaced, left out, repeated or renamed."""
    if isinstance(value, (dict, list)) and value and draw.random() < 0.8:
        made: Any = dict(value) if isinstance(value, dict) else list(value)
        key = draw.choice(list(made) if isinstance(made, dict) else range(len(made)))
        way = draw.random()
        if way < 0.7:
            made[key] = changed(made[key], draw)
        elif way < 0.8:
            del made[key]
        elif isinstance(made, list):
            made += made[:1] * draw.choice([1, 5, 100])
        else:
            made[draw.choice(["x", "vertex", "handles", "id", "\ud800"])] = made[key]
        return made
    return draw.choice(ODD)


def nudged(value: Any, draw: random.Random) -> Any:
    """A value of JSON with some of its numbers changed."""
    if isinstance(value, dict):
        return {key: nudged(item, draw) for key, item in value.items()}
    if isinstance(value, list):
        return [nudged(item, draw) for item in value]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or draw.random() < 0.9:
        return value
    return value + draw.choice([1, 2, 50, 5000, 10**9, -1, 0.25])


def may_be_kept(message: Any) -> bool:
    """Whether it is an edit that is for any mesh."""
    if not isinstance(message, dict) or message.get("type") != "edit":
        return False
    session = message.get("session")
    return isinstance(session, dict) and session.get("mesh") is None


def cut(text: str, draw: random.Random) -> str:
    """A text with some of its characters replaced or left out."""
    at = draw.randrange(len(text))
    return text[:at] + draw.choice(["", "]", "{", "9" * 30, '"', "\\"]) + text[at + 1 :]


def test_messages_changed_at_random_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    draw = random.Random(5)

    async def script(place: Place) -> None:
        seen: dict[str, int] = {}
        socket = await place.page()
        for _ in range(400):
            message = draw.choice([changed, nudged])(draw.choice(MESSAGES), draw)
            if may_be_kept(message):
                continue
            text = json.dumps(message)
            await socket.send_str(text if draw.random() < 0.9 else cut(text, draw))
            found = await socket.receive(timeout=SECONDS)
            if found.type == WSMsgType.CLOSE:
                assert found.data == 1008 and found.extra, text
                socket = await place.page()
            elif found.type == WSMsgType.TEXT:
                assert json.loads(found.data)["type"] in ("failure", "mirrors"), text
            else:
                assert found.type == WSMsgType.BINARY, text
            seen[found.type.name] = seen.get(found.type.name, 0) + 1
        assert min(seen[kind] for kind in ("CLOSE", "TEXT", "BINARY")) > 20, seen
        await socket.close()

    among_others(script, caplog)
