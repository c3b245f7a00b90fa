"""`geodistill deform` without a script: the page, and what is kept of its edits."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from geodistill import cli
from geodistill.deform.session import Anchor, Handle, Session
from geodistill.deform.session_file import load_session, save_session, session_to_dict
from geodistill.geometry.mesh import mesh_digest
from geodistill.geometry.mesh_files import load_mesh, save_mesh
from geodistill.lift.files import save_features
from geodistill.viewer import page
from tests.deform.shapes import blob
from tests.viewer.editing import features_of

TOKEN = "the-token-of-the-deform-tests"
LIFT = Session(handles=(Handle(vertex=300, translate=(0.0, 0.0, 0.5)),))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mesh, its features, and a page that is nothing but the place for the scene."""
    monkeypatch.chdir(tmp_path)
    save_mesh("shape.glb", blob(1))
    save_features(Path("shape.safetensors"), features_of(load_mesh("shape.glb")))
    Path("page.html").write_bytes(b"<html><!--scene--></html>")
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.html")
    return tmp_path


@pytest.fixture
def served(folder: Path) -> Iterator[str]:
    """The address of the command in a process of its own."""
    code = (
        "import sys; from pathlib import Path; from geodistill.viewer import page; "
        "page.PAGE = Path('page.html'); from geodistill.cli import main; sys.exit(main(["
        "'deform', 'shape.glb', '--features', 'shape.safetensors', '--session', 'edit.json', "
        "'--no-open', '--port', '0']))"
    )
    environment = {**os.environ, "GEODISTILL_TOKEN": TOKEN}
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()
        assert process.wait(30) == 0


def test_edits_of_the_page_are_kept_in_the_session(served: str) -> None:
    async def main() -> None:
        async with aiohttp.ClientSession() as client:
            url, origin = served.replace("/?", "/socket?"), served.split("/?")[0]
            async with client.ws_connect(url, headers={"Origin": origin}) as socket:
                kinds = []
                while "ready" not in kinds or "edit" not in kinds:
                    kinds.append(json.loads(await socket.receive_str(timeout=60))["type"])
                session = session_to_dict(LIFT)
                await socket.send_str(json.dumps({"type": "edit", "id": 1, "session": session}))
                answer = json.loads(await socket.receive_str(timeout=60))
                assert answer == {"type": "accepted", "id": 1}

    asyncio.run(main())
    kept = load_session("edit.json")
    assert kept.handles == LIFT.handles and kept.mesh == mesh_digest(load_mesh("shape.glb"))


@pytest.mark.parametrize(
    "argv, code, text",
    [
        (["--session", "no/edit.json"], 1, "its folder does not exist"),
        (["--session", "shape.glb"], 2, "sessions are written as .yaml, .yml, .json"),
        (["--session", "s.txt"], 2, "--session s.txt: sessions are written as .yaml, .yml, .json"),
        (["--session", "other.json"], 1, "other.json: the session is for the mesh"),
        (["--session", "far.json"], 1, "far.json: anchors[0]: vertex 99999 is not of the mesh"),
        (["--script", "a.yaml", "--save-session", "s.txt"], 2, "--save-session s.txt: sessions"),
        (["--port", "-1"], 2, "--port must be from 0"),
        (["-o", "out.glb"], 2, "--output needs --script"),
        (["--symmetric"], 2, "--symmetric needs --script"),
        (["--script", "a.yaml", "--no-open"], 2, "--no-open is for the page"),
        (["--script", "a.yaml", "--skin", "-o", "a.ply"], 2, "only GLB holds one"),
        (["--script", "a.yaml", "--skin", "--weights"], 2, "leave --weights out"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    folder: Path, argv: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_session("other.json", Session(mesh="0123456789abcdef"))
    save_session("far.json", Session(anchors=(Anchor(vertex=99999),)))
    assert cli.main(["deform", "shape.glb", *argv]) == code
    said = capsys.readouterr().err
    assert text in said and len(said.splitlines()) == 1


def test_without_the_page_scripts_work_and_the_page_is_missed_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page.PAGE.unlink()
    assert cli.main(["deform", "shape.glb"]) == 1
    said = capsys.readouterr().err
    assert "install Node.js" in said and len(said.splitlines()) == 1
    save_session("edit.json", LIFT)
    command = ["deform", "shape.glb", "--script", "edit.json", "--features", "shape.safetensors"]
    assert cli.main([*command, "--skin", "-o", "out.glb", "--resolution", "64"]) == 0
    read, rest = load_mesh("out.glb"), load_mesh("shape.glb")  # as its joints pose it
    assert float((read.vertices - rest.vertices).norm(dim=1).max()) == pytest.approx(0.5, abs=1e-3)
