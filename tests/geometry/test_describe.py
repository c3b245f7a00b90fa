"""What `geodistill info` says of files of points, splats and meshes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from geodistill import cli
from geodistill.geometry.points import Points, save_points
from geodistill.geometry.splats import Splats, save_splats
from geodistill.io.clouds import FORMATS
from geodistill.io.pcd import write_pcd
from geodistill.io.ply import ListColumn
from geodistill.io.ply_write import write_ply
from geodistill.lift.files import FeatureSet, save_features


def info(path: Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, object]:
    assert cli.main(["info", str(path), "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_cloud(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"a{suffix}"
    positions = torch.tensor([[0.0, 1, 2], [3, -1, 2]], dtype=torch.float64)
    colors = torch.full((2, 4), 9, dtype=torch.uint8)
    attributes = {"ring": torch.arange(2.0), "feature": torch.randn(2, 5)}
    save_points(path, Points(positions, colors, None, attributes))
    said = info(path, capsys)
    assert said["kind"] == "point cloud" and said["points"] == 2
    assert said["bounds"] == [[0, -1, 2], [3, 1, 2]]
    assert (said["colors"], said["normals"]) == (True, False)
    assert said["attributes"] == {"ring": 1, "feature": 5}
    assert cli.main(["info", str(path)]) == 0
    assert "point cloud" in capsys.readouterr().out


def test_a_viewpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = {name: np.ones(2, np.float32) for name in ("x", "y", "z")}
    write_pcd(tmp_path / "a.pcd", fields, (1, 2, 3, 1, 0, 0, 0))
    assert info(tmp_path / "a.pcd", capsys)["viewpoint"] == [1, 2, 3, 1, 0, 0, 0]


def test_splats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = torch.nn.functional.normalize(torch.ones(2, 4), dim=1)
    means = torch.tensor([[0.0, 1, 2], [3, -1, 2]])
    splats = Splats(means, one, means, torch.zeros(2), torch.zeros(2, 4, 3))
    save_splats(tmp_path / "a.ply", splats, {"feature": torch.randn(2, 7)})
    said = info(tmp_path / "a.ply", capsys)
    assert (said["kind"], said["splats"], said["sh_degree"]) == ("Gaussian splats", 2, 1)
    assert said["bounds"] == [[0, -1, 2], [3, 1, 2]] and said["attributes"] == {"feature": 7}


def test_a_mesh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vertex = {name: np.arange(3, dtype=np.float32) for name in ("x", "y", "z")}
    face = {"vertex_indices": ListColumn(np.array([3, 3]), np.array([0, 1, 2, 0, 2, 1], np.int32))}
    write_ply(tmp_path / "a.ply", {"vertex": vertex, "face": face})
    said = info(tmp_path / "a.ply", capsys)
    assert (said["kind"], said["vertices"], said["faces"]) == ("mesh", 3, 2)
    assert said["bounds"] == [[0, 0, 0], [2, 2, 2]] and said["colors"] is False
    nothing = {name: values[:0] for name, values in vertex.items()}
    write_ply(tmp_path / "a.ply", {"vertex": nothing, "face": face})
    assert (
        "face 0 refers to vertex 0, but there are 0" in info(tmp_path / "a.ply", capsys, 1)["error"]
    )


def test_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.safetensors"
    found = FeatureSet(torch.randn(5, 3), torch.ones(5).bool(), "mesh", "0123", "lite0", "4567")
    save_features(path, found)
    said = info(path, capsys)
    assert (said["kind"], said["teacher"], said["digest"]) == ("features", "lite0", "0123")
    assert said["tensors"] == {"features": [5, 3], "seen": [5]}


@pytest.mark.parametrize("name", ["a.ply", "a.pcd", "a.xyz", "a.txt", "a.npz", "a.safetensors"])
def test_what_it_is_not(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    assert info(path, capsys, 1)["error"] == f"{path} does not exist"
    for content in (b"", b"\x80\x04nonsense\n" * 20, b"ply\n"):
        path.write_bytes(content)
        error = info(path, capsys, 1)["error"]
        assert isinstance(error, str) and error.startswith(str(path)) and "\n" not in error
    path.unlink()
    path.mkdir()
    assert str(info(path, capsys, 1)["error"]).startswith(str(path))
