"""Splits, scans and boxes in files as editors and other systems write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geodistill.checks import InputError
from geodistill.io.box_files import read_text_boxes
from geodistill.io.kitti_frames import (
    Calibration,
    read_calibration,
    split_names,
    write_calibration,
)
from geodistill.io.scans import read_scan, write_scan


def test_points_that_are_not_finite_are_told_once_for_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = np.zeros((3, 4), np.float32)
    points[1, 2] = np.nan
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b", "a"):
            write_scan(tmp_path / folder / f"{name}.bin", points)
            assert len(read_scan(tmp_path / folder / f"{name}.bin")) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all("a.bin: 1 of 3 points are not finite" in line for line in said)


def test_names_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text("\nmain street 1\r\n  000002 \n\n")
    assert split_names(path) == ["main street 1", "000002"]
    for text, words in (("a b\na b\n", "twice"), (" \n", "names no frames"), ("a/b", "no name of")):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            split_names(path)


def test_files_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("000001\n000002\n", encoding="utf-8-sig")
    assert split_names(path) == ["000001", "000002"]
    path.write_text("1 2 3 4 2 1.5 0.5 Car\n", encoding="utf-8-sig")
    names, boxes = read_text_boxes(path)
    assert names == ("Car",) and boxes[0, 0] == 1
    write_calibration(path, Calibration(np.ones((3, 4)), np.eye(4)))
    lines = [line for line in path.read_text().splitlines() if line[:2] not in ("P0", "P1")]
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    assert (read_calibration(path).pixels_from_camera == 1).all()
