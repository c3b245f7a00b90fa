"""nuScenes in its own layout: where points and boxes land, what counts, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geodistill.checks import InputError, UsageError
from geodistill.detect.boxes import inside
from geodistill.detect.datasets import open_dataset
from geodistill.detect.datasets.nuscenes import Nuscenes
from geodistill.detect.datasets.nuscenes_splits import splits
from geodistill.detect.scenes import Detections
from geodistill.io import nuscenes as tables
from geodistill.metrics.nuscenes import evaluate
from tests.detect import small_nuscenes as made

CLASSES = ("car", "truck", "pedestrian", "bicycle")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nuscenes")
    made.write_nuscenes(folder)
    return folder


@pytest.fixture(scope="module")
def dataset(root: Path) -> Nuscenes:
    found = open_dataset(root)
    assert isinstance(found, Nuscenes) and found.metric == "nuscenes"
    return found


def test_frames_are_those_of_the_split(dataset: Nuscenes, root: Path) -> None:
    for name in ("train", "mini_train"):
        assert dataset.frames(name) == [f"0-sample-{k}" for k in range(3)]
    assert dataset.frames("val") == [f"1-sample-{k}" for k in range(3)]
    with pytest.raises(UsageError, match=r"'trian' \(did you mean 'train'\?\).*splits/tri"):
        dataset.frames("trian")
    (root / "splits").mkdir()
    (root / "splits" / "mine.txt").write_text("scene-0103\n")
    assert dataset.frames("mine") == dataset.frames("val")
    (root / "splits" / "lost.txt").write_text("scene-0104\n")
    with pytest.raises(InputError, match=r"lost.txt: scene-0104 is no scene of .*v1.0-mini"):
        dataset.frames("lost")


def test_the_benchmarks_splits() -> None:
    names = [f"scene-{k:04d}" for k in range(1, 1111)]
    found = splits("v1.0-trainval", names)
    assert len(found["val"]) == 150 and {"scene-0003", "scene-0916", "scene-1073"} <= found["val"]
    assert not found["train"] & found["val"]
    assert splits("v1.0-test", names)["test"] == set(names)
    assert splits("v1.0-mini", ["scene-0061", "scene-0103", "scene-0916"])["mini_val"] == {
        *("scene-0103", "scene-0916")
    }


def test_what_stands_still_is_at_one_place_in_all_sweeps(dataset: Nuscenes) -> None:
    scene = dataset.scene("0-sample-2")
    points = scene.points.numpy()
    assert points.shape == (10 * 16, 5)  # without the vehicle's own
    assert np.unique(points[:, 4].round(4)) == pytest.approx(np.arange(10) * 0.05, abs=1e-6)
    wanted = made.seen(made.surface(made.TRUCK), 20)
    for lag in range(10):
        own = points[np.isclose(points[:, 4], 0.05 * lag)]
        assert own[:8, :3] == pytest.approx(wanted, abs=1e-4)
        assert own[:8, 3] == pytest.approx(0.2) and own[8:, 3] == pytest.approx(1)
        moving = made.seen(made.surface(made.car_at(20 - lag)), 20)
        assert own[8:, :3] == pytest.approx(moving, abs=1e-4)


def test_boxes_hold_their_points(dataset: Nuscenes) -> None:
    scene = dataset.scene("1-sample-1")
    assert scene.names == (
        *("truck", "car", "pedestrian", "bicycle", "static_object.bicycle_rack"),
    )
    assert scene.pastable.tolist() == [True, True, False, True, True]
    held = inside(scene.points[:, :3], scene.boxes)
    now = scene.points[:, 4] < 0.01
    assert held[now, 0].sum() == 8 and held[now, 1].sum() == 8
    assert held[:, 0].sum() == 80 and held[:, 1].sum() < 60  # the car was elsewhere
    assert scene.boxes[0, 3:6].tolist() == pytest.approx([7.0, 2.5, 3.0])
    center = made.seen(np.array([made.TRUCK[:3]]), 10)[0]
    assert scene.boxes[0, :3].numpy() == pytest.approx(center, abs=1e-4)
    # The LiDAR's x is to the right: a box that points as the vehicle does has a yaw of pi / 2.
    heading = made.TRUCK[6] - (0.4 + 0.02 * 10)
    assert float(scene.boxes[0, 6]) == pytest.approx(heading + math.pi / 2, abs=1e-3)


def test_the_first_frame_has_its_own_sweep_alone(dataset: Nuscenes) -> None:
    for number in range(2):  # and nothing of the scene before
        points = dataset.scene(f"{number}-sample-0").points
        assert len(points) == 16 and points[:, 4].max() == 0
    assert len(Nuscenes(dataset.root, sweeps=1).scene("0-sample-2").points) == 16


def test_trails_are_where_the_object_is_in_the_frames_around(dataset: Nuscenes) -> None:
    scene = dataset.scene("0-sample-1")
    assert scene.trails is not None and scene.trails.shape == (5, 2, 7)
    assert torch.equal(scene.trails[0, 0], scene.boxes[0])
    for k, sweep in enumerate((0, 20)):
        there = made.seen(np.array([made.car_at(sweep)[:3]]), 10)[0]
        assert scene.trails[1, k, :3].numpy() == pytest.approx(there, abs=1e-4)
    assert torch.equal(scene.trails[2], scene.boxes[2].expand(2, 7))  # in one sample alone


def test_what_counts(dataset: Nuscenes) -> None:
    truth = dataset.labels("0-sample-1")
    rack = "static_object.bicycle_rack"  # a class of its own, as scenes have it
    assert truth.names == ("truck", "car", "pedestrian", rack)  # the bicycle is in it
    assert truth.attributes is not None and truth.points is not None
    assert truth.attributes[:3] == ("vehicle.parked", "vehicle.moving", "")
    assert truth.points.tolist()[:3] == [8, 8, 3]
    found = replace(truth, scores=np.ones(4))
    assert evaluate([truth], [found], (rack,)).values()["mAP"] == pytest.approx(100)
    assert truth.centers[0] == pytest.approx(made.TRUCK[:3])
    assert truth.sizes[0] == pytest.approx([7, 2.5, 3]) and truth.yaws[0] == pytest.approx(2.0)
    at, _ = made.pose(10)
    assert truth.distances[0] == pytest.approx(math.dist(at[:2], made.TRUCK[:2]))
    assert truth.velocities is not None
    speed = made.SPEED * np.array([math.cos(made.CAR[6]), math.sin(made.CAR[6])])
    for frame in ("0-sample-0", "0-sample-1", "0-sample-2"):
        found = dataset.labels(frame)
        assert found.velocities is not None
        assert found.velocities[:2] == pytest.approx(np.array([[0, 0], speed]), abs=1e-6)
    assert np.isnan(truth.velocities[2]).all()


def test_boxes_of_the_scan_as_detections_score_best(dataset: Nuscenes) -> None:
    frames = dataset.frames("train")
    found = []
    for frame in frames:
        scene = dataset.scene(frame)
        labels = scene.labels(CLASSES)
        own = labels >= 0
        scores = torch.linspace(0.9, 0.5, len(labels))
        found.append(Detections(scene.boxes[own], scores[own], labels[own]))
    truths = [dataset.labels(frame) for frame in frames]
    truths = [one.chosen(np.array([name in CLASSES for name in one.names])) for one in truths]
    predictions = [
        dataset.predictions(frame, one, CLASSES) for frame, one in zip(frames, found, strict=True)
    ]
    for one, two in zip(truths, predictions, strict=True):
        assert one.names == two.names
        assert one.centers == pytest.approx(two.centers, abs=1e-3)
        assert one.distances == pytest.approx(two.distances, abs=1e-3)
        assert one.yaws == pytest.approx(two.yaws, abs=1e-3)
    values = evaluate(truths, predictions, CLASSES[:3]).values()
    assert values["mAP"] == pytest.approx(100) and "NDS" not in values and "mAVE" not in values
    assert max(values[key] for key in ("mATE", "mASE", "mAOE")) < 1e-3
    many = Detections(torch.ones(600, 7), torch.linspace(1, 0, 600), torch.zeros(600).long())
    best = dataset.predictions(frames[0], many, CLASSES)
    assert len(best) == 500 and best.scores is not None and best.scores.min() > 0.15


def test_the_digest_is_of_the_boxes(dataset: Nuscenes, tmp_path: Path) -> None:
    frames = dataset.frames("train")
    folder = made.write_nuscenes(tmp_path)
    assert open_dataset(tmp_path).digest(frames) == dataset.digest(frames)
    changed("sample_annotation", 0, translation=[1, 2, 3])(folder)
    digests = {
        dataset.digest(frames),
        open_dataset(tmp_path).digest(frames),
        dataset.digest(frames[:2]),
        Nuscenes(dataset.root, sweeps=3).digest(frames),
    }
    assert len(digests) == 4


def test_tables_are_read_piece_by_piece(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = tmp_path / "marked.json"
    marked.write_text('[{"token": "a"}]', encoding="utf-8-sig")
    whole = tables.read_tables(root / "v1.0-mini")
    assert [*tables.records(marked)] == [{"token": "a"}]
    monkeypatch.setattr(tables, "_CHUNK", 400)
    pieces = tables.read_tables(root / "v1.0-mini")
    assert whole.samples == pieces.samples and whole.sweeps.files == pieces.sweeps.files
    assert np.array_equal(whole.annotations.boxes, pieces.annotations.boxes)


def test_a_versions_folder_can_be_named(root: Path, tmp_path: Path) -> None:
    assert len(open_dataset(root / "v1.0-mini").scene("0-sample-0").points) == 16
    made.write_nuscenes(tmp_path)
    made.write_nuscenes(tmp_path, "v1.0-own")
    with pytest.raises(UsageError, match=r"has v1.0-mini, v1.0-own: name one"):
        open_dataset(tmp_path).frames("train")
    with pytest.raises(UsageError, match=r"no split 'train' \(known: none\)"):
        open_dataset(tmp_path / "v1.0-own").frames("train")


def test_a_versions_folder_can_be_a_link(tmp_path: Path) -> None:
    """Tables that lie elsewhere under another name: scans are beside the link."""
    made.write_nuscenes(tmp_path / "data")
    version = tmp_path / "data" / "v1.0-mini"
    version.rename(tmp_path / "tables")
    version.symlink_to(tmp_path / "tables")
    dataset = open_dataset(version)
    assert dataset.frames("val") == open_dataset(tmp_path / "data").frames("val")
    assert len(dataset.scene("0-sample-0").points) == 16


def changed(table: str, row: int, **fields: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / f"{table}.json"
        rows = json.loads(path.read_text())
        rows[row] |= fields
        rows[row] = {key: value for key, value in rows[row].items() if value != "gone"}
        path.write_text(json.dumps(rows))

    return change


def written(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def cut(folder: Path) -> None:
    path = folder / "sample_annotation.json"
    path.write_text(path.read_text()[:-40])


def doubled(table: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / f"{table}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) * 2))

    return change


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "sample.json").unlink(), "it has no sample.json"),
        *(
            (doubled(name), "is that of another record")
            for name in ("scene", "sample", "sensor", "category", "instance", "attribute")
        ),
        (cut, "sample_annotation.json is damaged or truncated behind record 25"),
        (written("scene.json", ""), "scene.json is no JSON list"),
        (written("scene.json", "{}"), "scene.json is no JSON list"),
        (written("scene.json", "[3]"), "scene.json, record 1 is 3, no object"),
        (written("scene.json", "[" * 10**5), "scene.json"),
        (changed("sample", 1, timestamp="gone"), "sample.json, record 2 has no field timestamp"),
        (changed("sample", 1, timestamp=1.5), "record 2: 1.5 where a whole number"),
        (changed("sample", 1, scene_token="x"), "record 2: nothing has its scene_token 'x'"),
        (changed("scene", 0, name=[]), "scene.json, record 1: name is a list, not a text"),
        (changed("scene", 0, token=7), "record 1: its token is 7, not a text"),
        (changed("ego_pose", 0, token="x"), "ego_pose.json has no pose of 'samples/LIDAR"),
        (changed("ego_pose", 0, translation=[1, 2]), "record 1: translation must be 3 finite"),
        (changed("sample_annotation", 3, rotation=[0, 0, 0, 0]), "record 4: rotation must be 4"),
        (changed("sample_annotation", 3, size=[1, 0, 1]), "record 4: a size of 0"),
        (changed("sample_annotation", 3, size=[1, math.nan, 1]), "record 4: size must be 3"),
        (changed("sample_annotation", 3, attribute_tokens=["x"]), "nothing has its attribute_"),
        (changed("sample_annotation", 3, attribute_tokens=None), "is None, not a list"),
        (changed("sample_data", 0, filename=3), "record 1: its filename and ego_pose_token"),
    ],
)
def test_damaged_tables_are_named(
    tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    folder = made.write_nuscenes(tmp_path)
    damage(folder)
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path).frames("train")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = made.write_nuscenes(tmp_path)
    changed("sample_annotation", 0, attribute_tokens=["a0", "a1"])(folder)
    found = open_dataset(tmp_path)
    with pytest.raises(InputError, match="an object of 0-sample-0 has several attributes"):
        found.labels("0-sample-0")
    with pytest.raises(UsageError, match="no sample nothing: frames are tokens"):
        found.scene("nothing")
    scan = tmp_path / "sweeps" / "LIDAR_TOP" / "0-15.pcd.bin"
    scan.write_bytes(scan.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"0-15.pcd.bin is truncated"):
        found.scene("0-sample-2")
    scan.unlink()
    with pytest.raises(InputError, match=r"0-15.pcd.bin does not exist"):
        found.scene("0-sample-2")
    with pytest.raises(InputError, match="is no folder of nuScenes"):
        Nuscenes(tmp_path / "samples").frames("train")
