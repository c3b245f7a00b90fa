"""`geodistill simulate lidar`: a KITTI folder, whatever interrupts it and however many make it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geodistill.checks import UsageError
from geodistill.cli import main
from geodistill.detect.boxes import inside
from geodistill.detect.datasets import open_dataset
from geodistill.detect.datasets.kitti import in_view
from geodistill.io.images import image_info
from geodistill.io.kitti_frames import IMAGE_SIZE, read_calibration
from geodistill.io.scans import read_scan
from geodistill.metrics.kitti import CLASSES, LEVELS, caps, count_valid, evaluate
from geodistill.simulate.lidar import write
from geodistill.simulate.lidar.frame import simulate
from geodistill.simulate.lidar.sensor import SENSORS
from geodistill.simulate.lidar.statistics import REAL, statistics
from geodistill.simulate.lidar.write import Simulation, write_dataset

FRAMES = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("simulated") / "streets"
    write_dataset(root, Simulation(frames=FRAMES, val_share=0.25, seed=1), workers=1)
    return root


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_it_is_a_folder_of_the_benchmark(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert dataset.metric == "kitti"
    assert [len(dataset.frames(split)) for split in ("train", "val", "trainval")] == [9, 3, 12]
    assert not set(dataset.frames("train")) & set(dataset.frames("val"))
    for name in dataset.frames("trainval"):
        made = simulate(SENSORS["hdl-64e"], 1, int(name))
        scene = dataset.scene(name)
        np.testing.assert_allclose(scene.boxes, made.boxes, atol=1e-3)
        np.testing.assert_allclose(scene.trails, made.trails, atol=1e-3)
        assert scene.names == made.labels.names and scene.trails.shape[1] == 4
        calibration = read_calibration(folder / "training" / "calib" / f"{name}.txt")
        points = read_scan(folder / "training" / "velodyne" / f"{name}.bin")
        assert points.tobytes() == made.points.tobytes()
        seen = points[in_view(points[:, :3], calibration, IMAGE_SIZE)]
        assert scene.points.numpy().tobytes() == seen.tobytes()
        grown = scene.boxes + torch.tensor([0, 0, 0, 0.2, 0.2, 0.2, 0])
        assert inside(scene.points[:, :3], grown).any(0).all()  # none without a point
        labels = dataset.labels(name)
        assert ((labels.occlusion >= 0) & (labels.occlusion <= 2)).all()
        assert ((labels.truncation >= 0) & (labels.truncation < 1)).all()
        height, width = IMAGE_SIZE
        assert (labels.bbox >= 0).all() and (labels.bbox[:, 2:] <= [width - 1, height - 1]).all()
        assert (labels.bbox[:, 2:] > labels.bbox[:, :2]).all()


def test_labels_as_predictions_score_the_cap(folder: Path) -> None:
    dataset = open_dataset(folder)
    labels = [dataset.labels(name) for name in dataset.frames("trainval")]
    found = [replace(one, scores=np.linspace(0.5, 1, len(one))) for one in labels]
    report = evaluate(labels, found)
    for name in CLASSES:
        counts = count_valid(labels, name)
        assert counts[2] > 4
        for level, count in zip(LEVELS, counts, strict=True):
            assert report.counts[name, level] == count
            for view in ("2d", "bev", "3d"):
                assert report.curves[name, view, level].ap40 == pytest.approx(caps(count)[0])


def test_scans_are_like_real_ones_in_numbers(folder: Path) -> None:
    dataset = open_dataset(folder)
    found = statistics(dataset, dataset.frames("trainval"))
    for name, real in REAL.items():
        assert found[name] == pytest.approx(real, rel=0.2), name
    away = list(found["points by distance"].values())
    assert sum(away) == pytest.approx(1, abs=0.05) and away[1] > away[2] > away[3] > away[4]
    assert 9 < sum(found["objects"].values()) < 20


def test_bytes_do_not_depend_on_how_many_processes_write(folder: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "two", Simulation(FRAMES, 0.25, seed=1), workers=2)
    assert files(tmp_path / "two") == files(folder)


def test_a_killed_simulation_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    words = [*("simulate", "lidar", "-o", str(root), "--frames", str(FRAMES), "--seed", "1")]
    words += ["--val-share", "0.25", "--workers", "1", "--json"]
    # The process kills itself when it begins to write the labels of its sixth frame.
    script = (
        "import os, signal, sys\n"
        "from geodistill.cli import main\n"
        "from geodistill.simulate.lidar import write\n"
        "real = write.write_labels\n"
        "def labels(path, found):\n"
        "    if path.stem == '000005':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(path, found)\n"
        "write.write_labels = labels\n"
        "main(sys.argv[1:])\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, *words], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((root / "training/label_2").iterdir())) == 5
    assert not (root / "ImageSets/trainval.txt").exists()
    assert main(words) == 0
    assert files(root) == files(folder)


def test_a_process_that_is_ended_from_outside_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(write, "_write_frames", _die)
    words = ["simulate", "lidar", "-o", str(tmp_path / "out"), "--frames", "9", "--workers", "2"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "ended from outside" in said and "the same command goes on" in said


def _die(root: Path, wanted: Simulation, numbers: list[int]) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_results_are_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, picture = tmp_path / "again", tmp_path / "sheet.png"
    shutil.copytree(folder, root)
    words = ["simulate", "lidar", "-o", str(root), "--frames", str(FRAMES), "--seed", "1"]
    words += ["--val-share", "0.25", "--workers", "1"]
    assert main([*words, "--picture", str(picture), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["frames"] == FRAMES and said["written"] == 0
    assert said["scans_per_second"] is None
    assert set(REAL) <= set(said["statistics"])
    dataset = open_dataset(folder)
    held_out = [dataset.labels(name) for name in dataset.frames("val")]
    assert tuple(said["val_objects"]["Car"].values()) == count_valid(held_out, "Car")
    assert image_info(picture).size[1] > 1000
    assert main([*words, "--picture", str(picture)]) == 2
    assert f"{picture} exists" in capsys.readouterr().err
    assert main(words) == 0
    assert "KITTI 000008" in capsys.readouterr().out


def test_other_settings_are_refused_and_overwriting_removes_what_was(
    folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "streets"
    shutil.copytree(folder, root)
    smaller = Simulation(frames=2, val_share=0.5, sensor="vlp-16", seed=7)
    with pytest.raises(UsageError, match="other settings, or of another version: pass --ov"):
        write_dataset(root, smaller, workers=1)
    assert files(root) == files(folder)
    assert write_dataset(root, smaller, workers=1, overwrite=True) == 2
    fresh = tmp_path / "fresh"
    write_dataset(fresh, smaller, workers=1)
    assert files(root) == files(fresh)
    assert json.loads((root / "simulation.json").read_text())["sensor"] == "vlp-16"


@pytest.mark.parametrize("before", ["write_scan", "write_calibration", "write_labels"])
def test_overwriting_that_was_interrupted_goes_on(
    before: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "streets"
    shutil.copytree(folder, root)
    wanted, real = Simulation(frames=4, seed=9), getattr(write, before)

    def interrupted(path: Path, content: object) -> None:
        if path.stem == "000002":
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(write, before, interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(root, wanted, workers=1, overwrite=True)
    monkeypatch.undo()
    assert write_dataset(root, wanted, workers=1, overwrite=True) == 2
    write_dataset(tmp_path / "fresh", wanted, workers=1)
    assert files(root) == files(tmp_path / "fresh")


def test_foreign_folders_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("thesis")
    words = ["simulate", "lidar", "--frames", "1", "--overwrite", "-o"]
    assert main([*words, str(tmp_path)]) == 2
    assert "holds something that is no simulation" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "mine.txt")]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "mine.txt").rename(tmp_path / "simulation.json")
    assert main([*words, str(tmp_path)]) == 1
    assert "simulation.json is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frames", "0"], "frames must be at least 1, got 0"),
        (["--val-share", "1.5"], "val_share must be from 0 to 1, got 1.5"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--workers", "0"], "--workers must be at least 1, got 0"),
        (["--picture", "a.jpg"], "pictures are PNG files"),
        (["--sensor", "hdl-65e"], "hdl-64e"),
    ],
)
def test_bad_usage_is_told(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "lidar", "-o", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
