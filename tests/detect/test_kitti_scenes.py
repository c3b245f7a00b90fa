from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geodistill.checks import InputError, UsageError
from geodistill.detect.boxes import wrap
from geodistill.detect.datasets import open_dataset
from geodistill.detect.datasets.kitti import (
    camera_columns,
    image_boxes,
    in_view,
    kitti_predictions,
    lidar_boxes,
)
from geodistill.detect.scenes import Detections
from geodistill.io.kitti import make_labels, read_labels, write_labels
from geodistill.io.kitti_frames import (
    IMAGE_SIZE,
    Calibration,
    read_calibration,
    write_calibration,
)
from geodistill.io.scans import read_scan
from geodistill.metrics.kitti import caps, evaluate
from tests.detect.small_kitti import CALIBRATION, write_kitti


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("kitti"), 4, 3)


def turned_calibration() -> Calibration:
    """A camera that looks a little down and to the side."""
    a, b = 0.03, -0.02
    about_x = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    about_y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    found = CALIBRATION.camera_from_lidar.copy()
    found[:3, :3] = about_x @ about_y @ found[:3, :3]
    return Calibration(CALIBRATION.pixels_from_camera, found)


def test_boxes_are_the_labels(root: Path) -> None:
    dataset = open_dataset(root)
    for frame in dataset.frames("train"):
        scene, labels = dataset.scene(frame), dataset.labels(frame)
        sizes, location, turn, _ = camera_columns(scene.boxes, dataset.calibration(frame))
        assert np.abs(sizes - labels.sizes).max() < 1e-3
        assert np.abs(location - labels.location).max() < 1e-3
        away = wrap(torch.from_numpy(turn - labels.rotation_y)).abs()
        assert away.max() < 1e-3


def test_the_bottom_is_below_the_middle_whatever_the_camera() -> None:
    calibration = turned_calibration()
    boxes = torch.tensor([[20.0, 3, -0.9, 4, 1.6, 1.5, 0.3], [10.0, -2, -0.5, 0.8, 0.6, 1.7, 2.0]])
    sizes, location, turn, _ = camera_columns(boxes, calibration)
    table = np.column_stack([np.zeros((2, 7)), sizes, location, turn])
    again = lidar_boxes(make_labels(("Car", "Pedestrian"), table), calibration)
    assert torch.allclose(again, boxes, atol=1e-4)


def test_a_box_ahead_is_ahead_in_the_camera() -> None:
    boxes = torch.tensor([[20.0, 0, -0.9, 4, 1.6, 1.5, 0.0]])
    _, location, turn, _ = camera_columns(boxes, CALIBRATION)
    assert location[0] == pytest.approx([0, 0.9 + 0.75 - 0.08, 20 - 0.27])
    assert turn[0] == pytest.approx(-math.pi / 2)  # driving away along the camera's z
    px, seen = image_boxes(boxes, CALIBRATION, IMAGE_SIZE)
    middle = (px[0, 0] + px[0, 2]) / 2
    assert seen[0] and abs(middle - 609.6) < 5


def test_labels_given_as_predictions_score_the_cap(root: Path) -> None:
    dataset = open_dataset(root)
    frames, classes = dataset.frames("train"), ("Car", "Pedestrian")
    labels, predicted = [], []
    for frame in frames:
        scene = dataset.scene(frame)
        own = scene.labels(classes)
        kept = own >= 0
        scores = torch.linspace(0.9, 0.5, int(kept.sum()))
        found = Detections(scene.boxes[kept], scores, own[kept])
        labels.append(dataset.labels(frame))
        predicted.append(dataset.predictions(frame, found, classes))
    report = evaluate(labels, predicted, classes)
    for name in classes:
        count = report.counts[name, "hard"]
        assert count > 3
        for view in ("bev", "3d", "2d"):
            assert report.curves[name, view, "hard"].ap40 == pytest.approx(caps(count)[0])


def test_detections_outside_of_the_image_are_none() -> None:
    boxes = torch.tensor(
        [[20.0, 0, -1, 4, 2, 2, 0], [-20.0, 0, -1, 4, 2, 2, 0], [10.0, 30, -1, 4, 2, 2, 0]]
    )
    found = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 0, 0]))
    labels = kitti_predictions(found, ("Car", "Van"), CALIBRATION, IMAGE_SIZE)
    assert labels.names == ("Van",)
    assert labels.scores is not None and labels.scores[0] == pytest.approx(0.9)
    assert labels.alpha[0] == pytest.approx(labels.rotation_y[0])


def test_points_in_view() -> None:
    points = np.array([[10.0, 0, 0], [-10.0, 0, 0], [10.0, 20, 0], [10.0, 0, 30], [0.2, 0, 0]])
    assert in_view(points, CALIBRATION, IMAGE_SIZE).tolist() == [True, False, False, False, False]


def test_dont_care_regions_and_unclear_objects(root: Path, tmp_path: Path) -> None:
    own = write_kitti(tmp_path, 1, 1)
    path = own / "training" / "label_2" / "000000.txt"
    lines = path.read_text().splitlines()
    words = lines[0].split()
    words[2] = "3"
    lines[0] = " ".join(words)
    lines.append("DontCare -1 -1 -10 10 10 50 50 -1 -1 -1 -1000 -1000 -1000 -10")
    path.write_text("\n".join(lines))
    scene = open_dataset(own).scene("000000")
    assert "DontCare" not in scene.names and len(scene.boxes) == len(lines) - 1
    assert not scene.pastable[0] and scene.pastable[1:].any()


def test_trails(tmp_path: Path) -> None:
    root = write_kitti(tmp_path, 1, 1)
    dataset = open_dataset(root)
    count = len(dataset.scene("000000").boxes)
    path = root / "training" / "trails" / "000000.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"boxes": [[[k] * 7] * 2 for k in range(count)]}))
    assert dataset.scene("000000").trails[:, 1, 3].tolist() == list(range(count))
    label = root / "training" / "label_2" / "000000.txt"
    known = label.read_text()
    label.write_text("")
    path.write_text(json.dumps({"boxes": []}))
    assert dataset.scene("000000").trails.shape == (0, 0, 7)
    label.write_text(known)
    path.write_text(json.dumps({"boxes": [[[1] * 7]]}))
    with pytest.raises(InputError, match=f"has the trails of 1 labels, and 000000 has {count}:"):
        dataset.scene("000000")
    for wrong in ([1] * 6, [1] * 6 + [math.nan]):
        path.write_text(json.dumps({"boxes": [[wrong]] * count}))
        with pytest.raises(InputError, match="each label of 000000 needs boxes of 7 numbers"):
            dataset.scene("000000")
    path.write_text(json.dumps({"boxes": [[[1] * 7]]}))
    (root / "training" / "label_2" / "000000.txt").write_text("")
    with pytest.raises(InputError, match="has the trails of 1 labels, and 000000 has 0:"):
        dataset.scene("000000")


def test_the_digest_is_of_labels_trails_and_sizes_of_scans_and_images(
    tmp_path: Path,
) -> None:
    root = write_kitti(tmp_path, 2, 1)
    dataset, frames = open_dataset(root), ["000000", "000001"]
    found = [dataset.digest(frames), dataset.digest(frames[:1])]
    for part in ("label_2/000000.txt", "calib/000001.txt", "velodyne/000000.bin"):
        with (root / "training" / part).open("ab") as file:
            file.write(b"\n" * 16)
        found.append(dataset.digest(frames))
    (root / "training" / "trails").mkdir()
    for text in ("[]", "{}"):
        (root / "training" / "trails" / "000001.json").write_text(text)
        found.append(dataset.digest(frames))
    (root / "training" / "image_2").mkdir()
    for end, size in (("jpg", (1242, 375)), ("jpg", (600, 400)), ("png", (400, 600))):
        Image.new("RGB", size).save(root / "training" / "image_2" / f"000001.{end}")
        found.append(dataset.digest(frames))
    assert len(set(found)) == 10
    assert dataset.image_size("000001") == (600, 400)


# -- bad input ----------------------------------------------------------------------------------


def test_scans_that_are_truncated_or_hold_nan(tmp_path: Path, capsys) -> None:
    path = tmp_path / "a.bin"
    points = np.arange(12, dtype="<f4").reshape(3, 4)
    points[1, 2] = np.nan
    path.write_bytes(points.tobytes())
    assert np.array_equal(read_scan(path), points[[0, 2]])
    assert "1 of 3 points are not finite" in capsys.readouterr().err
    path.write_bytes(points.tobytes()[:-3])
    with pytest.raises(InputError, match=r"truncated, .* 45 bytes are no whole number of 16"):
        read_scan(path)
    path.write_bytes(b"")
    assert read_scan(path).shape == (0, 4)


def test_names_in_a_calibration_may_stand_between_blanks(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_calibration(path, turned_calibration())
    before = read_calibration(path)
    path.write_text(path.read_text().replace("P2:", " P2 :"))
    after = read_calibration(path)
    assert np.array_equal(after.pixels_from_camera, before.pixels_from_camera)


def test_calibrations_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(InputError, match=r"a\.txt is missing: without its calibration"):
        read_calibration(path)
    path.write_text("P2: 1 2 3\n")
    with pytest.raises(InputError, match="P2 must be 12 finite numbers"):
        read_calibration(path)
    path.write_text("P2: " + "1e200 " * 12)
    with pytest.raises(InputError, match="12 finite numbers, of at most 1e"):
        read_calibration(path)
    path.write_text("P2: " + "1 " * 12 + "\nR0_rect: " + "1 " * 9 + "\n")
    with pytest.raises(InputError, match="has no line Tr_velo_to_cam"):
        read_calibration(path)
    path.write_text(
        "P2: " + "1 " * 12 + "\nR0_rect: " + "0 " * 9 + "\nTr_velo_to_cam: " + "0 " * 12
    )
    with pytest.raises(InputError, match="R0_rect and Tr_velo_to_cam are no turn"):
        read_calibration(path)


def test_folders_and_splits_that_are_none(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no data set of scans"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"no split 'test' \(known: train, val\)"):
        open_dataset(root).frames("test")


def test_the_benchmarks_own_test_has_no_labels(tmp_path: Path) -> None:
    root = write_kitti(tmp_path, 2, 1)
    split = root / "ImageSets" / "test.txt"
    split.write_text("000001\n000000\n")
    assert open_dataset(root).frames("test") == ["000001", "000000"]  # of frames that are labelled
    split.write_text("000001\n007481\n")
    with pytest.raises(UsageError, match=r"the frames of 'test' are not in training/"):
        open_dataset(root).frames("test")
    split.write_text("000001\n")
    (root / "testing").mkdir()
    with pytest.raises(UsageError, match="have no labels: name another split"):
        open_dataset(root).frames("test")


def test_labels_of_no_size(tmp_path: Path) -> None:
    root = write_kitti(tmp_path, 1, 1)
    path = root / "training" / "label_2" / "000000.txt"
    words = path.read_text().splitlines()[0].split()
    path.write_text(" ".join([*words[:8], "1.5", "-0.1", *words[10:]]))
    with pytest.raises(InputError, match=r"000000\.txt: object 1, a .* is 1\.5 x -0\.1 x"):
        open_dataset(root).scene("000000")
    path.write_text(" ".join(["DontCare", *words[1:8], "-1", "-1", "-1", *words[11:]]))
    assert len(open_dataset(root).scene("000000").boxes) == 0


def test_boxes_behind_the_camera_are_read(tmp_path: Path) -> None:
    root = write_kitti(tmp_path, 1, 1)
    path = root / "training" / "label_2" / "000000.txt"
    labels = read_labels(path)
    labels.location[0, 2] = -8.0
    write_labels(path, labels)
    assert open_dataset(root).scene("000000").boxes[0, 0] == pytest.approx(-8 + 0.27, abs=1e-4)
