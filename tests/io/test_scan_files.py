"""Scans of a LiDAR in their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geodistill.io.pcd import write_pcd
from geodistill.io.scans import read_points


def test_what_fields_of_a_pcd_are_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.pcd"
    values = np.arange(4, dtype=np.float32)[:, None]
    write_pcd(path, dict(zip(("X", "Y", "Z", "Intensity"), values, strict=True)))
    assert read_points(path).tolist() == [[0, 1, 2, 3]]
    assert "a.pcd: intensities go up to 3, not 1" in capsys.readouterr().err
    read_points(path)
    assert not capsys.readouterr().err  # a data set's are read over and over


def test_what_stands_for_no_return_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([[1.0, 2, 3, 0.5], [np.finfo(np.float64).max] * 4]))
    assert read_points(path).tolist() == [[1, 2, 3, 0.5]]
    assert "1 of 2 points are not finite: left out" in capsys.readouterr().err
