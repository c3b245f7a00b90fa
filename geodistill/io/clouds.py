"""Point clouds in files: PLY, PCD, text and NPZ, as dictionaries of arrays (see `io.columns`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from geodistill import log
from geodistill.checks import InputError, choose
from geodistill.io.cloud_text import read_text_columns, text_of
from geodistill.io.columns import (
    RGB,
    as_float32,
    attributes_of,
    cloud_from_columns,
    color_bytes,
    columns_from_cloud,
    grouped,
    narrowed,
    to_float32,
    ungrouped,
)
from geodistill.io.npz import NpzFile, npz_bytes
from geodistill.io.pcd import read_pcd, write_pcd
from geodistill.io.ply import ListColumn, read_ply
from geodistill.io.ply_write import write_ply
from geodistill.runs import atomic_write

_NPZ_NAMES = {
    "positions": ("positions", "points", "xyz"),
    "colors": ("colors", "colours", "rgb", "rgba"),
    "normals": ("normals",),
}


class CloudFile(NamedTuple):
    cloud: dict[str, np.ndarray]
    metadata: dict[str, Any]


def read_cloud(path: Path | str) -> CloudFile:
    """Read a point cloud; the file's suffix names its format.

    Points whose position is NaN or infinite (the holes of an organised cloud) are dropped, and one
    line says how many. The metadata has a "viewpoint" for PCD and "comments" for PLY.

    Raises:
        UsageError: an unknown suffix.
        InputError: missing, damaged, or a file without points.
    """
    path = Path(path)
    reader, _ = _format(path)
    cloud, metadata = reader(path)
    count = len(cloud["positions"])
    finite = np.isfinite(cloud["positions"]).all(axis=1)
    dropped = count - int(np.count_nonzero(finite))
    if dropped == count:
        reason = "all its positions are NaN or infinite" if dropped else "it is empty"
        raise InputError(f"{path} holds no points: {reason}")
    if dropped:
        log.say(f"{path}: dropped {dropped} of {count} points, which are NaN or infinite")
        cloud = {name: values[finite] for name, values in cloud.items()}
    return CloudFile(cloud, metadata)


def write_cloud(path: Path | str, cloud: Mapping[str, np.ndarray]) -> None:
    """Write a cloud atomically in the format that the suffix names.

    PCD keeps an attribute [N, 1] as [N]; the others keep every shape.

    Raises:
        UsageError: an unknown suffix, or an attribute's name that the format cannot hold.
        InputError: the file cannot be written.
    """
    path = Path(path)
    _, writer = _format(path)
    writer(path, cloud)


def _format(path: Path) -> tuple[Callable[[Path], CloudFile], Callable[[Path, Any], None]]:
    return choose("point cloud format", path.suffix.lower(), FORMATS)


def _read_ply(path: Path) -> CloudFile:
    file = read_ply(path)
    if "vertex" not in file.elements:
        raise InputError(
            f"{path} holds no points: it has no element 'vertex' (it has "
            f"{', '.join(file.elements) or 'none'})"
        )
    vertices = file.elements["vertex"]
    if ignored := [name for name, columns in file.elements.items() if name != "vertex" and columns]:
        log.say(f"{path}: read the points alone, not its {', '.join(ignored)}")
    columns = {k: c for k, c in vertices.items() if not isinstance(c, ListColumn)}
    cloud = cloud_from_columns(grouped(columns), str(path))
    return CloudFile(cloud, {"comments": file.comments})


def _write_ply(path: Path, cloud: Mapping[str, np.ndarray]) -> None:
    write_ply(path, {"vertex": ungrouped(columns_from_cloud(narrowed(cloud)))})


def _read_pcd(path: Path) -> CloudFile:
    file = read_pcd(path)
    columns = dict(file.fields)
    for name in ("rgb", "rgba"):
        packed = columns.get(name)
        if packed is not None and packed.ndim == 1 and packed.itemsize == 4:
            del columns[name]
            word = packed.view(np.uint32)
            shifts = {**dict(zip(RGB, (16, 8, 0), strict=True)), "alpha": 24}
            for channel in (*RGB, *(["alpha"] if name == "rgba" else [])):
                columns[channel] = (word >> shifts[channel] & 255).astype(np.uint8)
    cloud = cloud_from_columns(columns, str(path))
    return CloudFile(cloud, {"viewpoint": file.viewpoint})


def _write_pcd(path: Path, cloud: Mapping[str, np.ndarray]) -> None:
    columns = columns_from_cloud(narrowed(cloud))
    if "colors" in cloud:
        for channel in (*RGB, "alpha"):
            columns.pop(channel, None)
        red, green, blue, alpha = cloud["colors"].astype(np.uint32).T
        columns["rgba"] = alpha << 24 | red << 16 | green << 8 | blue
    for name in ("nx", "ny", "nz"):
        if name in columns:
            columns[f"normal_{name[1]}"] = columns.pop(name)
    write_pcd(path, columns)


def _read_text(path: Path) -> CloudFile:
    return CloudFile(cloud_from_columns(grouped(read_text_columns(path)), str(path)), {})


def _write_text(path: Path, cloud: Mapping[str, np.ndarray]) -> None:
    atomic_write(path, text_of(ungrouped(columns_from_cloud(cloud))))


def _read_npz(path: Path) -> CloudFile:
    file = NpzFile(path)
    arrays = {name: file.array(name) for name in file.names}
    cloud: dict[str, np.ndarray] = {}
    for name, spellings in _NPZ_NAMES.items():
        key = next((spelling for spelling in spellings if spelling in arrays), None)
        if key is None:
            continue
        values = arrays.pop(key)
        widths = (3, 4) if name == "colors" else (3,)
        if values.ndim != 2 or values.shape[1] not in widths or values.dtype.kind not in "fiu":
            raise InputError(
                f"{path}: '{key}' must be numbers [N, 3], not {values.dtype} {[*values.shape]}"
            )
        cloud[name] = values
    if "positions" not in cloud:
        raise InputError(
            f"{path} holds no points: it has none of {', '.join(_NPZ_NAMES['positions'])} (it has "
            f"{', '.join([*arrays][:12]) or 'nothing'})"
        )
    return CloudFile(_typed(path, cloud, arrays), {})


def _typed(
    path: Path, cloud: dict[str, np.ndarray], attributes: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """A cloud of NPZ arrays in the types that clouds have; arrays of another length are left."""
    count = len(cloud["positions"])
    out: dict[str, np.ndarray] = {"positions": cloud["positions"].astype(np.float64)}
    for name in ("colors", "normals"):
        if name in cloud and len(cloud[name]) != count:
            raise InputError(f"{path}: {len(cloud[name])} {name}, but {count} positions")
    if "colors" in cloud:
        colors = color_bytes(cloud["colors"], str(path))
        opaque = np.full((count, 4 - colors.shape[1]), 255, np.uint8)
        out["colors"] = np.concatenate([colors, opaque], axis=1)
    if "normals" in cloud:
        out["normals"] = to_float32(cloud["normals"])
    for name, values in attributes.items():
        fits = values.dtype.kind in "fiub" and values.shape[:1] == (count,) and values.ndim <= 2
        if fits:
            out[name] = as_float32(values, f"{path}: '{name}'")
        else:
            log.say(f"{path}: ignored '{name}', {values.dtype} {[*values.shape]} is no attribute")
    return out


def _write_npz(path: Path, cloud: Mapping[str, np.ndarray]) -> None:
    attributes_of(cloud)  # refuses names that would be read as something else
    atomic_write(path, npz_bytes(cloud))


FORMATS = {
    ".ply": (_read_ply, _write_ply),
    ".pcd": (_read_pcd, _write_pcd),
    ".xyz": (_read_text, _write_text),
    ".txt": (_read_text, _write_text),
    ".npz": (_read_npz, _write_npz),
}
"""Suffix to reader and writer."""
