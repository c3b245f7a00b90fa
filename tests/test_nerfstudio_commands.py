"""What the verbs make of a run folder of nerfstudio and of gsplat's checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodistill.cli import main
from geodistill.cli.conversion import load_source
from geodistill.cli.convert import Arguments
from geodistill.geometry.fields import load_field
from geodistill.geometry.splats import Splats, load_splats, save_splats, transformed
from geodistill.io.nerfstudio import user_from_run
from geodistill.io.posed import load_cameras
from geodistill.lift.scenes import load_scene
from tests.io import layouts
from tests.io.nerfstudio_samples import settings, turn, write_run
from tests.io.test_field_nerfstudio import mlp_state
from tests.test_export import cloud


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of splatfacto whose world is turned and scaled, and the same splats as they were."""
    monkeypatch.chdir(tmp_path)
    splats, (R, t, scale) = cloud(200), (turn(3), np.array([0.2, -0.1, 0.4]), 0.3)
    save_splats("user.ply", splats)
    write_run(tmp_path / "blank", {}, settings("splatfacto", {}), (R, t, scale))
    there = transformed(splats, user_from_run(tmp_path / "blank").inverse())
    state = {
        "gauss_params.means": there.means,
        "gauss_params.scales": there.log_scales,
        "gauss_params.quats": there.rotations,
        "gauss_params.opacities": there.opacity_logits[:, None],
        "gauss_params.features_dc": there.sh[:, 0],
        "gauss_params.features_rest": there.sh[:, 1:],
    }
    write_run(tmp_path / "run", state, settings("splatfacto", {}), (R, t, scale))
    columns = {
        "means": splats.means,
        "scales": splats.log_scales,
        "quats": splats.rotations,
        "opacities": splats.opacity_logits,
        "sh0": splats.sh[:, :1],
        "shN": splats.sh[:, 1:],
    }
    torch.save({"step": 1, "splats": columns}, tmp_path / "ckpt_1_rank0.pt")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["run", "run/config.yml", "ckpt_1_rank0.pt"])
def test_info(here: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    found = told(capsys, "info", name)
    assert (found["kind"], found["splats"], found["sh_degree"]) == ("Gaussian splats", 200, 3)


@pytest.mark.parametrize("name", ["run", "run/config.yml", "ckpt_1_rank0.pt"])
def test_export_lands_in_the_users_world(
    here: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    told(capsys, "export", name, "-o", "out.ply")
    found, splats = load_splats("out.ply"), load_splats("user.ply")
    torch.testing.assert_close(found.means, splats.means, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.sh, splats.sh, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.log_scales, splats.log_scales, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["run", "run/config.yml"])
def test_convert_takes_the_run(here: Path, name: str) -> None:
    """And knows it again by its checkpoint."""
    scene, file = load_source(Arguments(source=Path(name), to="tensorf"))
    assert isinstance(scene, Splats) and len(scene.means) == 200
    assert file.resolve() == here / "run/nerfstudio_models/step-000029999.ckpt"


def test_compare(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "compare", "user.ply", "run", "--views", "2", "--resolution", "48")
    assert found["psnr_db"] is None or found["psnr_db"] > 60
    size = (here / "run/nerfstudio_models/step-000029999.ckpt").stat().st_size
    assert found["bytes"] == size


def test_render(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "render", "run/config.yml", "--orbit", "1", "--resolution", "32")
    assert [path.name for path in (here / "run_views").iterdir()] == ["0000.png"]


def test_a_run_can_be_lifted_onto(here: Path) -> None:
    scene = load_scene("run")
    assert scene.kind == "splats"
    torch.testing.assert_close(
        scene.positions.float(), load_splats("user.ply").means, atol=1e-5, rtol=0
    )


def test_a_folder_of_something_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "empty").mkdir()
    assert main(["info", "empty"]) == 1
    assert "has no field.safetensors" in capsys.readouterr().err


def test_a_field_knows_the_cameras_of_its_run(here: Path) -> None:
    layouts.write_nerfstudio(here / "data/lego", layouts.scene())
    run = write_run(here / "out/lego", mlp_state(), settings("vanilla-nerf", {}))
    views = load_field(run).views
    assert views is not None
    expected = load_cameras(here / "data/lego", "train").cameras
    torch.testing.assert_close(views.world_from_cam, expected.world_from_cam)
