"""`geodistill deform` from a script to files: what moves is what the script says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from geodistill.cli import main
from geodistill.deform.session import apply
from geodistill.deform.session_file import load_session
from geodistill.geometry.mesh import Material, Mesh, mesh_digest
from geodistill.geometry.mesh_files import load_mesh, load_mesh_with_attributes, save_mesh
from geodistill.lift.files import FeatureSet, load_features, save_features
from tests.deform.shapes import blob, box, grid, sphere, waves

SCRIPT = """
handles:
  - vertex: 60
    translate: [0.0, 0.0, 0.5]
anchors:
  - vertex: 0
"""


def textured(mesh: Mesh) -> Mesh:
    """The mesh with one texture, looked up by where it is."""
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    uv = ((mesh.vertices - low) / (high - low).clamp_min(1e-9))[:, :2].float()
    texture = torch.full((4, 4, 4), 255, dtype=torch.uint8)
    texture[..., :3] = torch.arange(48, dtype=torch.uint8).reshape(4, 4, 3) * 5
    material = Material("paint", (1.0, 1.0, 1.0, 1.0), texture)
    none = torch.zeros(len(mesh.faces), dtype=torch.int64)
    return Mesh(mesh.vertices, mesh.faces, uv, None, (material,), none)


@pytest.fixture
def sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A textured mesh with features and a script beside it."""
    monkeypatch.chdir(tmp_path)
    lay(textured(grid(11, 11, (2.0, 2.0))))
    Path("edits.yaml").write_text(SCRIPT)
    return tmp_path


def lay(mesh: Mesh, looks: Callable[[Tensor], Tensor] = waves) -> None:
    """The mesh as shape.glb, with features of where its vertices are."""
    save_mesh("shape.glb", mesh)
    kept = load_mesh("shape.glb")
    seen = torch.ones(len(kept.vertices)).bool()
    found = FeatureSet(looks(kept.vertices), seen, "mesh", mesh_digest(kept), "waves", "feed")
    save_features(Path("shape.safetensors"), found)


COMMAND = ["deform", "shape.glb", "--script", "edits.yaml", "--features", "shape.safetensors"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*COMMAND, "--resolution", "48", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply"])
def test_vertices_move_and_the_texture_stays(
    sheet: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    said = run(capsys, "-o", f"out{suffix}")
    assert (said["output"], said["handles"], said["mirrors"]) == (f"out{suffix}", 1, [])
    assert Path(said["sheet"]).is_file() and 0.01 < said["moved"] < 1
    before, after = load_mesh("shape.glb"), load_mesh(f"out{suffix}")
    features = load_features("shape.safetensors").directions()
    wanted = apply(load_session("edits.yaml"), before, features)
    torch.testing.assert_close(after.vertices, wanted.vertices, atol=1e-6, rtol=0)
    assert torch.equal(after.faces, before.faces) and after.uv is not None
    torch.testing.assert_close(after.uv, before.uv, atol=1e-6, rtol=0)
    (new,), (old,) = after.materials, before.materials
    assert new.texture is not None and torch.equal(new.texture, old.texture)
    limit = 1e-6 * float(before.vertices.amax(0).sub(before.vertices.amin(0)).norm())
    moved = after.vertices - before.vertices
    assert float((moved[60] - torch.tensor([0, 0, 0.5])).norm()) < limit
    assert float(moved[0].norm()) < limit


def test_each_format_has_its_own_sheet(sheet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheets = [run(capsys, "-o", f"out{ending}")["sheet"] for ending in (".glb", ".obj")]
    assert sheets == ["out.glb_sheet.png", "out.obj_sheet.png"]
    Path("out.ply_sheet.png").write_bytes(b"mine")
    Path("kept.json").write_bytes(b"mine")
    for arguments, said in (
        (["-o", "out.ply"], "out.ply_sheet.png exists: choose another -o"),
        (["-o", "a.glb", "--save-session", "kept.json"], "exists: choose another --save-session"),
    ):
        assert main([*COMMAND, *arguments]) == 2
        assert said in capsys.readouterr().err
    assert Path("out.ply_sheet.png").read_bytes() == Path("kept.json").read_bytes() == b"mine"


def test_a_picture_where_a_texture_would_go_stays(
    sheet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "-o", "out.ply")["beside"] == ["out_0.png"]
    Path("mine_0.png").write_bytes(b"mine")
    assert main([*COMMAND, "-o", "mine.ply"]) == 2
    assert "mine_0.png exists" in capsys.readouterr().err
    assert Path("mine_0.png").read_bytes() == b"mine" and not Path("mine.ply").exists()


def test_files_that_the_mesh_names_are_never_replaced(
    sheet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_mesh("named.obj", load_mesh("shape.glb"))
    kept = {path.name: path.read_bytes() for path in sheet.glob("named*")}
    assert sorted(kept) == ["named.mtl", "named.obj", "named_0.png"]
    command = ["deform", "named.obj", "--script", "edits.yaml", "--features", "shape.safetensors"]
    for output in ("named.ply", "named_0.obj"):
        if output == "named_0.obj":
            Path("named_0_0.png").write_bytes(Path("named_0.png").read_bytes())
            text = Path("named.mtl").read_text().replace("named_0.png", "named_0_0.png")
            Path("named.mtl").write_text(text)
        assert main([*command, "-o", output, "--overwrite"]) == 2
        assert "belongs to named.obj: choose another output" in capsys.readouterr().err
        assert Path("named_0.png").read_bytes() == kept["named_0.png"]
        assert not Path(output).exists()


def test_options_that_exclude_each_other(sheet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mirrored.yaml").write_text(SCRIPT + "mirrors:\n  - normal: [0, 0, 1]\n")
    for arguments, message in (
        (["--script", "mirrored.yaml", "--symmetric"], "--symmetric finds mirrors"),
        (["--teacher", "geometric"], "--teacher: --features has been lifted already"),
        (["--views", "3"], "--views: --features has been lifted already"),
    ):
        assert main([*COMMAND, *arguments, "-o", "out.ply"]) == 2
        assert message in capsys.readouterr().err and not Path("out.ply").exists()


def test_an_edit_that_moves_nothing_says_so(
    sheet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("edits.yaml").write_text("handles:\n  - vertex: 60\n")
    assert main([*COMMAND, "--resolution", "32", "-o", "out.ply"]) == 0
    assert "the edit moves nothing" in capsys.readouterr().err


def test_weights_are_attributes(sheet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "-o", "out.ply", "--weights")
    weights = load_mesh_with_attributes("out.ply")[1]["weight"][:, 0]
    assert weights[60] == 1 and weights[0] == 0 and 0 < float(weights.mean()) < 0.9


def test_a_saved_session_does_the_same(sheet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, "-o", "one.glb", "--save-session", "kept.json")
    session = load_session("kept.json")
    assert said["session"] == "kept.json" and session.mesh == mesh_digest(load_mesh("shape.glb"))
    Path("edits.yaml").write_bytes(Path("kept.json").read_bytes())
    run(capsys, "-o", "two.glb")
    assert Path("one.glb").read_bytes() == Path("two.glb").read_bytes()
    lay(textured(grid(9, 9, (2.0, 2.0))))
    assert main([*COMMAND, "-o", "three.glb"]) == 1
    assert "the session is for the mesh" in capsys.readouterr().err


def test_an_edit_mirrors_itself_in_the_planes_of_the_shape(
    sheet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh = box((1.0, 2.0, 3.0))
    for _ in range(4):
        mesh = halved(mesh)
    lay(mesh, lambda x: waves(x.abs()))
    corner = int((mesh.vertices - mesh.vertices.amax(0)).norm(dim=1).argmin())
    handle = f"handles:\n  - vertex: {corner}\n    translate: [0.1, 0.2, 0.3]\n"
    Path("edits.yaml").write_text(handle)
    said = run(capsys, "--symmetric", "-o", "out.ply")
    axes = sorted(
        torch.tensor(mirror["normal"]).abs().argmax().item() for mirror in said["mirrors"]
    )
    assert axes == [0, 1, 2]
    before, after = load_mesh("shape.glb").vertices, load_mesh("out.ply").vertices
    for signs in ((1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)):
        place = before.amax(0) * torch.tensor(signs)
        at = int((before - place).norm(dim=1).argmin())
        wanted = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64) * torch.tensor(signs)
        torch.testing.assert_close(after[at] - before[at], wanted, atol=0.02, rtol=0)


def halved(mesh: Mesh) -> Mesh:
    """Every face in four."""
    corners = mesh.vertices[mesh.faces]
    a, b, c = corners.unbind(1)
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    triangles = torch.cat([torch.stack(part, 1) for part in parts]).reshape(-1, 3)
    vertices, faces = triangles.unique(dim=0, return_inverse=True)
    return Mesh(vertices, faces.view(-1, 3))


def test_a_shape_with_an_axis_names_no_plane(
    sheet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(sphere(40), lambda x: torch.ones(len(x), 4))
    assert main([*COMMAND, "--symmetric", "-o", "out.ply"]) == 1
    said = capsys.readouterr().err
    assert "the same all around an axis" in said and "under 'mirrors' in" in said
    lay(blob(3))
    assert main([*COMMAND, "--symmetric", "-o", "out.ply"]) == 1
    assert "the shape has no mirror plane" in capsys.readouterr().err


def test_features_are_lifted_where_none_are_given(
    sheet: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEODISTILL_CACHE", str(Path("cache").absolute()))
    lay(blob(1))
    Path("edits.yaml").write_text(SCRIPT.replace("60", "900"))
    command = ["deform", "shape.glb", "--script", "edits.yaml", "--teacher", "geometric"]
    assert main([*command, "--resolution", "32", "-o", "out.ply"]) == 0
    before, after = load_mesh("shape.glb").vertices, load_mesh("out.ply").vertices
    torch.testing.assert_close(
        after[900] - before[900], torch.tensor([0, 0, 0.5]).double(), atol=1e-5, rtol=0
    )
    assert "those of the last time" not in capsys.readouterr().err
    assert main([*command, "--resolution", "32", "-o", "again.ply"]) == 0
    assert "those of the last time" in capsys.readouterr().err
    assert torch.equal(load_mesh("again.ply").vertices, after)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--script", "no.yaml"], 1, "no.yaml"),
        (["--script", "bad.yaml"], 1, "bad.yaml: handles[0]: vertex 5000 is not of the mesh"),
        (["--script", "held.yaml"], 1, "held.yaml: anchors[0] holds all of handles[0]"),
        (["-o", "out.stl"], 2, "meshes are written as .glb, .obj, .ply"),
        (["-o", "out.obj", "--weights"], 2, "OBJ has no room for attributes"),
        (["-o", "shape.glb"], 2, "shape.glb is read from"),
        (["-o", "shape.glb", "--overwrite"], 2, "shape.glb is read from"),
        (["-o", "out.ply", "--save-session", "edits.yaml"], 2, "edits.yaml is read from"),
        (["-o", "none/out.ply"], 1, "none"),
        (["--features", "edits.yaml"], 1, "edits.yaml"),
        (["--features", "no.safetensors"], 1, "no.safetensors"),
        (["--views", "0"], 2, "--views must be at least 1"),
    ],
)
def test_bad_edits_leave_nothing_behind(
    sheet: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    Path("bad.yaml").write_text("handles:\n  - vertex: 5000\n    translate: [0, 1, 0]\n")
    Path("held.yaml").write_text("handles:\n  - vertex: 60\nanchors:\n  - vertex: 60\n")
    before = {path.name: path.read_bytes() for path in sheet.iterdir()}
    assert main([*COMMAND, *arguments]) == code
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in sheet.iterdir()} == before


def test_a_script_that_does_not_fit_is_said_before_anything_is_lifted(
    sheet: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEODISTILL_CACHE", str(sheet / "cache"))
    Path("edits.yaml").write_text("handles:\n  - vertex: 5000\n")
    assert main(["deform", "shape.glb", "--script", "edits.yaml", "--teacher", "none"]) == 1
    assert "vertex 5000 is not of the mesh, whose vertices are 0 to 120" in capsys.readouterr().err


def test_features_of_another_mesh_are_refused(
    sheet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("kept.safetensors").write_bytes(Path("shape.safetensors").read_bytes())
    lay(textured(grid(9, 9, (2.0, 2.0))))
    assert main([*COMMAND, "--features", "kept.safetensors", "-o", "out.ply"]) == 1
    assert "features of 121 elements, this mesh has 81" in capsys.readouterr().err
