"""Files and requests that no page sends: each is refused in a line, and nothing else happens."""

from __future__ import annotations

import json

import aiohttp
import pytest
from yarl import URL

from geodistill.viewer import server
from tests.viewer.hostility import DEEP, LESS_DEEP, LONG, TOO_MANY, Place, among_others
from tests.viewer.viewing import TOKEN

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join(['*' + chr(97 + k)] * 10)}]\n" for k in range(12)
)
KEYS = "{" + ",".join(f'"k{k}": 1' for k in range(100_000)) + "}"
BODIES: dict[str, tuple[str, bytes, int, str]] = {
    "no JSON": ("/session?name=a.json", b"{", 422, "not valid JSON"),
    "too deep": ("/session?name=a.json", DEEP.encode(), 422, "too deeply"),
    "deep": ("/session?name=a.json", b'{"handles": %b}' % LESS_DEEP.encode(), 422, "handles[0]"),
    "long number": ("/session?name=a.json", b'{"radius": %b}' % LONG.encode(), 422, "JSON"),
    "large number": ("/session?name=a.json", b'{"radius": 1%b}' % (b"0" * 999), 422, "radius"),
    "not UTF-8": ("/session?name=a.json", b"\xff\xfe\x00", 422, "UTF-8"),
    "keys": ("/session?name=a.json", KEYS.encode(), 422, "unknown key"),
    "half a character": ("/session?name=a.json", b'{"\\ud800": 1}', 422, "unknown key"),
    "another mesh": ("/session?name=a.json", b'{"mesh": "0123"}', 422, "is for the mesh"),
    "another vertex": (
        "/session?name=a.json",
        b'{"anchors":[{"vertex":1000000}]}',
        422,
        "anchors[0]",
    ),
    "a name with a path": ("/session?name=..%2f..%2fa.yaml", b"[", 422, "not valid YAML"),
    "YAML: deep": ("/session?name=a.yaml", DEEP.encode(), 422, "too deeply"),
    "YAML: a key that is a list": ("/session?name=a.yaml", b"? [a]\n: b\n", 422, "a.yaml"),
    "YAML: long number": ("/session?name=a.yaml", b"radius: %b" % LONG.encode(), 422, "a.yaml"),
    "YAML: long hexadecimal": (
        "/session?name=a.yaml",
        b"radius: 0x%b" % LONG.encode(),
        422,
        "a.yaml",
    ),
    "YAML: repeats": ("/session?name=a.yaml", BOMB.encode() + b"handles: *m\n", 422, "a.yaml"),
    "YAML: code": ("/session?name=a.yaml", b"!!python/object/apply:os.system [ls]", 422, "a.yaml"),
    "YAML: control characters": ("/session?name=a.yaml", b"\0\1", 422, "a.yaml"),
    "huge": ("/session?name=a.json", b" " * (server.MOST_EDIT + 1), 413, ""),
    "export: huge": ("/export", b" " * (server.MOST_EDIT + 1), 413, ""),
    "export: no JSON": ("/export", b"\xff", 422, "UTF-8"),
    "export: no format": ("/export?format=..%2fexe", b"{}", 422, "glb, obj, ply"),
    "export: no weights": ("/export?weights=all", b"{}", 422, "weights"),
    "export: twice": ("/export?format=exe&format=glb", b"{}", 422, "glb, obj, ply"),
    "export: no vertex": ("/export", b'{"handles":[{"vertex":1000000}]}', 422, "handles[0]"),
    "export: thousands": ("/export", json.dumps({"handles": TOO_MANY}).encode(), 422, "64 handles"),
}
PATHS = {
    "/../setup.py": 404,
    "/session/../../etc/passwd": 404,
    "/blob/..%2f..%2fetc%2fpasswd": 404,
    "/blob/%2e%2e/scene.json": 404,
    "/export%2f": 404,
    "/session": 405,
    "/export": 405,
    "/features/": 404,
    "/features?token=twice": 403,
    "/features?a=%ff%fe%00": 200,
}


def test_files_that_are_none_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    async def script(place: Place) -> None:
        for name, (path, body, status, reason) in BODIES.items():
            found, text = await place.get(path, body)
            assert (found, reason in text, "\n" in text) == (status, True, False), (
                name,
                text[:300],
            )
        for charset in ("nonsense", "utf-7", "idna"):
            kind = {"Content-Type": f"application/json; charset={charset}"}
            assert (await place.get("/session?name=a.json", b'{"radius": 9}', **kind))[0] == 422
        for path, status in PATHS.items():
            found, text = await place.get(path)
            assert found == status and "root:" not in text, (path, found)

    among_others(script, caplog)


def test_strangers_open_no_socket(caplog: pytest.LogCaptureFixture) -> None:
    async def script(place: Place) -> None:
        url, own = place.url.with_path("/socket"), str(place.url.origin())
        foreign = {"Origin": "http://evil.example"}
        for token, headers, status in (
            (TOKEN, {}, 403),
            (TOKEN, foreign, 403),
            (TOKEN, {"Origin": own, "Host": "evil.example"}, 421),
            (TOKEN, {"Origin": "http://evil.example", "Host": "evil.example"}, 421),
            (TOKEN[:-1], {"Origin": own}, 403),
            ("", {"Origin": own}, 403),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await place.client.ws_connect(url.with_query(token=token), headers=headers)
            assert refused.value.status == status
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            other = url.with_query(token=TOKEN, scene="0" * 64)
            await place.client.ws_connect(other, headers={"Origin": own})
        assert refused.value.status == 409
        for path in ("/session", "/export"):
            assert (await place.get(path, b"{}", **foreign))[0] == 403
        bad = URL(f"{own}/features?token=%ff%ed%a0%80", encoded=True)
        async with place.client.get(bad) as answer:
            assert answer.status == 403

    among_others(script, caplog)
