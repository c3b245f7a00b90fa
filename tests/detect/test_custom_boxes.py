"""Boxes of own scans: in a toolbox's convention, and written as they are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from geodistill.detect.boxes import CONVENTIONS, corners, inside, to_convention
from geodistill.detect.datasets import open_dataset
from geodistill.detect.scenes import Detections
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


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_detections_are_written_as_labels_are(tmp_path: Path, convention: str) -> None:
    write_plain(tmp_path, 1)
    (tmp_path / "dataset.json").write_text(json.dumps({"boxes": convention}))
    dataset = open_dataset(tmp_path)
    scene = dataset.scene("scan-0")
    labels = torch.zeros(len(scene.boxes), dtype=torch.int64)
    found = Detections(scene.boxes, torch.ones(len(labels)), labels)
    dataset.write(tmp_path / "boxes", ["scan-0"], [found], ("Car",))
    again = open_dataset(tmp_path).scene("scan-0")
    assert again.boxes.numpy() == pytest.approx(scene.boxes.numpy(), abs=2e-3)
    assert again.names == ("Car",) * len(labels)
