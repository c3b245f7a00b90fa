"""The server: what it serves, to whom, and how it meets hostile messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestClient

from geodistill.checks import InputError
from geodistill.render.fields import GBuffer
from geodistill.render.viewable import FieldView
from geodistill.viewer import server, sockets
from geodistill.viewer.protocol import decode_picture
from tests.scenes import AnalyticField
from tests.viewer.viewing import CAMERA, TOKEN, client_of, mesh_view, origin

Script = Callable[[TestClient], Coroutine[Any, Any, None]]


def play(script: Script, scene=None, name: str = "scene.safetensors", host="127.0.0.1") -> None:
    async def with_client() -> None:
        async with client_of(scene or FieldView(AnalyticField()), name, host) as client:
            await asyncio.wait_for(script(client), 60)

    asyncio.run(with_client())


def test_page_scene_and_arrays() -> None:
    async def script(client: TestClient) -> None:
        page = await client.get(f"/?token={TOKEN}")
        assert (page.status, await page.text()) == (200, "the page")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        scene = await (await client.get(f"/scene.json?token={TOKEN}")).json()
        assert scene["kind"] == "mesh" and scene["up"] == {"axis": [0, 1, 0], "source": "file"}
        for blob in scene["blobs"].values():
            answer = await client.get(f"/blob/{blob['sha']}?token={TOKEN}")
            assert answer.status == 200 and len(await answer.read()) > 0
            assert answer.headers["X-Content-Type-Options"] == "nosniff"

    play(script, mesh_view(), "a.glb")


PATHS = ["/", "/scene.json", "/blob/" + "0" * 64, "/socket", "/nothing", "/../setup.py"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "query, headers, status",
    [
        ("", {}, 403),
        ("?token=", {}, 403),
        (f"?token={TOKEN}x", {}, 403),
        (f"?token={TOKEN}", {"Origin": "http://evil.example"}, 403),
        (f"?token={TOKEN}", {"Origin": "null"}, 403),
        (f"?token={TOKEN}", {"Host": "evil.example"}, 421),
        (f"?token={TOKEN}", {"Host": "192.168.7.7"}, 421),
    ],
)
def test_strangers_get_nothing(path: str, query: str, headers, status: int) -> None:
    async def script(client: TestClient) -> None:
        sent = {**(origin(client) if path == "/socket" else {}), **headers}
        answer = await client.get(path + query, headers=sent)
        text = await answer.text()
        assert answer.status == status and "page" not in text.replace("the viewer's own page", "")

    play(script)


@pytest.mark.parametrize(
    "path",
    [
        "/blob/../scene.json",
        "/blob/..%2f..%2fetc%2fpasswd",
        "/blob/" + "0" * 64,
        "/etc/passwd",
        "//etc/passwd",
        "/scene.json/",
        "/%00",
    ],
)
def test_nothing_but_the_scene_is_within_reach(path: str) -> None:
    async def script(client: TestClient) -> None:
        from yarl import URL

        url = URL(f"http://{client.host}:{client.port}{path}?token={TOKEN}", encoded=True)
        answer = await client.session.get(url, headers={"Host": "localhost"})
        assert answer.status == 404 and "root:" not in await answer.text()

    play(script)


def test_other_methods_are_refused() -> None:
    async def script(client: TestClient) -> None:
        for method in ("POST", "PUT", "DELETE"):
            answer = await client.request(method, f"/scene.json?token={TOKEN}", data=b"x" * 10**6)
            assert answer.status == 405

    play(script)


def test_others_may_come_when_the_server_is_bound_to_all() -> None:
    async def script(client: TestClient) -> None:
        for host, status in (("192.168.7.7:80", 200), ("evil.example", 421)):
            answer = await client.get(f"/?token={TOKEN}", headers={"Host": host})
            assert answer.status == status

    play(script, host="0.0.0.0")


def test_a_websocket_needs_the_origin_of_the_page() -> None:
    async def script(client: TestClient) -> None:
        for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            with pytest.raises(WSServerHandshakeError) as refused:
                await client.ws_connect(f"/socket?token={TOKEN}", headers=headers)
            assert refused.value.status == 403
        with pytest.raises(WSServerHandshakeError):
            await client.ws_connect("/socket?token=wrong", headers=origin(client))
        async with client.ws_connect(f"/socket?token={TOKEN}", headers=origin(client)):
            pass

    play(script)


async def pictures_of(socket, camera: dict[str, Any]) -> list:
    """Headers of the pictures up to the final one."""
    await socket.send_json(camera)
    found = []
    while not (found and found[-1].final):
        found.append(decode_picture(await socket.receive_bytes())[0])
    return found


def test_cameras_are_answered_with_pictures() -> None:
    async def script(client: TestClient) -> None:
        async with client.ws_connect(f"/socket?token={TOKEN}", headers=origin(client)) as socket:
            for number in (1, 2):
                found = await pictures_of(socket, {**CAMERA, "id": number})
                assert {header.id for header in found} == {number}
                assert (found[-1].width, found[-1].height) == (40, 30)

    play(script)


def test_the_last_camera_wins() -> None:
    async def script(client: TestClient) -> None:
        async with client.ws_connect(f"/socket?token={TOKEN}", headers=origin(client)) as socket:
            for number in range(1, 200):
                await socket.send_json({**CAMERA, "id": number, "moving": True})
            found = await pictures_of(socket, {**CAMERA, "id": 200})
            assert found[-1].id == 200 and len({header.id for header in found}) < 100

    play(script)


def test_two_pages_look_each_its_own_way() -> None:
    async def script(client: TestClient) -> None:
        address, headers = f"/socket?token={TOKEN}", origin(client)
        async with client.ws_connect(address, headers=headers) as one:
            async with client.ws_connect(address, headers=headers) as two:
                found = await asyncio.gather(
                    pictures_of(one, {**CAMERA, "id": 1}), pictures_of(two, {**CAMERA, "id": 9})
                )
                assert [headers[-1].id for headers in found] == [1, 9]
            assert (await pictures_of(one, {**CAMERA, "id": 2}))[-1].id == 2

    play(script)


@pytest.mark.parametrize(
    "send, code, reason",
    [
        (lambda s: s.send_str("hello"), 1008, "a message is a JSON object"),
        (lambda s: s.send_json({**CAMERA, "width": 10**9}), 1008, "camera: 1000000000 x 30 pixels"),
        (lambda s: s.send_json({"type": "é" * 500}), 1008, "unknown type"),
        (lambda s: s.send_bytes(b"\0" * 100), 1008, "messages of the page are texts"),
        (lambda s: s.send_str("x" * (server.MOST_MESSAGE + 1)), 1009, None),
    ],
)
def test_hostile_messages_end_their_connection_and_no_other(send, code, reason) -> None:
    async def script(client: TestClient) -> None:
        address, headers = f"/socket?token={TOKEN}", origin(client)
        async with client.ws_connect(address, headers=headers) as good:
            async with client.ws_connect(address, headers=headers) as bad:
                await send(bad)
                end = await bad.receive()
                assert end.type == WSMsgType.CLOSE and bad.close_code == code
                assert reason is None or end.extra.startswith(reason)
                assert len(str(end.extra).encode()) <= sockets.MOST_REASON
            assert (await pictures_of(good, CAMERA))[-1].final

    play(script)


def test_a_scene_that_the_page_draws_takes_no_cameras() -> None:
    async def script(client: TestClient) -> None:
        async with client.ws_connect(f"/socket?token={TOKEN}", headers=origin(client)) as socket:
            await socket.send_json(CAMERA)
            assert (await socket.receive()).extra == "the page draws this scene itself"

    play(script, mesh_view(), "a.glb")


def test_the_number_of_pages_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_PAGES", 2)

    async def script(client: TestClient) -> None:
        address, headers = f"/socket?token={TOKEN}", origin(client)
        one = await client.ws_connect(address, headers=headers)
        two = await client.ws_connect(address, headers=headers)
        three = await client.ws_connect(address, headers=headers)
        said = await three.receive(timeout=60)
        assert (said.type, said.data) == (WSMsgType.CLOSE, 1008)
        assert said.extra == "2 pages are open already: close one"
        await one.close()
        await two.close()

    play(script)


class Fragile(FieldView):
    """Fails to be seen with an odd number of columns."""

    def view(self, camera, normals: bool = False) -> GBuffer:
        if camera.size[1] % 2:
            raise RuntimeError("odd")
        return super().view(camera, normals)


def test_a_view_that_cannot_be_rendered_is_reported_and_the_next_one_shown() -> None:
    async def script(client: TestClient) -> None:
        async with client.ws_connect(f"/socket?token={TOKEN}", headers=origin(client)) as socket:
            await socket.send_json({**CAMERA, "width": 41})
            told = json.loads(await socket.receive_str())
            assert (told["type"], told["id"]) == ("failure", 1) and "odd" in told["reason"]
            assert (await pictures_of(socket, {**CAMERA, "id": 2}))[-1].final

    play(script, Fragile(AnalyticField()))


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(client: TestClient) -> None:
        from pathlib import Path

        from geodistill.viewer.scene import describe

        scene = mesh_view()
        description = describe(scene, Path("a.glb"))
        exhibit = server.Exhibit(b"", scene, description, TOKEN, "127.0.0.1")
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1, port {client.port}"):
            await server.run(server.make_app(exhibit), client.port, False, print)
        ports: list[int] = []
        running = asyncio.create_task(
            server.run(server.make_app(exhibit), client.port, True, ports.append)
        )
        while not ports:
            await asyncio.sleep(0)
        assert ports[0] != client.port
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    play(script)
