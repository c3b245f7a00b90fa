"""Own scans with boxes: both layouts, every kind of file, the metric without a camera, and what is
refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodistill.checks import InputError, UsageError
from geodistill.detect.boxes import inside
from geodistill.detect.datasets import open_dataset
from geodistill.detect.datasets.custom import CAMERA, Custom
from geodistill.detect.datasets.kitti import lidar_boxes
from geodistill.detect.scenes import Detections
from geodistill.io.kitti import Labels, read_labels, write_labels
from geodistill.io.pcd import write_pcd
from geodistill.metrics.kitti import LEVELS, caps, evaluate

COUNTS = (60, 50, 49, 15, 14, 5, 4, 0)  # points of each object: two of each level
NAMES = ("Car", "Cyclist", "Car", "Forklift", "Car", "Car", "Pedestrian", "Car")


def scan(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points with four values and boxes, so many points in each."""
    count = len(COUNTS)
    at = np.column_stack([np.arange(count) * 8.0 - 20, random.uniform(-20, 20, count)])
    boxes = np.column_stack([at, random.uniform(-1, 1, count), random.uniform(1, 5, (count, 3))])
    boxes = np.column_stack([boxes, random.uniform(-math.pi, math.pi, count)])
    points = [np.column_stack([random.uniform(-60, 60, (80, 2)), np.full(80, 9.0)])]
    for box, own in zip(boxes, COUNTS, strict=True):
        local = random.uniform(-0.48, 0.48, (own, 3)) * box[3:6]
        cos, sin = math.cos(box[6]), math.sin(box[6])
        local[:, :2] = local[:, :2] @ np.array([[cos, sin], [-sin, cos]])
        points.append(local + box[:3])
    xyz = np.concatenate(points)
    return np.column_stack([xyz, random.uniform(0, 1, len(xyz))]).astype(np.float32), boxes


def write_scan(path: Path, points: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".bin":
        path.write_bytes(points.astype("<f4").tobytes())
    elif path.suffix == ".npy":
        np.save(path, points)
    else:
        names = ("x", "y", "z", "intensity")[: points.shape[1]]
        write_pcd(path, dict(zip(names, points.T.copy(), strict=True)))


def entries(boxes: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"class": name, "center": box[:3], "size": box[3:6], "yaw": box[6], "comment": "x"}
        for name, box in zip(NAMES, boxes.tolist(), strict=True)
    ]


def write_plain(root: Path, frames: int = 3, suffix: str = ".bin") -> list[np.ndarray]:
    """The boxes are returned."""
    random = np.random.default_rng(0)
    for part in ("boxes", "splits"):
        (root / part).mkdir(parents=True)
    found = []
    for k in range(frames):
        points, boxes = scan(random)
        write_scan(root / "scans" / f"scan-{k}{suffix}", points)
        text = json.dumps({"boxes": entries(boxes)} if k else entries(boxes))
        (root / "boxes" / f"scan-{k}.json").write_text(text)
        found.append(boxes)
    (root / "splits" / "val.txt").write_text("".join(f"scan-{k}\n" for k in range(frames)))
    return found


def write_openpcdet(root: Path) -> np.ndarray:
    points, boxes = scan(np.random.default_rng(0))
    for part in ("labels", "ImageSets"):
        (root / part).mkdir(parents=True)
    write_scan(root / "points" / "000000.npy", points.astype(np.float64))
    lines = [
        f"{' '.join(f'{value:.6f}' for value in box)} {name}"
        for name, box in zip(NAMES, boxes, strict=True)
    ]
    (root / "labels" / "000000.txt").write_text("\n".join(lines) + "\n\n")
    (root / "ImageSets" / "val.txt").write_text("000000\n")
    return boxes


@pytest.mark.parametrize("suffix", [".bin", ".npy", ".pcd"])
def test_a_plain_folder(tmp_path: Path, suffix: str) -> None:
    boxes = write_plain(tmp_path, 2, suffix)
    dataset = open_dataset(tmp_path)
    assert isinstance(dataset, Custom) and dataset.metric == "kitti"
    assert dataset.frames("val") == ["scan-0", "scan-1"]
    for k, frame in enumerate(dataset.frames("val")):
        scene = dataset.scene(frame)
        assert scene.frame == frame and scene.names == NAMES
        assert scene.boxes.numpy() == pytest.approx(boxes[k], abs=1e-5)
        assert inside(scene.points[:, :3], scene.boxes).sum(0).tolist() == [*COUNTS]
        assert scene.pastable.all()
        assert scene.points.shape == (80 + sum(COUNTS), 4)
    random = np.random.default_rng(0)
    assert np.array_equal(dataset.scene("scan-0").points.numpy(), scan(random)[0])


def test_the_custom_layout_of_openpcdet(tmp_path: Path) -> None:
    boxes = write_openpcdet(tmp_path)
    dataset = open_dataset(tmp_path)
    scene = dataset.scene(dataset.frames("val")[0])
    assert scene.names == NAMES and scene.points.dtype == torch.float32
    assert scene.boxes.numpy() == pytest.approx(boxes, abs=1e-5)
    assert inside(scene.points[:, :3], scene.boxes).sum(0).tolist() == [*COUNTS]
    (tmp_path / "labels" / "000000.txt").write_text("")
    assert len(dataset.scene("000000").boxes) == 0 and len(dataset.labels("000000")) == 0


def test_levels_are_by_points(tmp_path: Path) -> None:
    write_plain(tmp_path, 1)
    labels = open_dataset(tmp_path).labels("scan-0")
    assert labels.occlusion.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    report = evaluate([labels], [labels_scored(labels)], ("Car", "Forklift"), views=("bev", "3d"))
    assert [report.counts["Car", level] for level in LEVELS] == [1, 2, 4]
    assert [report.counts["Forklift", level] for level in LEVELS] == [0, 1, 1]


def labels_scored(labels: Labels) -> Labels:
    return replace(labels, scores=np.linspace(1, 0.5, len(labels)))


def test_labels_are_the_boxes_in_the_frame_of_no_camera(tmp_path: Path) -> None:
    boxes = write_plain(tmp_path, 1)[0]
    labels = open_dataset(tmp_path).labels("scan-0")
    assert lidar_boxes(labels, CAMERA).numpy() == pytest.approx(boxes, abs=1e-5)
    assert labels.location[:, 2] == pytest.approx(boxes[:, 0], abs=1e-5)  # forward
    assert labels.location[:, 0] == pytest.approx(-boxes[:, 1], abs=1e-5)
    assert labels.location[:, 1] == pytest.approx(boxes[:, 5] / 2 - boxes[:, 2], abs=1e-5)  # down


def test_the_metric_needs_no_camera(tmp_path: Path) -> None:
    """What is behind the sensor counts as what is before it."""
    write_plain(tmp_path, 12)
    dataset = open_dataset(tmp_path)
    frames = dataset.frames("val")
    classes = ("Car", "Forklift")

    def values(change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        predictions = []
        for frame in frames:
            scene = dataset.scene(frame)
            labels = scene.labels(classes)
            counts = inside(scene.points[:, :3], scene.boxes).sum(0)
            own = (labels >= 0) & (counts >= 5)
            scores = torch.linspace(0.9, 0.5, int(own.sum()))
            found = Detections(change(scene.boxes[own]), scores, labels[own])
            predictions.append(dataset.predictions(frame, found, classes))
        truth = [dataset.labels(frame) for frame in frames]
        return evaluate(truth, predictions, classes, views=dataset.views).values()

    best = values(lambda boxes: boxes)
    assert {key.split("/")[1] for key in best} == {"bev", "3d"}
    assert best["Car/3d/AP40/hard"] == pytest.approx(caps(4 * 12)[0])
    assert best["Car/3d/AP40/easy"] == pytest.approx(caps(12)[0])
    assert best["Forklift/bev/AP40/moderate"] == pytest.approx(caps(12)[0])
    raised = values(lambda boxes: boxes + torch.tensor([0, 0, 9.0, 0, 0, 0, 0]))
    for key, value in raised.items():
        assert value == (pytest.approx(best[key]) if "/bev/" in key else 0)
    aside = values(lambda boxes: boxes + torch.tensor([0, 9.0, 0, 0, 0, 0, 0]))
    assert set(aside.values()) == {0.0}


def test_predictions_are_files_of_kitti(tmp_path: Path) -> None:
    write_plain(tmp_path / "data", 1)
    dataset = open_dataset(tmp_path / "data")
    boxes = dataset.scene("scan-0").boxes[:2]
    found = Detections(boxes, torch.tensor([0.9, 0.4]), torch.tensor([1, 0]))
    write_labels(tmp_path / "a.txt", dataset.predictions("scan-0", found, ("Car", "Bus")))
    again = read_labels(tmp_path / "a.txt", scored=True)
    assert again.names == ("Bus", "Car") and again.scores == pytest.approx([0.9, 0.4], abs=1e-4)
    assert lidar_boxes(again, CAMERA).numpy() == pytest.approx(boxes.numpy(), abs=1e-3)


def test_values_and_intensities_are_as_the_settings_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plain(tmp_path, 1)
    path = tmp_path / "scans" / "scan-0.bin"
    table = np.array([[1, 2, 3, 255, 7], [4, 5, np.nan, 51, 8], [4, 5, 6, 51, 9]], np.float32)
    write_scan(path, table)
    (tmp_path / "dataset.json").write_text('{"values": 5, "intensity_scale": 255}')
    points = open_dataset(tmp_path).scene("scan-0").points
    assert points.numpy() == pytest.approx(np.array([[1, 2, 3, 1, 7], [4, 5, 6, 0.2, 9]]))
    assert "scan-0.bin: 1 of 3 points are not finite: left out" in capsys.readouterr().err
    (tmp_path / "dataset.json").write_text('{"values": 5, "intensity_scale": 1e-37}')
    assert open_dataset(tmp_path).scene("scan-0").points.shape == (0, 5)  # beyond float32
    (tmp_path / "dataset.json").write_text('{"values": 3}')
    write_scan(path, table[[0, 2], :3])
    points = open_dataset(tmp_path).scene("scan-0").points
    assert points.tolist() == [[1, 2, 3, 0], [4, 5, 6, 0]]


def test_a_pcd_without_intensity_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plain(tmp_path, 2, ".pcd")
    for k in range(2):
        write_scan(tmp_path / "scans" / f"scan-{k}.pcd", np.ones((2, 3), np.float32))
    dataset = open_dataset(tmp_path)
    for k in range(2):
        assert dataset.scene(f"scan-{k}").points.tolist() == [[1, 1, 1, 0]] * 2
    said = capsys.readouterr().err.splitlines()
    first = tmp_path / "scans" / "scan-0.pcd"
    assert said == [f"{first}: it has no intensity, but x, y, z: it counts as 0"]


def test_the_digest_is_of_boxes_and_settings(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_plain(tmp_path / name, 2)
    one, two = (open_dataset(tmp_path / name) for name in ("one", "two"))
    frames = ["scan-0", "scan-1"]
    first = one.digest(frames)
    assert first == two.digest(frames) != one.digest(frames[:1])
    (tmp_path / "one" / "boxes" / "scan-1.json").write_text("[]")
    (tmp_path / "two" / "dataset.json").write_text('{"intensity_scale": 2}')
    assert len({first, one.digest(frames), two.digest(frames)}) == 3


def test_an_empty_scan_is_one(tmp_path: Path) -> None:
    write_plain(tmp_path, 1)
    (tmp_path / "scans" / "scan-0.bin").write_bytes(b"")
    scene = open_dataset(tmp_path).scene("scan-0")
    assert scene.points.shape == (0, 4) and len(scene.boxes) == len(NAMES)
    (tmp_path / "boxes" / "scan-0.json").write_text("[]")
    assert open_dataset(tmp_path).scene("scan-0").boxes.shape == (0, 7)


def box(**fields: Any) -> str:
    own = {"class": "Car", "center": [1, 2, 3], "size": [4, 2, 1.5], "yaw": 0.1, **fields}
    good = {"class": "Car", "center": [9, 2, 3], "size": [4, 2, 1.5], "yaw": 0}
    return json.dumps([good, {key: value for key, value in own.items() if value != "gone"}])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "scan-0.json is missing: a scan without objects has an empty list, []"),
        ("", "scan-0.json is empty"),
        ("[{", "is no valid JSON"),
        ("[" * 10**5, "is no valid JSON"),
        ("{}", "must hold a list of boxes"),
        ("[3]", "box 1 is 3, no object"),
        (box(yaw="gone"), "box 2 has no field yaw: class, center, size and yaw are needed"),
        (box(**{"class": 3}), "box 2: its class is 3; it must be one word"),
        (box(**{"class": "Big truck"}), "box 2: its class is 'Big truck'; it must be one word"),
        (box(center=[1, 2]), "box 2: its center must be 3 finite numbers"),
        (box(center={"x": 1}), "box 2: its center must be 3 finite numbers"),
        (box(size=[1, "2", 3]), "box 2: its size must be 3 finite numbers"),
        (box(size=[1, math.nan, 3]), "box 2: its size must be 3 finite numbers"),
        (box(size=[1, 0, 3]), "box 2: a size of 0; all three must be above 0"),
        (box(size=[1, -2, 3]), "box 2: a size of -2"),
        (box(yaw=[1]), "box 2: its yaw must be a finite number"),
        (box(yaw=True), "box 2: its yaw must be a finite number"),
        (box(yaw=10**400), "box 2: its yaw must be a finite number"),
    ],
)
def test_wrong_boxes_are_named(tmp_path: Path, text: str | None, words: str) -> None:
    write_plain(tmp_path, 1)
    path = tmp_path / "boxes" / "scan-0.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path).scene("scan-0")
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "000000.txt is missing: a scan without objects has an empty file"),
        ("1 2 3 4 5 6 7\n", "line 1: 7 columns where x y z length width height yaw class are 8"),
        ("\n1 2 3 4 5 6 x Car\n", "line 2: 7 numbers and a class are expected"),
        ("1 2 3 4 5 -6 7 Car\n", "line 1: a size of -6"),
        ("1 2 3 4 5 nan 7 Car\n", "line 1: its numbers must be finite"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, text: str | None, words: str) -> None:
    write_openpcdet(tmp_path)
    path = tmp_path / "labels" / "000000.txt"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path).labels("000000")
    assert words in str(caught.value)


def remade(name: str, points: np.ndarray) -> Callable[[Path], object]:
    return lambda root: write_scan(root / "scans" / name, points)


def cut(root: Path) -> None:
    path = root / "scans" / "scan-0.npy"
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "it is damaged"),
        (remade("scan-0.npy", np.array([["a"] * 4])), "must hold an array of numbers"),
        (remade("scan-0.npy", np.ones(4)), "must be [N, 4] or wider, got [4]"),
        (remade("scan-0.npy", np.ones((5, 3))), "must be [N, 4] or wider, got [5, 3]"),
        (remade("scan-0.npy", np.array([[None] * 4])), "holds Python objects, which are not read"),
        (remade("scan-0.bin", np.ones((5, 4))), "it has scan-0.bin and scan-0.npy"),
        (lambda root: (root / "scans" / "scan-0.npy").unlink(), "it has none of .bin, .npy, .pcd"),
    ],
)
def test_wrong_scans_are_named(
    tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    write_plain(tmp_path, 1, ".npy")
    damage(tmp_path)
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path).scene("scan-0")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_truncated_scan_is_named(tmp_path: Path) -> None:
    write_plain(tmp_path, 1)
    path = tmp_path / "scans" / "scan-0.bin"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"scan-0.bin is truncated, or no scan of 4 values"):
        open_dataset(tmp_path).scene("scan-0")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"value": 5}', "nothing is called 'value' (did you mean 'values'?); known: values"),
        ('{"values": 2}', "values must be a whole number from 3 to 64"),
        ('{"values": 4.0}', "values must be a whole number"),
        ('{"intensity_scale": 0}', "intensity_scale must be a number above 0"),
        ('{"boxes": "mmdet"}', "boxes must be one of openpcdet, mmdet3d, mmdet3d-0, got 'mmdet'"),
        ('{"boxes": ["mmdet3d"]}', "boxes must be one of"),
        ("[]", "is not a JSON object"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, words: str) -> None:
    write_plain(tmp_path, 1)
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path).scene("scan-0")
    assert words in str(caught.value)


def test_splits_that_are_missing(tmp_path: Path) -> None:
    write_plain(tmp_path, 1)
    with pytest.raises(
        UsageError,
        match=r"splits has no split 'train' \(known: val\): write the names .* into train.txt",
    ):
        open_dataset(tmp_path).frames("train")
    write_scan(tmp_path / "scans" / "scan-0.pcd", np.ones((3, 4), np.float32))
    (tmp_path / "scans" / "scan-0.bin").unlink()
    (tmp_path / "dataset.json").write_text('{"values": 5}')
    with pytest.raises(InputError, match=r"of a .pcd file x, y, z and intensity are read"):
        open_dataset(tmp_path).scene("scan-0")
    with pytest.raises(InputError, match="is no data set of scans: none of training/velodyne"):
        open_dataset(tmp_path / "splits")
