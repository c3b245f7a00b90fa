"""The parts of benchmarks/scenes.py and benchmarks/assets.py that need neither renderer nor net."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.benchmarks.converting import load

scenes = load("scenes")
assets = load("assets")


@pytest.mark.parametrize("split", ["train", "test", "val"])
def test_cameras_are_rigid_upright_and_look_at_the_origin(split: str) -> None:
    cameras = scenes.cameras_of(split, 50, seed=3)
    rotations, positions = cameras[:, :3, :3], cameras[:, :3, 3]
    identity = np.broadcast_to(np.eye(3), rotations.shape)
    np.testing.assert_allclose(np.swapaxes(rotations, 1, 2) @ rotations, identity, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0)
    np.testing.assert_allclose(cameras[:, 3], np.tile([0, 0, 0, 1], (50, 1)))
    np.testing.assert_allclose(np.linalg.norm(positions, axis=1), scenes.CAMERA_DISTANCE)
    forward = -rotations[:, :, 2]  # an OpenGL camera looks along its -z axis
    np.testing.assert_allclose(forward, -positions / scenes.CAMERA_DISTANCE, atol=1e-12)
    np.testing.assert_allclose(rotations[:, 2, 0], 0.0, atol=1e-12)  # the horizon is level
    assert (rotations[:, 2, 1] > 0).all()  # image up is world up
    elevations = np.rad2deg(np.arcsin(positions[:, 2] / scenes.CAMERA_DISTANCE))
    low, high = scenes.ELEVATION_DEG
    assert low <= elevations.min() < 5 and 60 < elevations.max() <= high


def test_cameras_depend_on_seed_and_split_only() -> None:
    train = scenes.cameras_of("train", 10, seed=0)
    np.testing.assert_array_equal(train, scenes.cameras_of("train", 10, seed=0))
    assert not np.allclose(train, scenes.cameras_of("train", 10, seed=1))
    assert not np.allclose(train, scenes.cameras_of("val", 10, seed=0))


def test_transforms_have_the_nerf_synthetic_layout() -> None:
    cameras = scenes.cameras_of("test", 3, seed=0)
    content = json.loads(json.dumps(scenes.transforms("test", cameras)))
    assert set(content) == {"camera_angle_x", "frames"}
    assert content["camera_angle_x"] == pytest.approx(0.6911112)
    assert [frame["file_path"] for frame in content["frames"]] == [
        "./test/r_0",
        "./test/r_1",
        "./test/r_2",
    ]
    np.testing.assert_array_equal([f["transform_matrix"] for f in content["frames"]], cameras)


def test_pixels_are_straight_srgb() -> None:
    half_covered_grey = [0.108, 0.108, 0.108, 0.5]  # premultiplied; linear 0.216 is sRGB 128
    nearly_empty = [0.001, 0.001, 0.001, 0.001]
    pixels = scenes.to_srgb8(np.array([[half_covered_grey, [2, 1, 0, 1], nearly_empty]]))
    assert pixels[0].tolist() == [[128, 128, 128, 128], [255, 255, 0, 255], [0, 0, 0, 0]]


def test_psnr_composites_on_white() -> None:
    clear, black = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    black[0, 0, 3] = 255
    assert scenes.psnr_on_white(clear, black) == pytest.approx(10 * np.log10(16))


def test_urdf_origin_is_roll_then_pitch_then_yaw() -> None:
    joint = ElementTree.fromstring('<joint><origin xyz="1 2 3" rpy="0.3 -0.4 0.5"/></joint>')
    (cr, cp, cy), (sr, sp, sy) = np.cos([0.3, -0.4, 0.5]), np.sin([0.3, -0.4, 0.5])
    roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    pitch = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    np.testing.assert_allclose(scenes._origin(joint)[:3, :3], yaw @ pitch @ roll)
    np.testing.assert_allclose(scenes._origin(joint)[:3, 3], [1, 2, 3])


def test_parts_move_by_a_similarity() -> None:
    triangle = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], float)
    part = scenes.Part(triangle, np.tile([0.0, 0, 1], (3, 1)), np.array([[0, 1, 2]]), None, None)
    matrix = np.array([[0, 0, 2, 5], [2, 0, 0, 6], [0, 2, 0, 7], [0, 0, 0, 1]], float)
    moved = part.moved(matrix)
    np.testing.assert_allclose(moved.vertices, [[5, 6, 7], [5, 8, 7], [5, 6, 9]])
    np.testing.assert_allclose(moved.normals, np.tile([1.0, 0, 0], (3, 1)))


def test_a_folder_made_with_other_settings_is_refused(tmp_path: Path) -> None:
    arguments = scenes.argparse.Namespace(size=200, train=100, test=20, val=5, seed=0)
    record = {**scenes.describe("dragon", arguments), "size_px": 64}
    (tmp_path / "scene.json").write_text(json.dumps(record))
    with pytest.raises(scenes.SceneError, match="made with another size_px"):
        scenes.make_scene("dragon", tmp_path, arguments)


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A function that registers a local archive as the asset ``toy``."""
    monkeypatch.setenv("GEODISTILL_CACHE", str(tmp_path / "cache"))

    def register(members: tuple[str, ...], files: dict[str, bytes]):
        archive = tmp_path / "toy.whl"
        with zipfile.ZipFile(archive, "w") as wheel:
            for name, data in files.items():
                wheel.writestr(name, data)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        asset = assets.Asset("pip", "toy", "1.0", digest, members, "CC0")
        monkeypatch.setitem(assets.ASSETS, "toy", asset)
        monkeypatch.setattr(assets, "_download", lambda *_: archive)
        return asset

    return register


def test_fetch_keeps_the_wanted_members_and_the_licence(offer, monkeypatch) -> None:
    offer(("data/*.obj",), {"data/a.obj": b"a", "data/b.png": b"b"})
    folder = assets.fetch("toy")
    kept = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert kept == {"data/a.obj", "LICENCE-NOTE.txt"}
    assert "CC0" in (folder / "LICENCE-NOTE.txt").read_text()
    monkeypatch.setattr(assets, "_download", lambda *_: pytest.fail("downloaded twice"))
    assert assets.fetch("toy") == folder


def test_fetch_refuses_another_archive(offer, monkeypatch) -> None:
    asset = offer(("a",), {"a": b"a"})
    monkeypatch.setitem(assets.ASSETS, "toy", dataclasses.replace(asset, sha256="0" * 64))
    with pytest.raises(assets.AssetError, match="the pinned one is 000"):
        assets.fetch("toy")


def test_fetch_names_what_is_missing(offer) -> None:
    offer(("a", "c/*"), {"a": b"a"})
    with pytest.raises(assets.AssetError, match=r"has no member c/\*"):
        assets.fetch("toy")
    with pytest.raises(assets.AssetError, match="there is no asset 'toi'; known are"):
        assets.fetch("toi")


@pytest.mark.parametrize("name", ["../evil", "/evil"])
def test_fetch_writes_nothing_outside_its_folder(offer, tmp_path: Path, name: str) -> None:
    offer(("*",), {name: b"evil"})
    with pytest.raises(assets.AssetError, match="outside its own folder"):
        assets.fetch("toy")
    assert not list(tmp_path.rglob("evil"))
