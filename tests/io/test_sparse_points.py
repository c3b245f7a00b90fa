"""Sparse points: COLMAP's by writers of their own, nerfstudio's ply, and what is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from geodistill.checks import GeodistillError, InputError
from geodistill.io.clouds import write_cloud
from geodistill.io.sparse_points import read_sparse_points
from tests.io.layouts import (
    scene,
    transforms_table,
    write_blender,
    write_colmap_binary,
    write_colmap_text,
    write_nerfstudio,
)

RNG = np.random.default_rng(3)
POSITIONS = RNG.normal(size=(40, 3))
COLORS = RNG.integers(0, 256, (40, 3))


def points_binary() -> bytes:
    records = [struct.pack("<Q", len(POSITIONS))]
    for i, (xyz, rgb) in enumerate(zip(POSITIONS, COLORS, strict=True)):
        records.append(struct.pack("<Q3d3Bd", 7 * i, *xyz, *map(int, rgb), 0.5))
        records.append(struct.pack("<Q", i % 3) + struct.pack("<ii", 1, i) * (i % 3))
    return b"".join(records)


def points_text() -> str:
    lines = ["# 3D point list", "#   POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[]"]
    for i, (xyz, rgb) in enumerate(zip(POSITIONS, COLORS, strict=True)):
        numbers = " ".join(repr(float(v)) for v in xyz)
        lines.append(f"{7 * i} {numbers} {rgb[0]} {rgb[1]} {rgb[2]} 0.5" + " 1 2" * (i % 3))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("kind", ["bin", "txt"])
def test_colmap_points(tmp_path: Path, kind: str) -> None:
    if kind == "bin":
        write_colmap_binary(tmp_path, scene())
        (tmp_path / "sparse/0/points3D.bin").write_bytes(points_binary())
    else:
        write_colmap_text(tmp_path, scene())
        (tmp_path / "sparse/0/points3D.txt").write_text(points_text())
    found = read_sparse_points(tmp_path)
    assert found is not None
    assert np.array_equal(found.positions, POSITIONS) and np.array_equal(found.colors, COLORS)


def test_data_sets_without_points(tmp_path: Path) -> None:
    for name, write in (("a", write_blender), ("b", write_nerfstudio), ("c", write_colmap_text)):
        write(tmp_path / name, scene())
        assert read_sparse_points(tmp_path / name) is None
    (tmp_path / "c/sparse/0/points3D.txt").write_text("# none\n")
    assert read_sparse_points(tmp_path / "c") is None


def write_named(folder: Path, **more: object) -> Path:
    write_nerfstudio(folder, scene())
    rgba = np.concatenate([COLORS, np.full((40, 1), 255)], axis=1).astype(np.uint8)
    write_cloud(folder / "sparse_pc.ply", {"positions": POSITIONS, "colors": rgba})
    table = {**transforms_table(scene()), "ply_file_path": "sparse_pc.ply", **more}
    (folder / "transforms.json").write_text(json.dumps(table))
    return folder / "transforms.json"


def test_points_that_transforms_name_go_the_way_of_its_cameras(tmp_path: Path) -> None:
    turn = [[0.0, 1, 0, 3], [1, 0, 0, -1], [0, 0, -1, 2]]
    table = write_named(tmp_path, applied_transform=turn, applied_scale=2.0)
    for path in (table, tmp_path):
        found = read_sparse_points(path)
        assert found is not None and np.array_equal(found.colors, COLORS)
        stored = 2.0 * (found.positions @ np.array(turn)[:, :3].T + np.array(turn)[:, 3])
        assert np.allclose(stored, POSITIONS)


def test_named_points_that_are_not_there(tmp_path: Path) -> None:
    for name, message in (("none.ply", "do not exist"), ("transforms.json", "not a .ply file")):
        write_named(tmp_path, ply_file_path=name)
        with pytest.raises(InputError, match=message):
            read_sparse_points(tmp_path)
    write_named(tmp_path, ply_file_path=3)
    with pytest.raises(InputError, match="not a file name"):
        read_sparse_points(tmp_path)


def test_damaged_points_are_refused(tmp_path: Path) -> None:
    """Truncated anywhere, every byte altered: an answer or one line, never anything else."""
    write_colmap_binary(tmp_path, scene())
    file, whole = tmp_path / "sparse/0/points3D.bin", points_binary()
    for cut in range(0, len(whole), 11):
        file.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"points3D\.bin is (truncated|empty)"):
            read_sparse_points(tmp_path)
    answers = 0
    for place in range(0, len(whole), 3):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            answers += read_sparse_points(tmp_path) is not None
        except GeodistillError as error:
            assert "\n" not in str(error)
    assert answers > 0
    file.write_bytes(struct.pack("<Q", 2**61))
    with pytest.raises(InputError, match=f"declares {2**61} points but has 0 bytes left"):
        read_sparse_points(tmp_path)
    file.write_bytes(struct.pack("<QQ3d3BdQ", 1, 5, 0.0, float("nan"), 0.0, 1, 2, 3, 0.0, 0))
    with pytest.raises(InputError, match="point 5 holds NaN or infinity: remove the point"):
        read_sparse_points(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3", "line 1 has 3 words, not POINT3D_ID"),
        ("1 0 0 x 1 2 3 0", "could not convert string to float"),
        ("1 0 0 inf 1 2 3 0", "holds NaN or infinity: remove the point"),
        ("1 0 0 0 1 2 300 0", "has the colour 1 2 300, not three numbers from 0 to 255"),
        ("1 0 0 0 1 2 -3 0", "has the colour 1 2 -3"),
        ("1 0 0 0 1 2 z 0", "'z' is not a whole number"),
    ],
)
def test_bad_lines_of_points(tmp_path: Path, line: str, message: str) -> None:
    write_colmap_text(tmp_path, scene())
    (tmp_path / "sparse/0/points3D.txt").write_text(line + "\n")
    with pytest.raises(InputError, match=message):
        read_sparse_points(tmp_path)
