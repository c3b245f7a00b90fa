"""What every mesh format is read into and written from: plain arrays, and the steps they share."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TypedDict

import numpy as np

from geodistill.checks import InputError


class MaterialArrays(TypedDict):
    """A material: its name, display-referred (sRGB) RGBA factor, uint8 [H, W, 4] texture."""

    name: str
    base_color: tuple[float, float, float, float]
    texture: np.ndarray | None


class MeshArrays(TypedDict):
    """A triangle mesh as a file holds it, vertices and faces in the file's order."""

    vertices: np.ndarray  # float64 [V, 3]
    faces: np.ndarray  # int64 [F, 3]
    uv: np.ndarray | None  # float32 [V, 2], origin at the lower left
    colors: np.ndarray | None  # uint8 [V, 4] sRGB
    materials: list[MaterialArrays]
    face_material: np.ndarray | None  # int64 [F], -1 for none
    attributes: dict[str, np.ndarray]  # further float32 [V] or [V, C]


def mesh_arrays(
    vertices: np.ndarray,
    faces: np.ndarray,
    uv: np.ndarray | None = None,
    colors: np.ndarray | None = None,
    materials: list[MaterialArrays] | None = None,
    face_material: np.ndarray | None = None,
    attributes: dict[str, np.ndarray] | None = None,
) -> MeshArrays:
    return {
        "vertices": np.ascontiguousarray(vertices, np.float64),
        "faces": np.ascontiguousarray(faces, np.int64),
        "uv": None if uv is None else np.ascontiguousarray(uv, np.float32),
        "colors": None if colors is None else np.ascontiguousarray(colors, np.uint8),
        "materials": materials or [],
        "face_material": face_material,
        "attributes": attributes or {},
    }


def check_mesh(mesh: MeshArrays, path: Path) -> None:
    """Raise InputError for what no mesh may be: empty, not finite, or indexing past its end."""
    vertices, faces = mesh["vertices"], mesh["faces"]
    if not len(faces):
        cloud = f": its {len(vertices)} vertices are a cloud of points" if len(vertices) else ""
        raise InputError(f"{path} holds no faces{cloud}")
    check_indices(faces, len(vertices), path)
    bad = np.flatnonzero(~np.isfinite(vertices).all(axis=1))
    if len(bad) == len(vertices):
        raise InputError(f"{path}: every vertex is NaN or infinite: export the mesh again")
    if len(bad):
        raise InputError(
            f"{path}: {len(bad)} of {len(vertices)} vertices are NaN or infinite, the first is "
            f"vertex {bad[0]}: repair or remove them"
        )
    uv = mesh["uv"]
    if uv is not None and len(bad := np.flatnonzero(~np.isfinite(uv).all(axis=1))):
        raise InputError(
            f"{path}: {len(bad)} texture coordinates are NaN or infinite, the first is of vertex "
            f"{bad[0]}: unwrap the mesh again"
        )


def check_indices(indices: np.ndarray, count: int, path: Path, what: str = "vertex") -> None:
    """Raise InputError unless every index of the faces [F, ...] is in [0, count)."""
    bad = (indices < 0) | (indices >= count)
    if bad.any():
        where = np.argwhere(bad)[0]
        raise InputError(
            f"{path}: face {int(where[0])} refers to {what} {int(indices[tuple(where)])}, but "
            f"there are {count}, numbered from 0: the file is damaged"
        )


def numbers(text: bytes) -> np.ndarray | None:
    """float64 of numbers separated by blanks, or None where something else stands among them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # what numpy says of a wrong token
        try:
            return np.fromstring(text, dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            pass
    try:  # spellings that only Python reads
        return np.array([float(token) for token in text.split()])
    except ValueError:
        return None


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct rows of [N, C] numbers in the order of their first appearance.

    Returns the number of every row, int64 [N], and the index of each first one, int64 [D]. Rows
    are equal when their values are. They are told apart by a hash of their bits, ten times faster
    than by sorting them; a collision of hashes is seen, and then they are sorted.
    """
    exact = np.ascontiguousarray(rows, np.float64 if rows.dtype.kind == "f" else np.int64)
    bits = (exact + 0).view(np.uint64)  # -0.0 becomes 0.0
    key = np.zeros(len(bits), np.uint64)
    for column in bits.T:
        key = (key ^ column) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    _, first, number = np.unique(key, return_index=True, return_inverse=True)
    if not np.array_equal(bits, bits[first[number]]):
        _, first, number = np.unique(bits, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[number.ravel()], first[order]


def fans(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut polygons into triangles (first corner, k-th, next), in order.

    Args:
        sizes: corners of each polygon, int64 [P]; those with fewer than three make no triangle.

    Returns:
        Indices into the polygons' corners laid end to end, int64 [F, 3], and the polygon of each
        triangle, int64 [F].
    """
    sizes = np.asarray(sizes, np.int64)
    starts = np.cumsum(sizes) - sizes
    per_polygon = np.maximum(sizes - 2, 0)
    polygon = np.repeat(np.arange(len(sizes)), per_polygon)
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(per_polygon) - per_polygon, per_polygon)
    start = starts[polygon]
    return np.stack([start, start + step + 1, start + step + 2], axis=1), polygon


def split_corners(
    places: np.ndarray, coordinates: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make vertices of the distinct (position, texture coordinate) pairs at the corners.

    A position without a corner keeps its vertex, so that where every position has one coordinate
    nothing moves.

    Args:
        places: position index of each corner, int64 [F, 3].
        coordinates: texture coordinate index of each corner, int64 [F, 3], -1 for none.
        count: the number of positions.

    Returns:
        Faces int64 [F, 3], and of each vertex its position int64 [V] and its coordinate int64 [V].
        Vertices are in the order of positions, then of coordinates.
    """
    width = int(coordinates.max(initial=-1)) + 2
    keys = places.reshape(-1) * width + coordinates.reshape(-1) + 1
    unused = np.ones(count, bool)
    unused[places.reshape(-1)] = False
    idle = np.flatnonzero(unused) * width
    distinct, inverse = np.unique(np.concatenate([keys, idle]), return_inverse=True)
    faces = inverse[: len(keys)].reshape(-1, 3)
    return faces, distinct // width, distinct % width - 1
