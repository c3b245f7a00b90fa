"""`geodistill train` and `eval` on nuScenes and on own scans, each by its metric."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from geodistill.cli import main
from geodistill.config import read_yaml
from geodistill.detect.augment import Cutout
from geodistill.detect.datasets import open_dataset
from geodistill.detect.datasets.custom import Custom
from geodistill.fit.detector.batches import census
from geodistill.io.box_files import read_json_boxes
from geodistill.io.images import read_image
from tests.detect.small_nuscenes import write_nuscenes
from tests.detect.test_custom_scenes import NAMES, write_plain

RECIPE = """
detector:
  compression: 16
  values: {values}
  grid: {{low: [-51.2, -51.2, -5], high: [51.2, 51.2, 3], size: [0.8, 0.8, 8]}}
  momentum: 0.3
  choice: {{least_score: 0.0}}
  anchors:
  - {{name: {name}, size: [4.2, 1.8, 1.6], bottom: -1.0, positive: 0.5, negative: 0.35}}
  - {{name: {other}, size: [7.0, 2.5, 3.0], bottom: -1.8, positive: 0.5, negative: 0.35}}
epochs: 2
batch: 2
val: {val}
"""


def run(
    root: Path, data: Path, capsys: pytest.CaptureFixture[str], **names: Any
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """What training and eval say, as values and in words."""
    recipe = root / "recipe.yaml"
    recipe.write_text(RECIPE.format(**names))
    assert main(["train", str(recipe), "--data", str(data), "-o", str(root / "run"), "--json"]) == 0
    trained = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert main(["eval", str(root / "run"), "-o", str(root / "out"), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert main(["eval", str(root / "run")]) == 0
    for folder, name in (("run", "curves"), ("run", "scans"), ("out", "curves"), ("out", "scans")):
        assert (root / folder / f"{name}.png").stat().st_size > 1000
    assert {key: value for key, value in trained.items() if key in measured} == {
        key: value for key, value in measured.items() if key not in ("frames",)
    }
    return trained, measured, capsys.readouterr().out


def test_nuscenes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nuscenes(tmp_path / "data")
    names = {"values": 5, "name": "car", "other": "truck", "val": "val"}
    trained, measured, text = run(tmp_path, tmp_path / "data", capsys, **names)
    assert measured["car/count"] == 3 and measured["truck/count"] == 3
    assert trained["score"] == measured["mAP"] and "NDS" not in measured
    assert {"car/AP/0.5", "truck/ATE", "mASE", "mAOE"} <= measured.keys()
    assert "mAP" in text and "mATE" in text and "objects" in text
    results = json.loads((tmp_path / "out" / "predictions" / "results.json").read_text())
    assert set(results["results"]) == {f"1-sample-{k}" for k in range(3)}
    first = next(boxes for boxes in results["results"].values() if boxes)[0]
    assert first["detection_name"] in ("car", "truck") and len(first["rotation"]) == 4
    assert 500 < first["translation"][0] < 700  # in the global frame
    views = read_image(tmp_path / "out" / "scans.png")
    assert len(views) > 2 * 12 * 102.4  # two rows of all that is around
    with monkeypatch.context() as patch:
        patch.setattr("geodistill.metrics.detectors.detect", None)  # refused before the work
        assert main(["eval", str(tmp_path / "run"), "--loose"]) == 2
        assert "the nuScenes metric is of distances" in capsys.readouterr().err
        assert main(["eval", str(tmp_path / "run"), "--classes", "Car,trucks"]) == 2
        assert "unknown class 'trucks' (did you mean 'truck'" in capsys.readouterr().err
    assert main(["eval", str(tmp_path / "run"), "--classes", "Car", "--json"]) == 0
    own = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert own["car/AP"] == measured["car/AP"] and "truck/AP" not in own


def test_objects_are_cut_out_of_some_of_many_scans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plain(tmp_path, 5)
    dataset, classes = open_dataset(tmp_path), ("Car",)
    frames = dataset.frames("val")

    def cut(frames: list[str]) -> list[Cutout]:
        return census(dataset, frames, classes, (0, -50, 50, 50), classes).pasted["Car"]

    every = cut(frames)
    monkeypatch.setattr("geodistill.fit.detector.batches.MOST_CUT", 3)
    some, wanted = cut(frames), cut([frames[k] for k in (0, 1, 3)])
    assert len(every) // 5 * 3 == len(some) == len(wanted)
    assert all(torch.equal(a.box, b.box) for a, b in zip(some, wanted, strict=True))
    scene = Custom.scene
    monkeypatch.setattr(
        *(Custom, "scene"),
        lambda self, frame: replace(scene(self, frame), pastable=torch.zeros(len(NAMES)) > 0),
    )
    found = census(dataset, frames, classes, (0, -50, 50, 50), classes)
    assert found.known["Car"] >= len(some) and not found.pasted["Car"]


def test_own_scans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_plain(tmp_path / "data", 3)
    val = tmp_path / "data" / "splits" / "val.txt"
    (val.parent / "train.txt").write_text(val.read_text())
    val.rename(val.parent / "held.txt")
    names = {"values": 4, "name": "Car", "other": "Forklift", "val": "held"}
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "data")
    _, measured, text = run(tmp_path, link, capsys, **names)
    assert read_yaml(tmp_path / "run" / "config.yaml")["data"] == str(link)
    assert measured["Car/count/hard"] == 12 and measured["Forklift/count/moderate"] == 3
    assert "Car/3d/AP40/moderate" in measured and "Car/2d/AP40/moderate" not in measured
    assert "bev" in text and "2d" not in text
    read_json_boxes(tmp_path / "out" / "predictions" / "scan-0.json")
    best, copy = tmp_path / "run" / "best.safetensors", tmp_path / "copy.safetensors"
    assert main(["eval", str(best), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == measured
    copy.write_bytes(best.read_bytes())
    assert main(["eval", str(copy)]) == 1
    assert "copy.safetensors does not say what it was trained on" in capsys.readouterr().err
    assert main(["eval", str(copy), "--data", str(link)]) == 2
    assert "has no split 'val' (known: held, train)" in capsys.readouterr().err
