"""Whatever is wrong with a data set is one sentence that names the file and the remedy."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geodistill.checks import InputError
from geodistill.io.posed import load_camera_file, load_cameras, load_posed_images
from tests.io.layouts import (
    NAMES,
    SIZE,
    photograph,
    scene,
    transforms_table,
    write_blender,
    write_colmap_binary,
    write_colmap_text,
    write_nerfstudio,
)

Table = dict[str, Any]


def refused(path: Path, pattern: str, split: str = "all") -> None:
    """Loading fails with an InputError of one line that matches."""
    with pytest.raises(InputError, match=pattern) as caught:
        load_posed_images(path, split)
    assert "\n" not in str(caught.value)


def test_missing_path_and_unknown_folders(tmp_path: Path) -> None:
    refused(tmp_path / "none", "none does not exist: give the folder")
    refused(
        tmp_path,
        r"holds no known data set: looked for transforms_train.json \(Blender\), transforms.json "
        r"\(nerfstudio, instant-ngp\), .* in sparse/0, sparse",
    )
    (tmp_path / "a.txt").write_text("x")
    refused(tmp_path / "a.txt", "a.txt is not a data set: give its folder")
    refused(tmp_path / ("x" * 300), "does not exist|cannot read")
    with pytest.raises(InputError, match=r"none\.json does not exist"):
        load_camera_file(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ('{"frames": [', r"transforms.json is not valid JSON \(.*\): it may be truncated"),
        ("", "transforms.json is empty"),
        ("\xff\xfe", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[1, 2]", "transforms.json is not a JSON object"),
        ('{"frames": {}}', "has no list 'frames'"),
        ('{"frames": []}', "has zero frames"),
        ('{"frames": [3]}', "frame 0 is not a JSON object"),
    ],
)
def test_malformed_json(tmp_path: Path, text: str, pattern: str) -> None:
    (tmp_path / "transforms.json").write_text(text, encoding="latin-1")
    refused(tmp_path, pattern)


@pytest.mark.parametrize("twins", [1, 5, 7])
def test_cameras_may_share_a_place(tmp_path: Path, twins: int) -> None:
    """Most of them even, as on a tripod: only one out of all proportion to the others is wrong."""
    cameras = scene()
    table = transforms_table(cameras)
    frames = table["frames"]
    for frame in frames[:twins]:
        for row in range(3):
            frame["transform_matrix"][row][3] = frames[0]["transform_matrix"][row][3]
    write_nerfstudio(tmp_path, cameras)
    (tmp_path / "transforms.json").write_text(json.dumps(table))
    assert len(load_cameras(tmp_path, "all").cameras) == len(frames)
    frames[0]["transform_matrix"][0][3] = 1e9
    (tmp_path / "transforms.json").write_text(json.dumps(table))
    refused(tmp_path, "stands 1e\\+09 from the others' middle.*: correct its pose or remove it")


def drop(key: str) -> Callable[[Table, Table], object]:
    return lambda table, frame: frame.pop(key)


def put(**values: object) -> Callable[[Table, Table], object]:
    return lambda table, frame: frame.update(values)


def pose(edit: Callable[[np.ndarray], object]) -> Callable[[Table, Table], object]:
    def change(table: Table, frame: Table) -> None:
        matrix = np.array(frame["transform_matrix"])
        edit(matrix)
        frame["transform_matrix"] = matrix.tolist()

    return change


def scale_rotation(matrix: np.ndarray) -> None:
    matrix[:3, :3] *= 2


def mirror(matrix: np.ndarray) -> None:
    matrix[:3, 0] *= -1


def transpose(matrix: np.ndarray) -> None:
    matrix[:] = matrix.T.copy()


def not_finite(matrix: np.ndarray) -> None:
    matrix[1, 3] = math.nan


BAD_FRAMES = {
    "no matrix": (drop("transform_matrix"), r"frame 2 \(images/.*\) has no transform_matrix"),
    "no file": (drop("file_path"), "frame_00002 has no file_path"),
    "file is a number": (put(file_path=7), "file_path = 7, which is not a file name"),
    "no focal length": (drop("fl_x"), "has neither fl_x nor camera_angle_x"),
    "focal length is text": (put(fl_x="12"), 'fl_x = "12", which is not a finite number'),
    "focal length is huge": (put(fl_x=10**400), "fl_x = .*, which is not a finite number"),
    "focal length is negative": (put(fl_x=-3.0), "fl_x = -3.0: a focal length in pixels must be"),
    "angle": (put(camera_angle_x=4.0), "camera_angle_x = 4.0: an angle of view lies between"),
    "lens is NaN": (put(k1=math.nan), "k1 = NaN, which is not a finite number"),
    "k3": (put(k3=0.1), "has k3 = 0.1, only k1, k2, p1, p2 are known: undistort"),
    "fisheye": (
        put(camera_model="OPENCV_FISHEYE"),
        "camera_model 'OPENCV_FISHEYE', known are .*undistort",
    ),
    "ngp fisheye": (put(is_fisheye=True), "a lens with 'is_fisheye'"),
    "size is not whole": (put(w=31.5), "w = 31.5, h = 24: they must be whole numbers"),
    "size is zero": (put(h=0), "h = 0: they must be whole numbers"),
    "sizes differ": (put(w=40), "declares 32x24 for .* but 40x24 for .*: all pictures"),
    "3x4": (
        put(transform_matrix=np.eye(4)[:3].tolist()),
        r"must be a 4x4 matrix, got shape \[3, 4\]",
    ),
    "ragged": (put(transform_matrix=[[1, 2], [3]]), "is not a 4x4 matrix of numbers"),
    "matrix of text": (put(transform_matrix="identity"), "is not a 4x4 matrix of numbers"),
    "NaN in the matrix": (pose(not_finite), "transform_matrix holds NaN or infinity"),
    "scaled": (
        pose(scale_rotation),
        r"not a rotation \(determinant 8, column lengths 2, 2, 2\): export",
    ),
    "mirrored": (pose(mirror), r"not a rotation \(determinant -1"),
    "transposed": (pose(transpose), "last row of transform_matrix is .*it may be transposed"),
    "applied_transform": (
        lambda table, frame: table.update(applied_transform=np.diag([1, 2, 3, 1.0]).tolist()),
        "applied_transform and applied_scale cannot be undone: .*determinant 6",
    ),
    "applied_scale": (
        lambda table, frame: table.update(applied_scale=-1.0),
        "cannot be undone: .*positive",
    ),
    "applied_scale of zero": (
        lambda table, frame: table.update(applied_scale=0),
        "cannot be undone: .*positive",
    ),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_bad_frames(tmp_path: Path, case: str) -> None:
    change, pattern = BAD_FRAMES[case]
    write_nerfstudio(tmp_path, scene())
    table = transforms_table(scene())
    if case == "no focal length":
        table["frames"][2].pop("fl_y")
    change(table, table["frames"][2])
    (tmp_path / "transforms.json").write_text(json.dumps(table))
    refused(tmp_path, pattern)


def test_a_rotation_with_few_digits_is_accepted(tmp_path: Path) -> None:
    table = transforms_table(scene())
    for frame in table["frames"]:
        frame["transform_matrix"] = np.array(frame["transform_matrix"]).round(4).tolist()
    (tmp_path / "transforms.json").write_text(json.dumps(table))
    R = load_cameras(tmp_path, "all").cameras.world_from_cam[:, :3, :3]
    assert float((R.mT @ R - torch.eye(3)).abs().max()) < 1e-6


def test_positions_too_far_for_their_type(tmp_path: Path) -> None:
    table = transforms_table(scene())
    for frame in table["frames"]:
        frame["transform_matrix"][0][3] += 4.5e6
    (tmp_path / "transforms.json").write_text(json.dumps(table))
    with pytest.raises(InputError, match=r"4\.5e\+06 from the origin .* float32 cannot resolve"):
        load_cameras(tmp_path)
    assert load_cameras(tmp_path, dtype=torch.float64).cameras.centers[:, 0].min() > 4e6


def test_missing_and_damaged_pictures(tmp_path: Path) -> None:
    write_nerfstudio(tmp_path, scene())
    image = tmp_path / "images" / NAMES[5]
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, rf"{NAMES[5]} is truncated or damaged")
    image.write_bytes(b"no picture")
    refused(tmp_path, rf"{NAMES[5]} is not a whole PNG, JPEG, WebP or EXR image")
    image.write_bytes(b"")
    refused(tmp_path, rf"{NAMES[5]} is not a whole PNG")
    image.unlink()
    (tmp_path / "images" / NAMES[2]).unlink()
    refused(
        tmp_path,
        rf"2 of 16 images named in .*transforms.json are missing, the first is .*{NAMES[2]}: put",
    )
    image.mkdir()
    refused(tmp_path, "2 of 16 images")


def test_pictures_of_other_sizes(tmp_path: Path) -> None:
    write_nerfstudio(tmp_path / "declared", scene())
    write_blender(tmp_path / "undeclared", scene())
    small = Image.fromarray(photograph(scene(), 4)).resize((16, 12))
    small.save(tmp_path / "declared" / "images" / NAMES[4])
    refused(tmp_path / "declared", rf"{NAMES[0]} is 32x24 but .*{NAMES[4]} is 16x12: all pictures")
    path = tmp_path / "declared" / "transforms.json"
    path.write_text(path.read_text().replace('"h": 24', '"h": 30'))
    small.resize((32, 24)).save(tmp_path / "declared" / "images" / NAMES[4])
    refused(tmp_path / "declared", r"view_.* is 32x24 but .*transforms.json declares 32x30: use")
    small.save(tmp_path / "undeclared" / "train" / NAMES[4])
    refused(
        tmp_path / "undeclared", rf"{NAMES[1]} is 32x24 but .*{NAMES[4]} is 16x12: all pictures"
    )


def test_colmap_text_errors(tmp_path: Path) -> None:
    write_colmap_text(tmp_path, scene())
    cameras, images = (tmp_path / "sparse/0" / name for name in ("cameras.txt", "images.txt"))
    cameras_text, images_text = cameras.read_text(), images.read_text()

    def refuse(file: Path, text: str, pattern: str) -> None:
        file.write_text(text)
        refused(tmp_path, pattern)
        cameras.write_text(cameras_text)
        images.write_text(images_text)

    header = "# Camera list\n"
    refuse(
        cameras,
        header + "1 OPENCV_FISHEYE 32 24 1 2 3 4 5 6 7 8",
        "line 2: .*OPENCV_FISHEYE is not read.*colmap image_undistorter",
    )
    refuse(cameras, header + "1 OPENCV 32 24 1 2", "line 2 has 2 parameters, OPENCV has 8")
    refuse(cameras, header + "1 PINHOLE", "line 2 has 2 words, not CAMERA_ID MODEL")
    refuse(cameras, header + "1 PINHOLE 32 x 1 2 3 4", "line 2: 'x' is not a whole number")
    refuse(cameras, header + "1 PINHOLE 32 24 a 2 3 4", "line 2: could not convert string")
    refuse(cameras, header + "1 PINHOLE 32 24 nan 2 3 4", "line 2 holds NaN")
    refuse(cameras, header + "1 PINHOLE 32 24 0 2 3 4", "camera 1 has the focal length 0")
    refuse(cameras, header + "1 PINHOLE 0 24 1 2 3 4", "camera 1 has the size 0x24")
    refuse(
        cameras,
        header + "1 PINHOLE 32 24 1 2 3 4",
        "has the camera 16, which the model does not list",
    )
    refuse(images, "# nothing\n", "images.txt has zero registered images")
    refuse(images, "1 0 0 0 0 1 2 3 1 a.png\n\n", "a.png has a quaternion of length 0, not 1")
    refuse(images, "1 1 0 0 0 1 2 3 1\n\n", "line 1 is not IMAGE_ID QW")
    refuse(images, "1 1 0 0 0 1 2 inf 1 a.png\n\n", "line 1 holds NaN or infinity")


def test_colmap_binary_errors(tmp_path: Path) -> None:
    write_colmap_binary(tmp_path, scene())
    cameras, images = (tmp_path / "sparse/0" / name for name in ("cameras.bin", "images.bin"))
    cameras_bytes, images_bytes = cameras.read_bytes(), images.read_bytes()

    def refuse(file: Path, data: bytes, pattern: str) -> None:
        file.write_bytes(data)
        refused(tmp_path, pattern)
        cameras.write_bytes(cameras_bytes)
        images.write_bytes(images_bytes)

    refuse(images, b"", "images.bin is empty")
    refuse(images, images_bytes[:5], "images.bin is truncated at byte 5")
    refuse(
        images,
        images_bytes[:2500],
        r"is truncated or damaged: it declares \d+ points of view_\d\d.png but has \d+ bytes left",
    )
    refuse(images, struct.pack("<Q", 2**62) + images_bytes[8:], f"declares {2**62} images but has")
    refuse(images, struct.pack("<Q", 0), "has zero registered images")
    points = images_bytes.find(b"\0", images_bytes.find(b"view_15.png")) + 1
    refuse(images, images_bytes[:-1], rf"images.bin is truncated at byte {len(images_bytes) - 1}")
    absurd = images_bytes[:points] + struct.pack("<Q", 2**61) + images_bytes[points + 8 :]
    refuse(images, absurd, rf"declares {2**61} points of view_15.png but has \d+ bytes left")
    endless = images_bytes[:72] + b"x" * 100
    refuse(images, struct.pack("<Q", 1) + endless[8:], "images.bin is truncated")
    refuse(cameras, cameras_bytes[:-4], "cameras.bin is truncated")
    refuse(
        cameras, struct.pack("<Q", 10**15) + cameras_bytes[8:], "declares 1000000000000000 cameras"
    )
    for number, name in ((5, "OPENCV_FISHEYE"), (99, "number 99"), (-1, "number -1")):
        changed = cameras_bytes[:12] + struct.pack("<i", number) + cameras_bytes[16:]
        refuse(cameras, changed, f"camera model {name} is not read.*image_undistorter")


def test_every_cut_of_a_binary_model_is_refused(tmp_path: Path) -> None:
    """No length of either file but the whole one loads, and none raises anything else."""
    write_colmap_binary(tmp_path, scene())
    for name in ("cameras.bin", "images.bin"):
        file = tmp_path / "sparse/0" / name
        data = file.read_bytes()
        for size in range(0, len(data), 37):
            file.write_bytes(data[:size])
            with pytest.raises(InputError, match=name):
                load_cameras(tmp_path, "all")
        file.write_bytes(data)
    assert load_cameras(tmp_path, "all").cameras.size == SIZE
