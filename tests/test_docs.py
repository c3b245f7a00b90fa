"""Documentation: its commands are commands, its Python runs, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import torch

import geodistill
from geodistill import cli
from geodistill.cli.arguments import parse
from geodistill.geometry.fields import build_field, save_field
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.mesh_files import load_mesh, save_mesh
from geodistill.io.scans import write_scan
from geodistill.lift.files import save_features
from geodistill.nn.anchor_detector import AnchorDetector, AnchorSettings
from geodistill.nn.detector_files import save_detector
from geodistill.nn.voxels import VoxelGrid
from geodistill.viewer import page
from tests.deform.shapes import blob
from tests.viewer.editing import features_of

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
INLINE = re.compile(r"`(geodistill [^`]+)`")
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#]+)\)")


SMALL_DETECTOR = AnchorSettings(
    compression=16,
    grid=VoxelGrid((0.0, -2.56, -3.0), (5.12, 2.56, 1.0), (0.32, 0.32, 4.0), 32, 100),
)


def blocks(kind: str) -> list[str]:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    return [body for text in texts for language, body in BLOCK.findall(text) if language == kind]


def commands() -> list[str]:
    """Every geodistill command line in blocks, in prose, and in the program's own help."""
    prose = [c for page in PAGES for c in INLINE.findall(page.read_text(encoding="utf-8"))]
    lines = [line for text in [*blocks("sh"), cli.HELP] for line in text.splitlines()]
    shown = [line[line.index("geodistill ") :] for line in lines if "geodistill " in line]
    found = [c for c in [*prose, *shown] if "ARGUMENTS" not in c and len(c.split()) > 2]
    return sorted({c for c in found if c.split()[1] in cli.VERBS})


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 8


@pytest.mark.parametrize("command", commands())
def test_every_command_shown_is_understood(command: str) -> None:
    verb, *arguments = shlex.split(command.replace("OUT", "out"))[1:]
    arguments = ["ngp" if word == "NAME" else word for word in arguments]
    module = import_module(cli.VERBS[verb])
    assert parse(module.Arguments, arguments, f"geodistill {verb}") is not None


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    field = build_field("ngp", NgpConfig(levels=2, log2_size=8, max_resolution=32))
    save_field(field, tmp_path / "field.safetensors")
    (tmp_path / "bundled_tensorf").mkdir()
    (tmp_path / "field.safetensors").rename(tmp_path / "bundled_tensorf" / "field.safetensors")
    save_mesh(tmp_path / "dragon.glb", blob(2))
    mesh = load_mesh(tmp_path / "dragon.glb")
    save_features(tmp_path / "dragon.safetensors", features_of(mesh))
    (tmp_path / "index.html").write_bytes(b"<html><!--scene--></html>")
    monkeypatch.setattr(page, "PAGE", tmp_path / "index.html")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "DONE").write_text("{}")
    save_detector(tmp_path / "student" / "detector.safetensors", AnchorDetector(SMALL_DETECTOR))
    write_scan(tmp_path / "scan.bin", torch.rand(10, 4).numpy())
    shapes = {"density": (10,), "posed": mesh.vertices.shape, "scan": (10, 4)}
    found = set()
    for body in blocks("python"):
        names = {"points": torch.rand(10, 3) - 0.5, "geodistill": geodistill}
        exec(compile(body, "documentation", "exec"), names)
        made = shapes.keys() & names.keys()
        assert made and all(names[name].shape == shapes[name] for name in made)
        found |= made
    assert found == shapes.keys()


def test_links_lead_somewhere() -> None:
    for text in PAGES:
        for target in LINK.findall(text.read_text(encoding="utf-8")):
            assert (text.parent / target).exists(), f"{text.name} links to {target}"
