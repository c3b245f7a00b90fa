"""Scans of a LiDAR, whatever file they are in: x, y, z in metres, and an intensity."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from geodistill.checks import InputError, UsageError
from geodistill.io.kitti_frames import finite_points, read_scan
from geodistill.io.npz import read_npy
from geodistill.io.pcd import read_pcd
from geodistill.log import say

SUFFIXES = (".bin", ".npy", ".pcd")
INTENSITIES = ("intensity", "reflectivity", "reflectance", "i")
_BRIGHT: set[Path] = set()  # folders of which that was said


def read_points(path: Path, values: int = 4, intensity_scale: float = 1.0) -> np.ndarray:
    """Points float32 [N, values].

    Args:
        values: of a point; of a .bin file's, all of them.
        intensity_scale: what the fourth value is divided by, that it be from 0 to 1.

    Raises InputError for a file that is no scan, UsageError for an unknown ending.
    """
    suffix = path.suffix.lower()
    if suffix == ".bin":
        points = read_scan(path, values)
    elif suffix == ".npy":
        points = finite_points(_single(_npy(path, values)), path)
    elif suffix == ".pcd":
        points = finite_points(_single(_pcd(path, values)), path)
    else:
        raise UsageError(f"{path}: a scan is a file NAME.bin, NAME.npy or NAME.pcd")
    if values > 3 and intensity_scale != 1:
        with np.errstate(over="ignore"):
            points[:, 3] /= intensity_scale
        points = finite_points(points, path)
    if values > 3 and len(points) and (most := float(points[:, 3].max())) > 1:
        _say_bright(path, most)
    return points


def _single(points: np.ndarray) -> np.ndarray:
    """In float32, in which what stands for no return in float64 may be infinite."""
    with np.errstate(over="ignore"):
        return points.astype(np.float32)


def _npy(path: Path, values: int) -> np.ndarray:
    found = read_npy(path)
    if found.dtype.kind not in "fiu":
        raise InputError(f"{path} must hold an array of numbers, not of {found.dtype}")
    if found.ndim != 2 or found.shape[1] < values:
        raise InputError(
            f"{path} must be [N, {values}] or wider, got {list(found.shape)}: a point a row"
        )
    return found[:, :values]


def _pcd(path: Path, values: int) -> np.ndarray:
    fields = {name.lower(): values for name, values in read_pcd(path).fields.items()}
    missing = [name for name in "xyz" if name not in fields]
    if missing:
        raise InputError(f"{path} has no field {missing[0]}, but {', '.join(fields)}")
    count = len(fields["x"])
    taken = [*"xyz"]
    if values > 3:
        own = next((name for name in INTENSITIES if name in fields), None)
        if own is None:
            _say_no_intensity(path.parent, ", ".join(fields))
        else:
            taken.append(own)
    for name in taken:
        if fields[name].ndim > 1:
            raise InputError(
                f"{path}: its field {name} has {fields[name].shape[1]} values a point (COUNT); a "
                "scan's have one each"
            )
    columns = [fields[name] for name in taken]
    columns += [np.zeros(count) for _ in range(values - len(columns))]
    return np.column_stack(columns)


def _say_bright(path: Path, most: float) -> None:
    """Once for all scans of a folder, as a data set's are read over and over."""
    if path.parent not in _BRIGHT:
        _BRIGHT.add(path.parent)
        say(
            f"{path}: intensities go up to {most:g}, not 1: --intensity-scale divides them, of a "
            "data set intensity_scale in its dataset.json"
        )


@cache
def _say_no_intensity(folder: Path, fields: str) -> None:
    """Once for all scans of a folder, as a data set's are read over and over."""
    say(f"{folder}: a scan has no intensity, but {fields}: it counts as 0")
