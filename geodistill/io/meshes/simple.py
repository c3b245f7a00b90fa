"""Formats of bare triangles: STL, which repeats every corner, and OFF."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from geodistill.checks import InputError
from geodistill.io.meshes.arrays import (
    MeshArrays,
    check_indices,
    distinct_rows,
    fans,
    mesh_arrays,
    numbers,
)
from geodistill.io.meshes.textures import colour_bytes
from geodistill.io.whole_file import read_whole

_STL_HEADER = 84
_STL_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_STL_VERTEX = re.compile(rb"\bvertex\s+(\S+)\s+(\S+)\s+(\S+)")


def read_stl(path: Path) -> MeshArrays:
    """Corners at exactly one place become one vertex, in the order of their first appearance."""
    data = read_whole(path)
    count = int.from_bytes(data[80:_STL_HEADER], "little") if len(data) >= _STL_HEADER else -1
    size = _STL_HEADER + count * _STL_FACET.itemsize
    if count >= 0 and len(data) == size:
        corners = np.frombuffer(data, _STL_FACET, count, _STL_HEADER)["corners"]
        corners = corners.reshape(-1, 3).astype(np.float64)
    elif data.lstrip()[:5].lower() == b"solid" and b"\0" not in data:
        corners = _ascii_corners(data, path)
    elif count >= 0 and len(data) > size:
        raise InputError(
            f"{path} has {len(data) - size} bytes behind its {count} STL facets: it is damaged"
        )
    elif count < 0:
        raise InputError(f"{path} is truncated or no STL file: it has {len(data)} bytes")
    else:
        raise InputError(
            f"{path} is truncated or no STL file: {count} facets need {size} bytes, it has "
            f"{len(data)}"
        )
    number, first = distinct_rows(corners)
    return mesh_arrays(corners[first], number.reshape(-1, 3))


def _ascii_corners(data: bytes, path: Path) -> np.ndarray:
    found = _STL_VERTEX.findall(data)
    if b"endsolid" not in data.lower() or len(found) % 3:
        raise InputError(f"{path} is truncated: its text ends before 'endsolid'")
    values = numbers(b" ".join(value for corner in found for value in corner))
    if values is None:
        raise InputError(f"{path} has a vertex that is not three numbers: export it again")
    return values.reshape(-1, 3)


def read_off(path: Path) -> MeshArrays:
    """OFF, COFF, NOFF and STOFF as text, with colours of vertices."""
    data = read_whole(path)
    kind = re.match(rb"\s*(ST)?(C)?(N)?OFF\b(\s+BINARY)?", data)
    if kind is None:
        raise InputError(f"{path} does not begin with OFF: check its name or export it again")
    if kind[4]:
        raise InputError(f"{path} is a binary OFF file: export it as text")
    body = re.sub(rb"#[^\n]*", b"", data[kind.end() :])
    lines = [line for line in body.replace(b"\r", b"\n").split(b"\n") if line.strip()]
    counts = numbers(lines[0]) if lines else None
    if counts is None or len(counts) < 2 or (counts < 0).any() or (counts % 1).any():
        raise InputError(f"{path} does not say how many vertices and faces it has")
    count, polygons = int(counts[0]), int(counts[1])
    if len(lines) < 1 + count + polygons:
        raise InputError(
            f"{path} is truncated: {count} vertices and {polygons} faces need "
            f"{count + polygons} lines, it has {len(lines) - 1}"
        )
    if not count or not polygons:
        return mesh_arrays(np.zeros((count, 3)), np.zeros((0, 3)))
    rows = numbers(b" ".join(lines[1 : 1 + count]))
    if rows is None or len(rows) % count or len(rows) < 3 * count:
        raise InputError(f"{path} has vertex lines that are not as many numbers each")
    rows = rows.reshape(count, -1)
    colors = None
    behind = rows[:, 6 if kind[3] else 3 :]  # behind the position and the normal
    if behind.shape[1] in (3, 4) and not kind[1]:
        colors = colour_bytes(behind / 255 if behind.max() > 1 else behind)
    sizes, corners = _off_polygons(lines[1 + count : 1 + count + polygons], path)
    corner, _ = fans(sizes)
    faces = corners[corner]
    check_indices(faces, count, path)
    return mesh_arrays(rows[:, :3], faces, colors=colors)


def _off_polygons(lines: list[bytes], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Corners of each face and their vertices end to end; colours behind them are passed over."""
    values = numbers(b" ".join(lines))
    if values is not None and len(values) % len(lines) == 0:
        table = values.reshape(len(lines), -1)
        known = 0 <= table[0, 0] < table.shape[1]  # false for NaN too
        size = int(table[0, 0]) if known else 0
        # As many numbers in all may still be unlike lines; equal sizes in the first column and
        # as many words in the first line make that impossible short of intent.
        if known and (table[:, 0] == size).all() and table.shape[1] == len(lines[0].split()):
            return np.full(len(lines), size), table[:, 1 : size + 1].astype(np.int64).reshape(-1)
    sizes, corners = [], []
    for number, line in enumerate(lines):
        row = numbers(line)
        size = int(row[0]) if row is not None and len(row) and np.isfinite(row[0]) else -1
        if row is None or size < 0 or len(row) < size + 1:
            raise InputError(
                f"{path}: face {number} is not a count and as many vertices: "
                f"{line[:60].decode('utf-8', 'replace')!r}"
            )
        sizes.append(size)
        corners.append(row[1 : size + 1])
    return np.array(sizes, np.int64), np.concatenate(corners).astype(np.int64)
