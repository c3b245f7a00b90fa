"""Scans of a LiDAR, whatever file they are in: x, y, z in metres, and an intensity."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geodistill.checks import InputError, UsageError
from geodistill.io.npz import read_npy
from geodistill.io.pcd import read_pcd
from geodistill.io.whole_file import read_any
from geodistill.log import say
from geodistill.runs.files import atomic_write

SUFFIXES = (".bin", ".npy", ".pcd")
INTENSITIES = ("intensity", "reflectivity", "reflectance", "i")
_SAID: set[tuple[str, Path]] = set()  # what was said, and of which folder


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
        how = "--intensity-scale divides them, of a data set intensity_scale in its dataset.json"
        _say_once("bright", path, f"intensities go up to {most:g}, not 1: {how}")
    return points


def read_scan(path: Path, values: int = 4) -> np.ndarray:
    """Points float32 [N, values] of a file of raw numbers: x, y, z in metres (forward, left, up),
    reflectance 0 to 1. An empty file is an empty scan; points that are not finite are left out,
    with a line that says so for the first such scan of a folder.

    Raises InputError for a file whose size fits no whole number of points.
    """
    data = read_any(path)
    if len(data) % (4 * values):
        raise InputError(
            f"{path} is truncated, or no scan of {values} values a point: {len(data):,} bytes are "
            f"no whole number of {4 * values}"
        )
    return finite_points(np.frombuffer(data, "<f4").reshape(-1, values), path)


def finite_points(points: np.ndarray, path: Path) -> np.ndarray:
    """Those of [N, F] that are finite, writable; a line says how many are not, once for all scans
    of a folder, as a data set's are read over and over."""
    finite = np.isfinite(points).all(1)
    if not finite.all():
        lost = f"{int((~finite).sum()):,} of {len(points):,} points are not finite: left out"
        _say_once("finite", path, lost)
    return points[finite]


def write_scan(path: Path, points: np.ndarray) -> None:
    """The inverse of `read_scan`, atomically."""
    atomic_write(path, np.ascontiguousarray(points, "<f4").tobytes())


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
            said = f"it has no intensity, but {', '.join(fields)}: it counts as 0"
            _say_once("no intensity", path, said)
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


def _say_once(what: str, path: Path, text: str) -> None:
    """Once for all scans of a folder, as a data set's are read over and over."""
    if (what, path.parent) not in _SAID:
        _SAID.add((what, path.parent))
        say(f"{path}: {text}")
