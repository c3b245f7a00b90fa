"""KITTI label files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geodistill.checks import InputError
from geodistill.io.kitti import label_table, make_labels, read_labels, write_labels

CAR = "Car 0.88 3 -0.69 0.00 192.37 402.31 374.00 1.60 1.57 3.23 -2.70 1.74 3.68 -1.29"
REGION = "DontCare -1 -1 -10 800.38 163.67 825.45 184.07 -1 -1 -1 -1000 -1000 -1000 -10"


def test_columns_are_what_the_benchmark_says(tmp_path: Path) -> None:
    path = tmp_path / "000008.txt"
    path.write_text(f"{CAR}\n\n{REGION}\r\n")
    found = read_labels(path)
    assert found.names == ("Car", "DontCare") and found.scores is None
    assert found.truncation.tolist() == [0.88, -1] and found.occlusion.tolist() == [3, -1]
    assert found.alpha.tolist() == [-0.69, -10] and found.rotation_y.tolist() == [-1.29, -10]
    assert found.bbox[0].tolist() == [0, 192.37, 402.31, 374]
    assert found.sizes[0].tolist() == [1.6, 1.57, 3.23]
    assert found.location[0].tolist() == [-2.7, 1.74, 3.68]


def test_a_byte_order_mark_is_no_part_of_a_class(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(CAR, encoding="utf-8-sig")
    assert read_labels(path).names == ("Car",)


def test_predictions_have_scores_and_labels_may(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"{CAR} 0.75\n")
    scores = read_labels(path, scored=True).scores
    assert scores is not None and scores.tolist() == [0.75]
    assert read_labels(path).scores is None


@pytest.mark.parametrize("scored", [False, True])
def test_what_is_written_is_read(tmp_path: Path, scored: bool) -> None:
    rng = np.random.default_rng(0)
    table = np.round(rng.uniform(-50, 50, (7, 14 + scored)), 4)
    table[:, :2] = [[0.25, k % 4] for k in range(7)]
    labels = make_labels(tuple("abcdefg"), table)
    path = tmp_path / "a.txt"
    write_labels(path, labels)
    again = read_labels(path, scored)
    assert again.names == labels.names
    np.testing.assert_array_equal(label_table(again), table)


def test_predictions_keep_what_float32_can_tell_apart(tmp_path: Path) -> None:
    """Scores that differ in the last bit are in the same order after they are read."""
    score = np.float32(0.3)
    scores = [score, np.nextafter(score, np.float32(1)), np.float32(1e-6)]
    table = np.random.default_rng(0).uniform(-50, 50, (3, 15)).astype(np.float32).astype(float)
    table[:, :2], table[:, 14] = -1, scores
    path = tmp_path / "a.txt"
    write_labels(path, make_labels(("a", "b", "c"), table))
    again = label_table(read_labels(path, scored=True)).astype(np.float32)
    np.testing.assert_array_equal(again, table.astype(np.float32))


@pytest.mark.parametrize("text", ["", "\n  \n"])
def test_an_empty_file_has_no_objects(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    found = read_labels(path, scored=True)
    assert len(found) == 0 and found.bbox.shape == (0, 4) and found.scores is not None
    write_labels(tmp_path / "b.txt", found)
    assert (tmp_path / "b.txt").read_text() == ""


@pytest.mark.parametrize(
    ("text", "scored", "words"),
    [
        (f"{CAR}\nCar 1 2 3", False, "line 2: 4 columns where KITTI labels have 15"),
        (CAR, True, "line 1: 15 columns where KITTI predictions have 16, the last their score"),
        (CAR.replace("1.57", "wide"), False, "line 1: 'wide' where a finite number is expected"),
        (CAR.replace("1.57", "1e300"), False, "'1e300' where a finite number is expected, of at"),
        (CAR.replace("1.57", "nan"), False, "line 1: 'nan' where a finite number"),
        (CAR.replace("1.57", "1e999"), False, "'1e999' where a finite number"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, scored: bool, words: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_labels(path, scored)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\xfe\x00Car")
    with pytest.raises(InputError, match="is no text"):
        read_labels(path)
    with pytest.raises(InputError, match="does not exist"):
        read_labels(tmp_path / "none.txt")
