"""Meshes as PLY, with colours, texture coordinates and further columns of floats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.meshes.arrays import (
    MaterialArrays,
    MeshArrays,
    check_indices,
    distinct_rows,
    fans,
    mesh_arrays,
    split_corners,
)
from geodistill.io.meshes.textures import (
    colour_bytes,
    encode_png,
    read_texture,
    texture_name,
    tinted,
)
from geodistill.io.ply import Column, ListColumn, read_ply
from geodistill.io.ply_write import ply_bytes

_COORDINATES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"), ("texture_s", "texture_t"))
_COLOURS = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
)
_NORMALS = ("nx", "ny", "nz")
_TEXTURE = "TextureFile"


def read_ply_mesh(path: Path) -> MeshArrays:
    """Textures are those that comments `TextureFile` name, as MeshLab writes them."""
    ply = read_ply(path)
    rows = ply.elements.get("vertex", {})
    columns = {name: c for name, c in rows.items() if not isinstance(c, ListColumn)}
    if not {"x", "y", "z"} <= set(columns):
        raise InputError(f"{path} has no element vertex with x, y and z: it is no mesh")
    vertices = np.stack([columns.pop(axis) for axis in "xyz"], axis=1).astype(np.float64)
    colors = _take_colours(columns)
    uv = next((_take(columns, names) for names in _COORDINATES if names[0] in columns), None)
    _take(columns, _NORMALS)
    attributes = {name: values.astype(np.float32) for name, values in columns.items()}
    face = ply.elements.get("face", {})
    polygons = face.get("vertex_indices", face.get("vertex_index"))
    if not isinstance(polygons, ListColumn):
        return mesh_arrays(vertices, np.zeros((0, 3)))
    corner, polygon = fans(polygons.counts)
    faces = polygons.values.astype(np.int64)[corner]
    check_indices(faces, len(vertices), path)
    wedges = _wedges(face.get("texcoord"), polygons, path)
    if wedges is not None and uv is None:
        index, first = distinct_rows(wedges)
        faces, origin, used = split_corners(faces, index[corner], len(vertices))
        vertices, uv = vertices[origin], np.where(used[:, None] < 0, 0, wedges[first][used])
        colors = None if colors is None else colors[origin]
        attributes = {name: values[origin] for name, values in attributes.items()}
    materials = _materials(ply.comments, path)
    number = _face_material(face.get("texnumber"), len(materials), len(polygons.counts))
    return mesh_arrays(
        vertices, faces, uv, colors, materials, number[polygon] if materials else None, attributes
    )


def _take(columns: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    """Remove columns that belong together, [V, len(names)]."""
    if not set(names) <= set(columns):
        return None
    return np.stack([columns.pop(name) for name in names], axis=1)


def _take_colours(columns: dict[str, np.ndarray]) -> np.ndarray | None:
    """uint8 [V, 4] of 8-bit, 16-bit or fractional colours, or of such numbers as text."""
    for names in _COLOURS:
        rgb = _take(columns, names)
        if rgb is None:
            continue
        alpha = columns.pop("alpha", columns.pop("diffuse_alpha", None))
        rgba = rgb if alpha is None else np.concatenate([rgb, alpha[:, None]], axis=1)
        if rgba.dtype.kind == "f":
            scale = 255 if np.nanmax(rgba, initial=0) > 1 else 1
        else:
            scale = np.iinfo(rgba.dtype).max
        return colour_bytes(rgba / scale)
    return None


def _wedges(column: Column | None, polygons: ListColumn, path: Path) -> np.ndarray | None:
    """Texture coordinates of every corner, float32 [K, 2]."""
    if not isinstance(column, ListColumn) or not len(column.values):
        return None
    if (column.counts != 2 * polygons.counts).any():
        first = int((column.counts != 2 * polygons.counts).argmax())
        raise InputError(
            f"{path}: face {first} has {int(polygons.counts[first])} corners and "
            f"{int(column.counts[first])} numbers of texture coordinates: expected twice as many"
        )
    return column.values.astype(np.float32).reshape(-1, 2)


def _materials(comments: Sequence[str], path: Path) -> list[MaterialArrays]:
    names = [text[len(_TEXTURE) :].strip() for text in comments if text.startswith(_TEXTURE)]
    return [
        {
            "name": Path(name).stem,
            "base_color": (1.0, 1.0, 1.0, 1.0),
            "texture": read_texture(path.parent, name, path),
        }
        for name in names
    ]


def _face_material(column: Column | None, materials: int, count: int) -> np.ndarray:
    if column is None or isinstance(column, ListColumn):
        return np.zeros(count, np.int64)
    number = column.astype(np.int64)
    return np.where((number >= 0) & (number < materials), number, -1)


def ply_files(mesh: MeshArrays, path: Path) -> dict[str, bytes | list[bytes]]:
    """The files that make the mesh, by name, the PLY itself last.

    Positions are doubles where floats would lose a bit. Of materials a PLY holds the textures.
    """
    vertices = mesh["vertices"]
    single = vertices.astype(np.float32)
    exact = bool((single == vertices).all())
    columns = dict(zip("xyz", (single if exact else vertices).T, strict=True))
    if mesh["uv"] is not None:
        columns |= dict(zip("st", mesh["uv"].T, strict=True))
    if mesh["colors"] is not None:
        columns |= dict(zip(("red", "green", "blue", "alpha"), mesh["colors"].T, strict=True))
    for name, values in mesh["attributes"].items():
        parts = values.reshape(len(values), -1).astype(np.float32).T
        scalar = values.ndim == 1
        columns |= {name if scalar else f"{name}_{i}": part for i, part in enumerate(parts)}
    faces = mesh["faces"].astype(np.int32)
    face: dict[str, Column] = {
        "vertex_indices": ListColumn(np.full(len(faces), 3), faces.reshape(-1))
    }
    files, comments, number = _texture_files(mesh, path)
    if number is not None:
        face["texnumber"] = number
    pieces = ply_bytes({"vertex": columns, "face": face}, comments)
    return {**files, path.name: pieces}


def _texture_files(
    mesh: MeshArrays, path: Path
) -> tuple[dict[str, bytes], list[str], np.ndarray | None]:
    """PNG files, the comments that name them, and the texture's number of each face, int32 [F]."""
    files, comments = {}, []
    number = np.full(len(mesh["materials"]) + 1, -1, np.int32)  # the last one is for -1
    for index, material in enumerate(mesh["materials"]):
        if material["texture"] is None:
            continue
        name = texture_name(path.stem, index)
        files[name] = encode_png(tinted(material["texture"], material["base_color"]))
        number[index] = len(comments)
        comments.append(f"{_TEXTURE} {name}")
    if len(comments) < len(mesh["materials"]):
        plain = len(mesh["materials"]) - len(comments)
        log.say(f"{path}: PLY holds no materials; the colours of {plain} without texture are lost")
    if not comments or mesh["face_material"] is None:
        return files, comments, None
    of_face = number[mesh["face_material"]]
    return files, comments, of_face if (of_face != 0).any() else None
