"""Frames of the KITTI object benchmark besides their labels and scans: calibrations and splits.

A folder of it holds training/ and testing/ with velodyne/NAME.bin, calib/NAME.txt, label_2/NAME.txt
and image_2/NAME.png, and ImageSets/SPLIT.txt with the names of frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geodistill.checks import InputError, UsageError
from geodistill.io.kitti import MOST
from geodistill.io.whole_file import read_whole
from geodistill.runs.files import atomic_write

IMAGE_SIZE = (375, 1242)
"""Height and width in pixels of most images of KITTI: where a frame has none, it counts as so."""
_SHAPES = {"P2": (3, 4), "R0_rect": (3, 3), "Tr_velo_to_cam": (3, 4)}


@dataclass(frozen=True, eq=False)
class Calibration:
    """Attributes:
    pixels_from_camera: float64 [3, 4], P2 of the left colour camera.
    camera_from_lidar: float64 [4, 4], into the rectified camera (x right, y down, z forward).
    """

    pixels_from_camera: np.ndarray
    camera_from_lidar: np.ndarray

    def project(self, camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [..., 2] and depths [...] of points [..., 3] of the rectified camera."""
        found = camera @ self.pixels_from_camera[:, :3].T + self.pixels_from_camera[:, 3]
        depth = found[..., 2]
        safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
        return found[..., :2] / safe[..., None], depth


def read_calibration(path: Path) -> Calibration:
    """Raises InputError where a matrix is missing, has another number of values, or no inverse."""
    if not path.is_file():
        raise InputError(
            f"{path} is missing: without its calibration a frame's boxes have no place"
        )
    found = {}
    for line in read_whole(path).decode("utf-8-sig", "replace").splitlines():
        name, _, rest = line.partition(":")
        if (name := name.strip()) in _SHAPES:
            found[name] = _matrix(path, name, rest)
    for name in _SHAPES:
        if name not in found:
            raise InputError(f"{path} has no line {name}, which a calibration of KITTI has")
    rectified, turned = np.eye(4), np.eye(4)
    rectified[:3, :3] = found["R0_rect"]
    turned[:3] = found["Tr_velo_to_cam"]
    if abs(np.linalg.det(rectified @ turned)) < 1e-9:
        raise InputError(f"{path}: R0_rect and Tr_velo_to_cam are no turn: nothing leads back")
    return Calibration(found["P2"], rectified @ turned)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write P0 to P3, all as P2, R0_rect as the identity, and Tr_velo_to_cam, atomically."""
    lines = [f"P{k}: {_numbers(calibration.pixels_from_camera)}" for k in range(4)]
    lines.append(f"R0_rect: {_numbers(np.eye(3))}")
    lines.append(f"Tr_velo_to_cam: {_numbers(calibration.camera_from_lidar[:3])}")
    lines.append(f"Tr_imu_to_velo: {_numbers(np.eye(4)[:3])}")
    atomic_write(path, ("\n".join(lines) + "\n").encode())


def read_split(root: Path, split: str, folder: str = "ImageSets") -> list[str]:
    """Names of the frames of ImageSets/SPLIT.txt, or of another folder's.

    Raises UsageError for a split that there is not, InputError for one that is empty or repeats.
    """
    path = root / folder / f"{split}.txt"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in path.parent.glob("*.txt"))) or "none"
        raise UsageError(
            f"{path.parent} has no split '{split}' (known: {known}): write the names of its frames "
            f"into {path.name}, one a line"
        )
    return split_names(path)


def split_names(path: Path) -> list[str]:
    """Names of frames, one a line, in which there may be spaces; empty lines are left out.

    Raises InputError for none, strange ones, and repeated ones.
    """
    lines = read_whole(path).decode("utf-8-sig", "replace").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise InputError(f"{path} names no frames: one a line is expected")
    strange = next((name for name in names if Path(name).name != name), None)
    if strange is not None:
        raise InputError(f"{path}: {strange[:40]!a} is no name of a frame")
    if len(set(names)) < len(names):
        raise InputError(f"{path} names a frame twice")
    return names


def _matrix(path: Path, name: str, text: str) -> np.ndarray:
    rows, columns = _SHAPES[name]
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError:
        values = np.zeros(0)
    if len(values) != rows * columns or not (np.abs(values) <= MOST).all():
        raise InputError(
            f"{path}: {name} must be {rows * columns} finite numbers, of at most {MOST:g}"
        )
    return values.reshape(rows, columns)


def _numbers(matrix: np.ndarray) -> str:
    return " ".join(f"{value:.12e}" for value in matrix.ravel())
