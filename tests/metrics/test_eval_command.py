"""`geodistill eval` on folders of text files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from geodistill.cli import main
from geodistill.cli.eval import tables
from geodistill.io.kitti import read_labels, write_labels
from geodistill.metrics.kitti import caps, evaluate
from tests.metrics.test_kitti_metric import made_predictions, made_truth, perfect

CAR = "Car 0 0 0 {left} 100 {right} 160 1.5 1.6 4 {x} 1.5 20 0"


@pytest.fixture()
def folders(tmp_path: Path) -> tuple[Path, Path]:
    labels, predictions = tmp_path / "label_2", tmp_path / "found"
    labels.mkdir()
    predictions.mkdir()
    return labels, predictions


def test_values_are_those_of_the_metric(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    truth = [made_truth(rng) for _ in range(60)]
    found = [made_predictions(rng, frame) for frame in truth]
    for k, frame in enumerate(zip(truth, found, strict=True)):
        for folder, part in zip(folders, frame, strict=True):
            write_labels(folder / f"{k:06}.txt", part)
    arguments = ["eval", "--labels", str(folders[0]), "--predictions", str(folders[1])]
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    written = [sorted(folder.glob("*.txt")) for folder in folders]
    report = evaluate(
        [read_labels(path) for path in written[0]], [read_labels(path, True) for path in written[1]]
    )
    assert said["frames"] == 60 and said["Car/count/hard"] == report.counts["Car", "hard"]
    values = report.values()
    assert {key: said[key] for key in values} == values
    moderate = [values[f"{name}/3d/AP40/moderate"] for name in ("Car", "Pedestrian", "Cyclist")]
    assert said["score"] == pytest.approx(sum(moderate) / 3)
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert f"mean of moderate 3D AP40: {said['score']:.2f}" in text
    assert f"{said['Car/3d/AP40/moderate']:.2f}" in text
    assert "AP40 (AP11) stays below 100" in text


def test_few_objects_are_explained_and_a_split_chooses_frames(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, predictions = folders
    for k in range(8):
        line = CAR.format(left=50, right=250, x=k)
        (labels / f"{k}.txt").write_text(line + "\n")
        (predictions / f"{k}.txt").write_text(f"{line} 0.{k + 1}\n" if k != 3 else "")
    split = tmp_path / "val.txt"
    split.write_text("0\n1\n2\n4\n5\n")
    arguments = ["eval", "--labels", str(labels), "--predictions", str(predictions)]
    assert main([*arguments, "--split", str(split), "--classes", "Car"]) == 0
    text = capsys.readouterr().out
    (labels / "8.txt").write_text("")
    assert main(arguments) == 0
    assert f"{labels} has 1 more frames, which do not count" in capsys.readouterr().err
    assert "5 frames" in text and "Car easy: 5 objects, at most 10.00 (18.18)" in text
    assert (
        "{:.2f} ({:.2f})".format(*caps(5)) in text.split("With fewer")[0]
        and "Pedestrian" not in text
    )
    assert main([*arguments, "--classes", "car,Pedestrian", "--json"]) == 0
    assert '"Pedestrian/count/hard": 0' in capsys.readouterr().out
    assert main([*arguments, "--classes", "Cat"]) == 2
    assert "unknown class 'Cat' (did you mean 'Car'" in capsys.readouterr().err
    report = tmp_path / "report"
    report.mkdir()
    (report / "scans.png").touch()  # of a detector
    assert main([*arguments, "-o", str(report), "--overwrite"]) == 2
    assert "has other files (scans.png)" in capsys.readouterr().err


def test_loose_overlaps_find_more(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(2)
    for k in range(60):
        frame = made_truth(rng)
        moved = perfect(frame)
        moved.location[:, 0] += 0.4
        write_labels(folders[0] / f"{k}.txt", frame)
        moved.location[:, 0] += 0.4
        write_labels(folders[1] / f"{k}.txt", moved)
    found = []
    for more in ([], ["--loose"]):
        main(
            ["eval", "--labels", str(folders[0]), "--predictions", str(folders[1]), "--json", *more]
        )
        found.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert found[0]["Car/3d/AP40/hard"] < found[1]["Car/3d/AP40/hard"]


def test_a_class_with_a_slash_in_its_name(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    line = CAR.format(left=50, right=250, x=0).replace("Car", "goods/crate")
    (folders[0] / "0.txt").write_text(line)
    (folders[1] / "0.txt").write_text(f"{line} 0.5")
    more = ["--labels", str(folders[0]), "--predictions", str(folders[1])]
    assert main(["eval", *more, "--classes", "goods/crate"]) == 0
    assert "goods/crate easy: 1 objects" in capsys.readouterr().out
    values = {"AP": 1.0, "AP/0.5": 1.0, "AP/1": 1.0, "AP/2": 1.0, "AP/4": 1.0, "count": 3}
    result = {"frames": 1, "mAP": 1.0, **{f"goods/crate/{k}": v for k, v in values.items()}}
    assert any(line.startswith("goods/crate    ") for line in tables(result))


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda a, b: (b / "0.txt").unlink(), 1, "has no predictions: NAME.txt"),
        (lambda a, b: (a / "0.txt").unlink(), 1, "no labels of frame 0"),
        (lambda a, b: (b / "0.txt").write_text("Car 1 2"), 1, "0.txt, line 1: 3 columns"),
        (lambda a, b: (a.parent / "s.txt").write_text("../x"), 1, "'../x' is no name of a frame"),
        (lambda a, b: (a.parent / "s.txt").write_text("0\n0"), 1, "names a frame twice"),
        (lambda a, b: (a.parent / "s.txt").write_text("1"), 1, "no labels of frame 1"),
    ],
)
def test_bad_folders_are_one_line(  # type: ignore[no-untyped-def]
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], spoil, code: int, words: str
) -> None:
    labels, predictions = folders
    line = CAR.format(left=50, right=250, x=0)
    (labels / "0.txt").write_text(line)
    (predictions / "0.txt").write_text(f"{line} 0.5")
    spoil(labels, predictions)
    split = labels.parent / "s.txt"
    more = ["--split", str(split)] if split.exists() else []
    assert main(["eval", "--labels", str(labels), "--predictions", str(predictions), *more]) == code
    errors = capsys.readouterr().err
    assert words in errors and len(errors.strip().splitlines()) == 1
