"""`geodistill detect` on scans that have other values of a point than the detector."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodistill.cli import main
from geodistill.io.scans import write_scan
from geodistill.nn.anchor_detector import Choice
from geodistill.nn.detector_files import save_detector
from geodistill.nn.detector_kinds import new_detector
from tests.fit.small_recipe import RECIPE


@pytest.fixture(scope="module", params=[4, 5])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    choice = Choice(least_score=0.0, most=5)
    settings = replace(RECIPE.detector, values=request.param, choice=choice)
    path = tmp_path_factory.mktemp("model") / "detector.safetensors"
    save_detector(path, new_detector(settings))
    return path


def boxes(capsys: pytest.CaptureFixture[str], scan: Path, model: Path, *more: str) -> list[Any]:
    assert main(["detect", str(scan), "--model", str(model), "--json", "--quiet", *more]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])["boxes"]


def test_scans_of_fewer_and_of_more_values(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing is 0, as in training on scans of three values; what is too many is cut."""
    random = np.random.default_rng(0)
    xyz = random.uniform((5, -10, -2, 0), (25, 10, 0, 0), (3000, 4)).astype(np.float32)
    wide = np.pad(xyz, ((0, 0), (0, 2)))
    write_scan(tmp_path / "three.bin", xyz[:, :3])
    write_scan(tmp_path / "six.bin", wide)
    np.save(tmp_path / "three.npy", xyz[:, :3])
    np.save(tmp_path / "six.npy", wide)
    wanted = boxes(capsys, tmp_path / "six.npy", model)
    assert len(wanted) == 5
    for name, values in (("three.bin", 3), ("three.npy", 3), ("six.bin", 6), ("six.npy", 4)):
        assert boxes(capsys, tmp_path / name, model, "--values", str(values)) == wanted
    write_scan(tmp_path / "sweep.pcd.bin", np.column_stack([xyz, np.arange(3000) % 32]))
    assert boxes(capsys, tmp_path / "sweep.pcd.bin", model) == wanted  # without the beams' numbers
    sweep = ("detect", str(tmp_path / "sweep.pcd.bin"), "--model", str(model), "--values", "4")
    assert main([*sweep]) == 2
    assert "is a sweep of nuScenes, whose points have 5 values" in capsys.readouterr().err
    assert main(["detect", str(tmp_path / "three.npy"), "--model", str(model)]) == 1
    assert "or wider, got [3000, 3]" in capsys.readouterr().err
    assert main(["detect", str(tmp_path / "six.npy"), "--model", str(model), "--values", "2"]) == 2
    assert "--values must be from 3 to 64, got 2" in capsys.readouterr().err
