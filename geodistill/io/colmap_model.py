"""COLMAP's sparse models, text and binary: cameras, registered images, points without tracks.

Format: the COLMAP documentation, "Output Format". A pose is stored as cam_from_world, a unit
quaternion (w, x, y, z) and a translation; camera axes are OpenCV's, and the first pixel's centre is
(0.5, 0.5).
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from geodistill.checks import InputError

# Name and number of parameters by COLMAP's model number.
MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
)
KNOWN = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_COUNTS = dict(MODELS)


@dataclass(frozen=True)
class ColmapCamera:
    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    name: str
    camera_id: int
    quaternion: tuple[float, ...]  # (w, x, y, z) of cam_from_world
    translation: tuple[float, ...]


class ColmapPoints(NamedTuple):
    positions: np.ndarray  # float64 [P, 3] in the reconstruction's frame
    colors: np.ndarray  # uint8 [P, 3] sRGB


def read_cameras_text(path: Path) -> dict[int, ColmapCamera]:
    """CAMERA_ID MODEL WIDTH HEIGHT PARAMS[] a line."""
    cameras = {}
    for number, line in _lines(path):
        if not line.strip():
            continue
        words = line.split()
        where = f"{path}, line {number}"
        if len(words) < 4:
            raise InputError(
                f"{where} has {len(words)} words, not CAMERA_ID MODEL WIDTH HEIGHT PARAMS: write "
                "it again"
            )
        identity, width, height = (_integer(words[i], where) for i in (0, 2, 3))
        _expect_known(words[1], where)
        params = _numbers(words[4:], where)
        if len(params) != _COUNTS[words[1]]:
            raise InputError(
                f"{where} has {len(params)} parameters, {words[1]} has {_COUNTS[words[1]]}: write "
                "the model again"
            )
        cameras[identity] = ColmapCamera(words[1], width, height, params)
    return cameras


def read_images_text(path: Path) -> list[ColmapImage]:
    """Two lines an image: ID QW QX QY QZ TX TY TZ CAMERA_ID NAME; its 2D points (or nothing)."""
    images = []
    lines = _lines(path)
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        words = line.split(maxsplit=9)
        if len(words) < 10:
            raise InputError(
                f"{where} is not IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME: write the model "
                "again"
            )
        values = _numbers(words[1:8], where)
        images.append(
            ColmapImage(words[9].strip(), _integer(words[8], where), values[:4], values[4:])
        )
        next(lines, None)
    return images


def read_cameras_binary(path: Path) -> dict[int, ColmapCamera]:
    with _Reader(path) as data:
        cameras = {}
        for _ in range(data.count(smallest_record=24 + 3 * 8, what="cameras")):
            identity, model_number, width, height = data.unpack("<iiQQ")
            name, count = (
                MODELS[model_number]
                if 0 <= model_number < len(MODELS)
                else (f"number {model_number}", 0)
            )
            _expect_known(name, str(path))
            cameras[identity] = ColmapCamera(
                name, width, height, _finite(data.unpack(f"<{count}d"), str(path))
            )
        return cameras


def read_images_binary(path: Path) -> list[ColmapImage]:
    with _Reader(path) as data:
        images = []
        for _ in range(data.count(smallest_record=4 + 7 * 8 + 4 + 1 + 8, what="images")):
            _, *pose, camera_id = data.unpack("<i7di")
            name = os.fsdecode(data.text())
            values = _finite(tuple(pose), f"{path}: image {name}")
            images.append(ColmapImage(name, camera_id, values[:4], values[4:]))
            data.skip(24 * data.count(smallest_record=24, what=f"points of {name}"))
        return images


def read_points_text(path: Path) -> ColmapPoints:
    """POINT3D_ID X Y Z R G B ERROR TRACK[] a line."""
    positions, colors = [], []
    for number, line in _lines(path):
        if not line.strip():
            continue
        words, where = line.split(maxsplit=8), f"{path}, line {number}"
        if len(words) < 8:
            raise InputError(
                f"{where} has {len(words)} words, not POINT3D_ID X Y Z R G B ERROR TRACK: write "
                "the model again"
            )
        positions.append(_numbers(words[1:4], where, "point"))
        colors.append([_integer(word, where) for word in words[4:7]])
        if not 0 <= min(colors[-1]) <= max(colors[-1]) <= 255:
            raise InputError(
                f"{where} has the colour {' '.join(words[4:7])[:40]}, not three numbers from 0 to "
                "255: write the model again"
            )
    return _points(positions, colors)


def read_points_binary(path: Path) -> ColmapPoints:
    with _Reader(path) as data:
        positions, colors = [], []
        for _ in range(data.count(smallest_record=8 + 24 + 3 + 8 + 8, what="points")):
            identity, *values = data.unpack("<Q3d3Bd")
            positions.append(_finite(tuple(values[:3]), f"{path}: point {identity}", "point"))
            colors.append(values[3:6])
            data.skip(8 * data.count(smallest_record=8, what=f"images of point {identity}"))
        return _points(positions, colors)


def _points(positions: list[tuple[float, ...]], colors: list[list[int]]) -> ColmapPoints:
    return ColmapPoints(
        np.array(positions, np.float64).reshape(-1, 3), np.array(colors, np.uint8).reshape(-1, 3)
    )


class _Reader:
    """A cursor over a mapped file that never runs past its end, nor believes an absurd count."""

    def __init__(self, path: Path) -> None:
        self.path, self.position = path, 0

    def __enter__(self) -> _Reader:
        try:
            with self.path.open("rb") as file:
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise InputError(f"{self.path} is empty: write the model again") from None
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.data.close()

    def unpack(self, form: str) -> tuple[Any, ...]:
        start = self.position
        self.skip(struct.calcsize(form))
        return struct.unpack_from(form, self.data, start)

    def count(self, smallest_record: int, what: str) -> int:
        (count,) = self.unpack("<Q")
        left = len(self.data) - self.position
        if count * smallest_record > left:
            raise InputError(
                f"{self.path} is truncated or damaged: it declares {count} {what} but has {left} "
                "bytes left; "
                "copy or write the model again"
            )
        return count

    def text(self) -> bytes:
        end = self.data.find(b"\0", self.position)
        if end < 0:
            raise self._truncated()
        start, self.position = self.position, end + 1
        return self.data[start:end]

    def skip(self, size: int) -> None:
        if self.position + size > len(self.data):
            raise self._truncated()
        self.position += size

    def _truncated(self) -> InputError:
        return InputError(
            f"{self.path} is truncated at byte {len(self.data)}: copy or write the model again"
        )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without comments; empty ones stay, since an image without points has one."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.startswith("#"):
            yield number, line


def _expect_known(model: str, where: str) -> None:
    if model not in KNOWN:
        raise InputError(
            f"{where}: the camera model {model} is not read (known: {', '.join(KNOWN)}); run: "
            "colmap image_undistorter "
            "--image_path IMAGES --input_path SPARSE --output_path UNDISTORTED, and use UNDISTORTED"
        )


def _integer(word: str, where: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise InputError(
            f"{where}: '{word[:40]}' is not a whole number; write the model again"
        ) from None


def _numbers(words: list[str], where: str, what: str = "image") -> tuple[float, ...]:
    try:
        return _finite(tuple(float(word) for word in words), where, what)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{where}: {error}; write the model again") from None


def _finite(values: tuple[float, ...], where: str, what: str = "image") -> tuple[float, ...]:
    if not all(map(math.isfinite, values)):
        raise InputError(f"{where} holds NaN or infinity: remove the {what} from the model")
    return values
