"""The editor behind the deformation page: rows, edits that pages share, files in and out."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aiohttp import ClientWebSocketResponse, WSMsgType
from aiohttp.test_utils import TestClient, TestServer

from geodistill.checks import InputError
from geodistill.deform.session import Anchor, Handle, Mirror, Session, apply
from geodistill.deform.session_file import session_to_dict
from geodistill.deform.subject import subject_of
from geodistill.geometry.mesh import Mesh, mesh_digest
from geodistill.geometry.mesh_files import load_mesh
from geodistill.shade.viewable import MeshView
from geodistill.viewer.editor import Editor
from geodistill.viewer.edits import ProgressMessage, RowMessage
from geodistill.viewer.scene import describe_edit
from geodistill.viewer.server import Exhibit, make_app
from geodistill.viewer.wire import unpack
from tests.deform.shapes import blob, joined, moved
from tests.deform.test_deform_command import textured
from tests.viewer.editing import editor_of, features_of
from tests.viewer.viewing import TOKEN

LIFT = Session(handles=(Handle(vertex=300, translate=(0.0, 0.0, 0.5)),))


def row(editor: Editor, site: Anchor, **more: Any) -> tuple[dict[str, Any], np.ndarray]:
    """The header of a row, and its distances."""
    values = {"about": "likeness", "method": "cardinal", "centring": None, "mirrors": (), **more}
    message = RowMessage(7, site=site, **values)
    kind, header, data = unpack(asyncio.run(editor.row(message)))
    assert kind == "row" and header["id"] == 7
    return header, np.frombuffer(data, "<u2") * (header["longest"] / 65535)


# Rows


def test_likeness_is_the_distance_between_features() -> None:
    mesh = blob(1)
    editor = editor_of(mesh)
    header, found = row(editor, Anchor(vertex=300))
    subject = subject_of(mesh, features_of(mesh).whitened())
    own = subject.table[:, subject.surface.welded[300]]
    wanted = (subject.table - own[:, None]).norm(dim=0).numpy()
    assert header["count"] == len(found) == len(subject.surface.positions)
    assert np.abs(found - wanted).max() < 1e-3
    assert header["kernel"] == pytest.approx([subject.automatic.radius, subject.automatic.power])
    assert header["features"][0] == pytest.approx(own.tolist())
    assert header["center"] == pytest.approx(mesh.vertices[300].tolist())
    editor.close()


def test_paths_begin_at_the_place_and_at_its_mirror_images() -> None:
    mesh = blob(1)
    editor = editor_of(mesh)
    _, one = row(editor, Anchor(vertex=300), about="path")
    welded = editor.surface.welded
    assert one[welded[300]] == 0 and one.argmax() != welded[300]
    mirror = Mirror((1.0, 0.0, 0.0))
    _, both = row(editor, Anchor(vertex=300), about="path", mirrors=(mirror,))
    image = mesh.vertices[300] * torch.tensor([-1.0, 1.0, 1.0])
    nearest = (editor.surface.positions - image).norm(dim=1).argmin()
    assert both[nearest] == 0 and one[nearest] > 0.1
    assert (both <= one + 1e-3 * one.max()).all()
    editor.close()


def test_positions_are_answered_with_where_they_lie_on_the_surface() -> None:
    mesh = blob(1)
    editor = editor_of(mesh)
    at = mesh.vertices[mesh.faces[2500]].mean(0)
    x, y, z = at.tolist()
    header, _ = row(editor, Anchor(position=(x, y, z)))
    assert header["face"] == 2500
    assert header["barycentric"] == pytest.approx([1 / 3] * 3, abs=1e-6)
    assert header["center"] == pytest.approx(at.tolist())
    editor.close()


def test_what_the_mesh_does_not_have_is_said() -> None:
    editor = editor_of(blob(1))
    with pytest.raises(InputError, match="is not of the mesh, whose vertices are 0 to"):
        row(editor, Anchor(vertex=10**6))
    with pytest.raises(InputError, match="session is for the mesh"):
        editor.change(Session(mesh="0123456789abcdef"))
    editor.close()
    waiting = Editor(blob(1), Session())
    with pytest.raises(InputError, match="still being found"):
        row(waiting, Anchor(vertex=1))
    waiting.close()


# Pages


async def client_of(editor: Editor) -> TestClient:
    described = describe_edit(editor.mesh, editor.surface, Path("my shape.1.glb"))
    page = b"<html><!--scene--></html>"
    exhibit = Exhibit(page, MeshView(editor.mesh), described, TOKEN, "127.0.0.1", editor)
    client = TestClient(TestServer(make_app(exhibit)))
    await client.start_server()
    return client


async def page_of(client: TestClient) -> ClientWebSocketResponse:
    origin = f"http://{client.host}:{client.port}"
    return await client.ws_connect(f"/socket?token={TOKEN}", headers={"Origin": origin})


async def said(page: ClientWebSocketResponse) -> dict[str, Any]:
    return json.loads((await page.receive(timeout=20)).data)


def edit_of(session: Session, id: int = 1) -> str:
    return json.dumps({"type": "edit", "id": id, "session": session_to_dict(session)})


def test_pages_are_told_what_the_others_do() -> None:
    async def main() -> None:
        kept: list[Session] = []
        editor = Editor(blob(1), Session(), kept.append)
        client = await client_of(editor)
        one, two = await page_of(client), await page_of(client)
        for page in (one, two):
            assert (await said(page))["type"] == "progress"
            first = await said(page)
            assert first["session"]["handles"] == []
        editor.advance("lite0, views", 3, 24)
        assert await said(one) == await said(two)
        assert isinstance(editor.state()[0], ProgressMessage)
        editor.bring(features_of(editor.mesh))
        assert (await said(one))["teacher"] == (await said(two))["teacher"] == "waves"
        await one.send_str(edit_of(LIFT))
        assert await said(one) == {"type": "accepted", "id": 1}
        told = await said(two)
        assert told["session"] == session_to_dict(LIFT)
        assert kept[0].mesh == editor.digest and kept[0].handles == LIFT.handles
        late = await page_of(client)
        assert (await said(late))["type"] == "ready"
        assert (await said(late))["session"] == session_to_dict(LIFT)
        await client.close()

    asyncio.run(main())


def test_an_edit_of_another_mesh_fails_and_a_malformed_one_ends_the_page() -> None:
    async def main() -> None:
        client = await client_of(editor_of(blob(1)))
        one, two = await page_of(client), await page_of(client)
        for page in (one, two):
            assert [(await said(page))["type"] for _ in range(2)] == ["ready", "edit"]
        await one.send_str(edit_of(Session(mesh="0123456789abcdef"), id=5))
        failure = await said(one)
        assert failure["type"] == "failure" and failure["id"] == 5
        await one.send_str('{"type": "edit", "id": 1, "session": {"handels": []}}')
        ended = await one.receive(timeout=20)
        assert ended.type == WSMsgType.CLOSE and ended.data == 1008
        assert "unknown key 'handels'" in str(ended.extra)
        await two.send_str('{"type": "mirrors", "id": 9}')
        assert (await said(two))["id"] == 9
        await client.close()

    asyncio.run(main())


def test_a_polish_is_the_polished_edit() -> None:
    mesh = blob(1)
    editor = editor_of(mesh)
    session = Session(handles=LIFT.handles, rigidity=2)
    kind, header, data = unpack(asyncio.run(editor.polished(3, session)))
    found = torch.from_numpy(np.frombuffer(data, "<f4").reshape(-1, 3).astype(np.float64))
    middle = (mesh.vertices.amax(0) + mesh.vertices.amin(0)) / 2
    wanted = apply(session, mesh, features_of(mesh).whitened()).vertices[editor.surface.first]
    assert kind == "positions" and header["count"] == len(found)
    assert float((found + middle - wanted).abs().max()) < 1e-6
    editor.close()


# Files


async def answer(editor: Editor, path: str, body: str | None = None) -> tuple[int, str, bytes]:
    client = await client_of(editor)
    url = f"{path}{'&' if '?' in path else '?'}token={TOKEN}"
    call = client.get(url) if body is None else client.post(url, data=body)
    async with call as response:
        found = response.status, response.content_type, await response.read()
    await client.close()
    return found


@pytest.mark.parametrize("kind", ["glb", "obj", "ply"])
@pytest.mark.parametrize("weights", ["none", "colors"])
def test_an_exported_mesh_is_the_edited_one(tmp_path: Path, kind: str, weights: str) -> None:
    mesh = textured(blob(1))
    editor = editor_of(mesh)
    body = json.dumps(session_to_dict(LIFT))
    path = f"/export?format={kind}&weights={weights}"
    status, mime, data = asyncio.run(answer(editor, path, body))
    if kind == "obj" and weights == "colors":
        assert status == 422 and b"OBJ" in data
        return
    assert status == 200
    file = tmp_path / f"my_shape.1_deformed.{kind}"
    if mime == "application/zip":
        zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path)
        assert all(path.name.startswith("my_shape.1_deformed") for path in tmp_path.iterdir())
    else:
        file.write_bytes(data)
    found = load_mesh(file)
    edit = apply(LIFT, mesh, features_of(mesh).whitened())
    assert float((found.vertices - edit.vertices).abs().max()) < 1e-6
    textured_still = len(found.materials) == 1 and found.materials[0].texture is not None
    assert textured_still is (weights != "colors")  # they would hide the weights
    if weights == "colors":
        assert found.colors is not None
        red = found.colors[:, 0].float() / 255
        assert float((red - edit.weights[:, 0]).abs().max()) < 0.02


def test_sessions_are_read_and_what_is_wrong_with_them_is_said() -> None:
    yaml = "handles:\n  - vertex: 300\n    translate: [0, 0, 0.5]\n"
    status, _, data = asyncio.run(answer(editor_of(blob(1)), "/session?name=a.yaml", yaml))
    assert status == 200 and json.loads(data) == session_to_dict(LIFT)
    for name, text, reason in (
        ("a.json", "{", "not valid JSON"),
        ("a.yaml", "handels: []", "did you mean 'handles'"),
        ("a.json", '{"mesh": "0123"}', "a.json: the session is for the mesh 0123"),
        ("a.yaml", "anchors: [{vertex: 99999}]", "a.yaml: anchors[0]: vertex 99999"),
    ):
        path = f"/session?name={name}"
        status, _, data = asyncio.run(answer(editor_of(blob(1)), path, text))
        assert status == 422 and reason in data.decode()


def test_colours_of_features_come_once_these_are_there() -> None:
    editor = editor_of(blob(1))
    status, _, data = asyncio.run(answer(editor, "/features"))
    colors = np.frombuffer(data, np.uint8).reshape(-1, 4)
    assert status == 200 and len(colors) == len(editor.surface.positions)
    assert (colors[:, 3] == 255).all() and colors[:, :3].std(axis=0).min() > 10
    waiting = Editor(blob(1), Session())
    assert asyncio.run(answer(waiting, "/features"))[0] == 422


def test_a_mesh_with_seams_and_several_materials_is_described_by_its_surface() -> None:
    mesh = joined(blob(1), moved(blob(2), 3)[0])
    number = torch.arange(len(mesh.faces)) % 2
    both = textured(mesh)
    two = Mesh(mesh.vertices, mesh.faces, both.uv, None, both.materials * 2, number)
    editor = editor_of(two)
    described = describe_edit(two, editor.surface, Path("a.glb"))
    arrays = {name: np.frombuffer(a.data, TYPES[a.dtype]) for name, a in described.arrays.items()}
    places, order = arrays["place"], arrays["order"]
    positions = arrays["positions"].reshape(-1, 3) + np.array(described.origin)
    assert np.abs(positions[places] - two.vertices.numpy()).max() < 1e-6
    faces = arrays["faces"].reshape(-1, 3)
    assert (two.faces.numpy()[order] == faces).all() and (np.sort(order) == range(len(faces))).all()
    assert described.manifest()["digest"] == mesh_digest(two)
    editor.close()


TYPES = {"float32": "<f4", "uint32": "<u4", "uint8": "u1"}


def test_features_that_say_nothing_are_not_there_afterwards() -> None:
    mesh = blob(2)
    editor = Editor(mesh, Session())
    told = []
    editor.told = told.append
    alike = replace(features_of(mesh), features=torch.ones(len(mesh.vertices), 3))
    with pytest.raises(InputError, match="the same all over"):
        editor.bring(alike)
    editor.give_up("they say nothing")
    assert [message.type for message in told] == ["failure"]
    assert [message.type for message in editor.state()] == ["failure", "edit"]
    with pytest.raises(InputError, match="still being found"):
        editor.mirrors()
    editor.bring(features_of(mesh))
    assert [message.type for message in editor.state()] == ["ready", "edit"]
    with pytest.raises(InputError, match=r"no mirror plane.*: the edit goes on without"):
        editor.mirrors()
    editor.close()


def test_an_edit_to_begin_with_must_fit() -> None:
    far = Session(handles=(Handle(vertex=10**6),))
    with pytest.raises(InputError, match=r"handles\[0\]: vertex 1000000 is not"):
        Editor(blob(2), far)
