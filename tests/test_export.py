"""`geodistill export`: the same geometry under every ending, in every frame."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from geodistill.cameras import sphere_cameras
from geodistill.cli import main
from geodistill.geometry.axes import Axes, turn
from geodistill.geometry.mesh_files import load_mesh, load_mesh_with_attributes, save_mesh
from geodistill.geometry.points import Points, load_points, save_points
from geodistill.geometry.splats import (
    Splats,
    load_splats,
    load_splats_with_attributes,
    save_splats,
    transformed,
)
from geodistill.lift.scenes import load_scene as lifted_scene
from geodistill.metrics.image import psnr
from geodistill.render.splats import render_splats
from tests.geometry.solids import everything

NAMES = ("means", "rotations", "log_scales", "opacity_logits", "sh")
AXES: tuple[Axes, ...] = ("opencv", "opengl", "blender", "y-up", "z-up")


def cloud(count: int = 400, degree: int = 3) -> Splats:
    draw = torch.Generator().manual_seed(1)
    return Splats(
        torch.randn(count, 3, generator=draw),
        F.normalize(torch.randn(count, 4, generator=draw), dim=1),
        torch.randn(count, 3, generator=draw) * 0.3 - 2.5,
        torch.randn(count, generator=draw),
        torch.randn(count, (degree + 1) ** 2, 3, generator=draw) * 0.2,
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_splats("s.ply", cloud(), {"label": torch.arange(400.0)})
    save_mesh("m.glb", everything(), {"heat": torch.arange(len(everything().vertices)).float()})
    normals = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    save_points("p.ply", Points(torch.rand(3, 3).double(), None, normals))
    return tmp_path


def export(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["export", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def picture(splats: Splats) -> torch.Tensor:
    camera = sphere_cameras(3, (0.0, 0.0, 0.0), 6.0, math.radians(40), (96, 96), 0)[1]
    return render_splats(splats, camera, 1.0).image.clamp(0, 1)


@pytest.mark.parametrize(
    ("ending", "db"),
    [("glb", 80), ("compressed.ply", 30), ("spz", 34), ("sog", 25), ("splat", 12), ("ply", 99)],
)
def test_splats_look_the_same_in_every_format(
    here: Path, capsys: pytest.CaptureFixture[str], ending: str, db: float
) -> None:
    said = export(capsys, "s.ply", "-o", f"out.{ending}")
    assert (said["splats"], said["of"]) == (400, 400)
    assert said["bytes"] == Path(f"out.{ending}").stat().st_size
    export(capsys, f"out.{ending}", "-o", "back.ply")
    back = load_splats("back.ply")
    assert back.degree == (0 if ending == "splat" else 3)
    assert psnr(picture(back), picture(cloud())) > db


def test_unknown_columns_ride_along(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(capsys, "s.ply", "-o", "t.ply", "--max-splats", "50")
    label = load_splats_with_attributes("t.ply")[1]["label"].long()
    assert len(label) == 50
    torch.testing.assert_close(load_splats("t.ply").means, cloud().means[label])


@pytest.mark.parametrize("axes", AXES)
def test_frames_can_be_entered_and_left(
    here: Path, capsys: pytest.CaptureFixture[str], axes: Axes
) -> None:
    export(capsys, "s.ply", "-o", "turned.ply", "--frame", axes)
    export(capsys, "turned.ply", "-o", "back.ply", "--from-frame", axes, "--frame", "opencv")
    assert psnr(picture(load_splats("back.ply")), picture(cloud())) > 50
    wanted = transformed(cloud(), turn("opencv", axes))
    torch.testing.assert_close(load_splats("turned.ply").means, wanted.means)


def test_what_is_up_stays_up() -> None:
    down = torch.tensor([[0.0, 1, 0]], dtype=torch.float64)  # in OpenCV's axes
    assert turn("opencv", "y-up").apply(down).tolist() == [[0, -1, 0]]
    assert turn("opencv", "z-up").apply(down).tolist() == [[0, 0, -1]]
    ahead = torch.tensor([[0.0, 0, 1]], dtype=torch.float64)
    assert turn("opencv", "opengl").apply(ahead).tolist() == [[0, 0, -1]]
    assert turn("opencv", "blender").apply(ahead).tolist() == [[0, 1, 0]]
    assert torch.linalg.det(turn("y-up", "z-up").R) == 1


def test_a_mesh_keeps_its_columns(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = export(capsys, "m.glb", "-o", "m.ply", "--frame", "z-up")
    before, after = load_mesh("m.glb"), load_mesh("m.ply")
    assert said["beside"] == ["m_0.png", "m_2.png"] and torch.equal(after.faces, before.faces)
    wanted = turn("y-up", "z-up").apply(before.vertices)
    torch.testing.assert_close(after.vertices, wanted)
    heat = load_mesh_with_attributes("m.ply")[1]["heat"]
    assert torch.equal(heat, torch.arange(len(heat)).float())


def test_what_obj_cannot_hold_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh = everything()
    assert mesh.colors is not None
    save_mesh("clear.glb", mesh)
    mesh.colors[:, 3] = 255
    save_mesh("opaque.glb", mesh)
    lost = {"opaque": "", "clear": "the alpha of its colours"}
    lost["m"] = f"the attributes heat and {lost['clear']}"
    for name, what in lost.items():
        assert main(["export", f"{name}.glb", "-o", "out.obj", "--overwrite"]) == 0
        said = [line for line in capsys.readouterr().err.splitlines() if "cannot hold" in line]
        assert said == ([f"out.obj: OBJ cannot hold {what}: left out"] if what else [])


def test_points_turn_with_their_normals(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(capsys, "p.ply", "-o", "q.npz", "--frame", "y-up")
    before, after = load_points("p.ply"), load_points("q.npz")
    assert before.normals is not None and after.normals is not None
    change = torch.tensor([1.0, -1, -1])
    torch.testing.assert_close(after.normals, before.normals * change)
    torch.testing.assert_close(after.positions, before.positions * change.double())


def test_less_of_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(capsys, "s.ply", "-o", "c.ply", "--crop", "-1,-1,-1,0,1,1")
    means = load_splats("c.ply").means
    assert 0 < len(means) < 400 and float(means[:, 0].max()) <= 0 and float(means.abs().max()) <= 1
    export(capsys, "s.ply", "-o", "d.ply", "--prune", "0.5")
    assert len(load_splats("d.ply")) == int((cloud().opacity_logits >= 0).sum())
    export(capsys, "s.ply", "-o", "e.ply", "--max-splats", "10")
    kept = load_splats("e.ply")
    cover = (
        cloud().opacity_logits.sigmoid() * cloud().log_scales.sort(dim=1).values[:, 1:].sum(1).exp()
    )
    smallest = (
        kept.opacity_logits.sigmoid() * kept.log_scales.sort(dim=1).values[:, 1:].sum(1).exp()
    )
    assert int((cover > smallest.min() * 0.999).sum()) == 10


def test_a_finished_run_is_its_result_to_every_reader(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("m.glb", "s.ply"):
        run = here / f"{name}.run"
        run.mkdir()
        (run / "DONE").write_text("{}")
        kinds = {"m.glb": "MeshScene", "s.ply": "SplatScene"}
        assert type(lifted_scene(run)).__name__ == kinds[name]
        export(capsys, f"{name}.run", "-o", f"out{Path(name).suffix}")
        assert main(["export", f"{name}.run", "-o", name, "--overwrite"]) == 2
        assert f"{name} is read from" in capsys.readouterr().err


def test_floaters_are_left_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = {n: torch.cat([getattr(cloud(), n), getattr(cloud(30), n)]) for n in NAMES}
    both["means"] = torch.cat([cloud().means * 0.1, cloud(30).means * 0.02 + 40])
    save_splats("both.ply", Splats(**both), {"label": torch.arange(430.0)})
    said = export(capsys, "both.ply", "-o", "one.ply", "--floaters", "0.2")
    assert (said["splats"], said["of"]) == (400, 430)
    assert torch.equal(load_splats_with_attributes("one.ply")[1]["label"], torch.arange(400.0))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["s.ply", "-o", "s.xyz"], 2, "no splat format has"),
        (["s.ply", "-o", "s.ksplat"], 2, "cannot write splats as s.ksplat"),
        (["m.glb", "-o", "m.stl"], 2, "m.stl"),
        (["p.ply", "-o", "p.glb"], 2, "`convert --to splats` makes splats of them"),
        (["s.ply", "-o", "s.ply"], 2, "is read from"),
        (["s.ply", "-o", "p.ply"], 2, "p.ply exists"),
        (["no.ply", "-o", "t.ply"], 1, "no.ply does not exist"),
        (["no.spz", "-o", "t.ply"], 1, "no.spz does not exist"),
        (["no.ingp", "-o", "t.ply"], 1, "no.ingp does not exist"),
        (["no/config.yml", "-o", "t.ingp"], 1, "no/config.yml does not exist"),
        (["s.ply", "-o", "no/no/config.yml"], 1, "the folder no does not exist"),
        (["s.ply", "-o", "t.ply", "--crop", "9,9,9,10,10,10"], 2, "nothing of s.ply is left"),
        (["s.ply", "-o", "t.ply", "--crop", "1,2"], 2, "--crop takes six numbers"),
        (["s.ply", "-o", "t.ply", "--crop", "1,1,1,0,2,2"], 2, "must lie beyond the first"),
        (["s.ply", "-o", "t.ply", "--prune", "7"], 2, "--prune must lie between"),
        (["s.ply", "-o", "t.ply", "--floaters", "1"], 2, "--floaters is a share between"),
        (["s.ply", "-o", "t.ply", "--max-splats", "0"], 2, "--max-splats must be at least 1"),
        (["s.ply", "-o", "t.ply", "--from-frame", "y-up"], 2, "give both"),
        (["m.glb", "-o", "t.ply", "--prune", "0.1"], 2, "are for splats"),
        (["m.glb", "-o", "t.ply", "--crop", "0,0,0,1,1,1"], 2, "--crop is for points and splats"),
    ],
)
def test_bad_exports_leave_nothing_behind(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    assert main(["export", *arguments]) == code
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before


@pytest.mark.parametrize(
    "source", ["run", "run/config.yml", "run/nerfstudio_models/step-000000000.ckpt"]
)
def test_a_run_is_not_replaced_by_what_is_read_of_it(
    here: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    said = export(capsys, "s.ply", "-o", "run/config.yml")  # whose folder is made
    checkpoint = here / "run/nerfstudio_models/step-000000000.ckpt"
    assert said["bytes"] == sum(f.stat().st_size for f in (checkpoint, here / "run/config.yml"))
    before = checkpoint.read_bytes()
    command = ["export", source, "-o", "run/config.yml", "--overwrite", "--max-splats", "5"]
    assert main(command) == 2
    assert "is read from: choose another output" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before
