"""`geodistill view`, and the file that --save writes."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
import urllib.request
import zlib
from pathlib import Path

import pytest
import torch

from geodistill import cli
from geodistill.geometry.fields import build_field, save_field
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.mesh_files import save_mesh
from geodistill.viewer import page
from tests.viewer.viewing import textured_square


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    save_mesh(tmp_path / "sq<are.glb", textured_square())
    return tmp_path / "sq<are.glb"


@pytest.fixture
def field(tmp_path: Path) -> Path:
    made = build_field("ngp", NgpConfig(levels=2, log2_size=8, max_resolution=32))
    save_field(made, tmp_path / "field.safetensors")
    return tmp_path / "field.safetensors"


@pytest.mark.parametrize(
    "argv, text",
    [
        ([], "X is required"),
        (["x", "--port", "70000"], "--port must be from 0 to 65535, got 70000"),
        (["x", "--host", ""], "--host is empty"),
        (["x", "--save", "scene.glb"], "name a file that ends in .html"),
        (["x", "--up", "w"], "'--up' must be one of"),
        (["x", "--save", "a.html", "--port", "1"], "--port and --no-open are for serving"),
        (["x", "--save", "a.html", "--no-open"], "--port and --no-open are for serving"),
    ],
)
def test_bad_usage(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["view", *argv]) == 2
    assert text in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_without_the_page_one_line_says_what_is_missing(
    mesh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "nothing.html")
    assert cli.main(["view", str(mesh)]) == 1
    err = capsys.readouterr().err
    assert "install Node.js 20 or newer with npm" in err and err.count("\n") == 1


def test_what_cannot_be_read_is_said(plain_page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["view", str(plain_page.with_name("nothing.glb"))]) == 1
    assert "does not exist" in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_save_puts_the_scene_into_the_page(mesh: Path, plain_page: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    assert cli.main(["view", str(mesh), "--save", str(out), "--up", "z", "--quiet"]) == 0
    text = out.read_text("utf-8")
    assert text.endswith("<script>start()</script></html>") and "sq<are" not in text
    found = re.search(r'id="scene">(.*?)</script>', text)
    assert found is not None
    scene = json.loads(found[1])
    assert scene["name"] == "sq<are.glb" and scene["up"]["axis"] == [0, 0, 1]
    blob = scene["blobs"]["positions"]
    packed = re.search(rf'id="blob-{blob["sha"]}">(.*?)</script>', text)
    assert packed is not None
    data = torch.frombuffer(
        bytearray(zlib.decompress(base64.b64decode(packed[1]))), dtype=torch.float32
    )
    assert data.reshape(-1, 3).double().tolist() == textured_square().vertices.tolist()


def test_save_replaces_nothing_by_itself(
    mesh: Path, plain_page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.html"
    out.write_text("mine")
    assert cli.main(["view", str(mesh), "--save", str(out)]) == 2
    assert out.read_text() == "mine" and "pass --overwrite" in capsys.readouterr().err
    assert cli.main(["view", str(mesh), "--save", str(out), "--overwrite"]) == 0
    assert out.read_text() != "mine"


def test_a_field_needs_its_server(
    field: Path, plain_page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["view", str(field), "--save", str(tmp_path / "out.html")]) == 2
    assert "convert it to splats or a mesh first" in capsys.readouterr().err
    assert not (tmp_path / "out.html").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are a POSIX notion")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_interrupted(
    mesh: Path, plain_page: Path, stop: signal.Signals
) -> None:
    code = (
        "import sys; from pathlib import Path; from geodistill.viewer import page; "
        f"page.PAGE = Path({str(plain_page)!r}); from geodistill.cli import main; "
        f"sys.exit(main(['view', {str(mesh)!r}, '--no-open', '--port', '0']))"
    )
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", address)
        with urllib.request.urlopen(address) as answer:
            assert answer.read() == plain_page.read_bytes()
        process.send_signal(stop)
        assert process.wait(30) == 0
        assert process.stdout.read().startswith("kind")
        assert process.stderr.read() == "Ctrl-C ends it\n"
