"""The commands about detectors, one after the other, as the README has them, on little data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing import event_accumulator

from geodistill.checks import InputError
from geodistill.cli import main
from geodistill.fit.detector.job import DetectorJob
from geodistill.io.images import read_image
from geodistill.metrics.kitti import caps

SMALL = (
    "detector.grid.low=0,-12.8,-3",
    "detector.grid.high=25.6,12.8,1",
    "detector.momentum=0.2",
    "epochs=1",
)
POINTS = (
    "detector.architecture=pointrcnn",
    "detector.points=256",
    "detector.pooled=16",
    "detector.proposing.most_learning=32",
    "detector.drawing.count=16",
    "epochs=1",
    "batch=4",
    "augmentation=none",
)


def said(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    code = main([*map(str, arguments), "--json", "--quiet"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: Any) -> str:
    assert main([*map(str, arguments), "--quiet"]) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "Traceback" not in err
    return err


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("streets") / "data"
    frames = ("--frames", "10", "--workers", "1", "--quiet")
    assert main(["simulate", "lidar", "-o", str(root), *frames]) == 0
    return root


def settings(values: Sequence[str] = SMALL) -> list[str]:
    return [word for value in values for word in ("--set", value)]


def a_report_is_replaced_whole_or_not(
    student: Path, streets: Path, tmp_path: Path, values: dict, capsys, patch
) -> None:
    """Of a student whose report, with these values, is in the folder."""
    report = ("eval", student, "-o", tmp_path / "report")
    assert "has a report: choose another -o or pass --overwrite" in refused(capsys, 2, *report)
    left = tmp_path / "report" / "predictions" / "999999.txt"
    left.write_text("of another split")
    note = tmp_path / "report" / "predictions" / "note.md"
    note.write_text("what a report does not write")

    def spoilt(*_: object) -> None:
        raise InputError("labels are damaged")

    patch.setattr("geodistill.metrics.detectors.measure", spoilt)
    assert "labels are damaged" in refused(capsys, 1, *report, "--overwrite")
    patch.undo()
    assert left.exists()  # nothing is replaced before there is something new
    assert said(capsys, *report, "--overwrite") == values and not left.exists()
    assert note.exists()
    other = tmp_path / "other" / "predictions" / "000001.txt"
    other.parent.mkdir(parents=True)
    other.touch()
    own = ("eval", student, "-o", tmp_path / "other", "--overwrite")
    assert "has predictions of no report: choose another" in refused(capsys, 2, *own)
    assert other.exists()
    assert "has other files" in refused(capsys, 2, "eval", student, "-o", streets, "--overwrite")
    if Path("/proc").is_dir():  # as root, other folders take files
        patch.setattr("geodistill.metrics.detectors.detect", spoilt)  # before anything is detected
        assert "/proc takes no files" in refused(capsys, 1, "eval", student, "-o", "/proc/report")


def test_teacher_student_eval_and_detect(
    streets: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    recipe = "detector/pillars_small"
    made = said(capsys, "train", f"{recipe}_4x", "--data", streets, *settings(), "-o", teacher)
    assert made["parameters"] == pytest.approx(1.217e6, rel=1e-3)
    more = (*settings(), "--set", "detector.compression=16", "--teacher", teacher)
    found = said(capsys, "train", f"{recipe}_4x", "--data", streets, *more, "-o", student)
    assert found["parameters"] < made["parameters"] / 3.5
    assert {"scans.png", "curves.png", "detector.safetensors"} <= {
        path.name for path in student.iterdir()
    }
    again = said(capsys, "eval", student, "-o", tmp_path / "report")
    assert again["Car/3d/AP40/moderate"] == found["Car/3d/AP40/moderate"]
    assert read_image(tmp_path / "report" / "scans.png").std() > 0.05
    with monkeypatch.context() as patch:
        a_report_is_replaced_whole_or_not(student, streets, tmp_path, again, capsys, patch)
    predictions, labels = tmp_path / "report" / "predictions", streets / "training" / "label_2"
    files = said(capsys, "eval", "--predictions", predictions, "--labels", labels)
    assert files == pytest.approx(again, abs=1e-5)
    assert "unknown class 'Caar' (did you mean 'Car'?)" in refused(
        capsys, 2, "eval", "--predictions", predictions, "--labels", labels, "--classes", "Caar"
    )
    scan = streets / "training" / "velodyne" / "000009.bin"
    boxes = said(capsys, "detect", scan, "--model", student, "-o", tmp_path / "boxes.json")
    assert json.loads((tmp_path / "boxes.json").read_text()) == boxes["boxes"]
    assert all(abs(box["yaw"]) <= np.pi for box in boxes["boxes"])

    assert read_image(tmp_path / "boxes.png").std() > 0.02
    more = said(capsys, "detect", scan, "--model", student, "--least-score", "0")["boxes"]
    assert len(more) > len(boxes["boxes"]) or len(more) == 50
    near = tmp_path / "near.npy"
    np.save(near, np.zeros((3, 4), np.float32))  # a picture of all the same
    said(capsys, "detect", near, "--model", student, "-o", tmp_path / "near.json")
    assert len(read_image(tmp_path / "near.png")) == 307  # all that the detector sees, 25.6 m
    if not torch.cuda.is_available():
        assert "PyTorch sees no CUDA device" in refused(
            capsys, 2, "eval", student, "--device", "cuda"
        )
    assert said(capsys, "info", student / "detector.safetensors")["architecture"] == "pointpillars"


def test_points_from_a_recipe_to_boxes(streets: Path, tmp_path: Path, capsys) -> None:
    recipe, run = tmp_path / "points.yaml", tmp_path / "run"
    recipe.write_text("{}\n")
    words = (recipe, "--data", streets, *settings(POINTS), "--tensorboard")
    made = said(capsys, "train", *words, "-o", run)
    logged = event_accumulator.EventAccumulator(str(run / "tensorboard")).Reload()
    (score,) = logged.Scalars("score")
    assert score.step == 2 and score.value == pytest.approx(made["score"])
    known = said(capsys, "info", run)
    assert known["architecture"] == "pointrcnn" and known["points"] == 256
    copy, onnx = tmp_path / "copy.safetensors", tmp_path / "copy.onnx"
    said(capsys, "export", run, "-o", copy)
    assert "pointrcnn detector is written as NAME.safetensors" in refused(
        capsys, 2, "export", run, "-o", onnx
    )
    scan = streets / "training" / "velodyne" / "000009.bin"
    one, two = (
        said(capsys, "detect", scan, "--model", model, "--least-score", 0)["boxes"]
        for model in (run, copy)
    )
    assert one == two and one


def test_a_run_trained_again_by_its_settings(streets: Path, tmp_path: Path, capsys) -> None:
    words = ("--data", streets, "-o")
    made = said(capsys, "train", "detector/pillars_small_16x", *settings(), *words, tmp_path / "a")
    for recipe, out in ((tmp_path / "a", "b"), (tmp_path / "a" / "config.yaml", "c")):
        again = said(capsys, "train", recipe, *words, tmp_path / out)
        assert {**again, "output": made["output"]} == made
    more = ("--set", "epochs=0", *words, tmp_path / "d")
    assert "epochs must be at least 1, got 0" in refused(
        capsys, 2, "train", tmp_path / "a" / "config.yaml", *more
    )


def test_an_interrupted_training_does_not_go_on_over_other_data(
    streets: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    data, run = shutil.copytree(streets, tmp_path / "data"), tmp_path / "run"
    words = ("train", "detector/pillars_small_16x", "--data", data, *settings(), "-o", run)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DetectorJob, "complete", interrupted)
        assert main([*map(str, words), "--quiet"]) == 130
    assert "interrupted" in capsys.readouterr().err
    labels = sorted((data / "training" / "label_2").iterdir())
    known = labels[-1].read_text()  # of the held-out scans
    labels[-1].write_text(known + known)
    assert "an interrupted run with other contents of --data" in refused(capsys, 2, *words)
    labels[-1].write_text(known)
    assert "score" in said(capsys, *words)


def test_a_cache_of_the_command(streets: Path, tmp_path: Path, capsys) -> None:
    words = ("detector/pillars_small_16x", "--data", streets, *settings())
    made = said(capsys, "cache", *words, "-o", tmp_path / "cache")
    assert (made["steps"], made["written"]) == (2, 2)
    assert said(capsys, "cache", *words, "-o", tmp_path / "cache")["written"] == 0
    one = said(capsys, "train", *words, "-o", tmp_path / "a")
    two = said(capsys, "train", *words, "-o", tmp_path / "b", "--cache", tmp_path / "cache")
    keys = [key for key in one if "/AP40/" in key]
    assert keys and [one[key] for key in keys] == [two[key] for key in keys]


def test_ground_truth_as_predictions_scores_the_cap(streets: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "truth").mkdir()
    labels = streets / "training" / "label_2"
    for path in labels.glob("*.txt"):
        known = path.read_text().splitlines()
        lines = [f"{line} {0.9 - 0.001 * k}" for k, line in enumerate(known)]
        (tmp_path / "truth" / path.name).write_text("\n".join(lines))
    found = said(capsys, "eval", "--predictions", tmp_path / "truth", "--labels", labels)
    count = found["Car/count/hard"]
    assert count > 10
    assert found["Car/3d/AP40/hard"] == pytest.approx(caps(count)[0])


def test_what_cannot_be_trained(streets: Path, tmp_path: Path, capsys) -> None:
    words = ("--data", streets, "-o", tmp_path / "run")
    said_ = refused(capsys, 1, "train", "detector/pillar", *words)
    assert "shipped recipes are" in said_ and "detector/pillars_4x" in said_
    for folder in (".", "..", "/", streets):
        assert f"{folder} is a folder, and none of a run" in refused(
            capsys, 1, "train", folder, *words
        )
    assert "unknown key 'epoch'" in refused(
        capsys, 2, "train", "detector/pillars", *words, "--set", "epoch=1"
    )
    nowhere = ("--data", tmp_path, "-o", tmp_path / "run")
    assert "is no data set of scans" in refused(capsys, 1, "train", "detector/pillars", *nowhere)
    lost = ("--teacher", tmp_path / "nothing")
    assert "nothing does not exist" in refused(
        capsys, 1, "train", "detector/pillars_4x", *words, *lost
    )
    own = ("--teacher", tmp_path / "run" / "best.safetensors")
    assert "run is read from, by --teacher: choose another -o" in refused(
        capsys, 2, "train", "detector/pillars_4x", *words, *own
    )
    assert "--loss is from a teacher" in refused(
        capsys, 2, "train", "detector/pillars", *words, "--loss", "hint"
    )
    assert not (tmp_path / "run").exists()


def test_devices_that_there_are_not(streets: Path, tmp_path: Path, capsys) -> None:
    words = ("train", "detector/pillars", "--data", streets, "-o", tmp_path / "run", "--device")
    assert "must be one of cpu, cuda, got 'foo'" in refused(capsys, 2, *words, "foo")
    if not torch.cuda.is_available():
        assert "PyTorch sees no CUDA device" in refused(capsys, 2, *words, "cuda")


def test_what_cannot_be_detected(streets: Path, tmp_path: Path, capsys) -> None:
    scan = tmp_path / "a.bin"
    scan.write_bytes(b"12345")
    assert "does not exist" in refused(capsys, 1, "detect", scan, "--model", tmp_path / "no")
    assert "must be from 0 to 1, got 2" in refused(
        capsys, 2, "detect", scan, "--model", tmp_path / "no", "--least-score", "2"
    )
    words = ("detect", scan, "--model", tmp_path / "no")  # looked at last
    assert "boxes are written as NAME.json" in refused(capsys, 2, *words, "-o", "a.txt")
    for scale in ("0", "-1", "inf", "nan"):
        said_ = refused(capsys, 2, *words, "--intensity-scale", scale)
        assert "must be above 0 and finite" in said_
    nowhere = tmp_path / "none" / "a.json"
    assert "none does not exist: make it first" in refused(capsys, 1, *words, "-o", nowhere)
    (tmp_path / "b.png").write_bytes(b"")
    out = ("-o", tmp_path / "b.json")
    assert "b.png exists: choose another -o or pass" in refused(capsys, 2, *words, *out)
    (tmp_path / "b.png").unlink()
    (tmp_path / "b.json").mkdir()
    assert "b.json is a folder" in refused(capsys, 2, *words, *out, "--overwrite")
