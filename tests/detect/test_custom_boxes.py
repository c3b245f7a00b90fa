"""Boxes of own scans: in a toolbox's convention, and written as they are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from geodistill.detect.boxes import CONVENTIONS, corners, inside, to_convention
from geodistill.detect.datasets import open_dataset
from geodistill.detect.scenes import Detections
from geodistill.io.box_files import read_json_boxes
from tests.detect.test_custom_scenes import COUNTS, write_openpcdet, write_plain


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_boxes_in_the_convention_of_a_toolbox(tmp_path: Path, convention: str) -> None:
    boxes = write_openpcdet(tmp_path)
    theirs = to_convention(torch.from_numpy(boxes), convention).numpy()
    path = tmp_path / "labels" / "000000.txt"
    names = [line.split()[-1] for line in path.read_text().splitlines() if line]
    rows = [" ".join(map(str, row)) for row in theirs.tolist()]
    path.write_text("\n".join(f"{row} {name}" for row, name in zip(rows, names, strict=True)))
    (tmp_path / "dataset.json").write_text(json.dumps({"boxes": convention}))
    scene = open_dataset(tmp_path).scene("000000")
    assert inside(scene.points[:, :3], scene.boxes).sum(0).tolist() == [*COUNTS]
    assert corners(scene.boxes).numpy() == pytest.approx(
        corners(torch.from_numpy(boxes)).numpy(), abs=1e-4
    )


def test_detections_are_written_as_labels_are(tmp_path: Path) -> None:
    boxes = write_plain(tmp_path, 2)
    dataset = open_dataset(tmp_path)
    found = []
    for own in boxes:
        scores, labels = torch.linspace(0.9, 0.2, len(own)), torch.arange(len(own)) % 2
        found.append(Detections(torch.from_numpy(own).float(), scores, labels))
    dataset.write(tmp_path / "out", ["scan-0", "scan-1"], found, ("Car", "Bus"))
    for k, own in enumerate(boxes):
        names, again = read_json_boxes(tmp_path / "out" / f"scan-{k}.json")
        assert names == ("Car", "Bus") * (len(own) // 2)
        assert again == pytest.approx(own, abs=1e-3)
