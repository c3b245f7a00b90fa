"""Meshes as PLY, with colours, texture coordinates and further columns of floats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.columns import NORMALS, XYZ, as_float32, grouped, take_colors, taken, ungrouped
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
    encode_png,
    read_texture,
    texture_name,
    tinted,
)
from geodistill.io.ply import Column, ListColumn, read_ply
from geodistill.io.ply_write import ply_bytes

_COORDINATES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"), ("texture_s", "texture_t"))
_TEXTURE = "TextureFile"


def read_ply_mesh(path: Path) -> MeshArrays:
    """Textures are those that comments `TextureFile` name, as MeshLab writes them."""
    ply = read_ply(path)
    rows = ply.elements.get("vertex", {})
    columns = {name: c for name, c in rows.items() if not isinstance(c, ListColumn)}
    positions = taken(columns, (XYZ,))
    if positions is None:
        raise InputError(f"{path} has no element vertex with x, y and z: it is no mesh")
    vertices, colors = positions.astype(np.float64), take_colors(columns, str(path))
    uv = taken(columns, _COORDINATES)
    taken(columns, NORMALS)  # computed from the faces
    attributes = {
        name: as_float32(values, f"{path}: '{name}'") for name, values in grouped(columns).items()
    }
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
    pictures: dict[Path, np.ndarray] = {}
    return [
        {
            "name": Path(name).stem,
            "base_color": (1.0, 1.0, 1.0, 1.0),
            "texture": read_texture(path.parent, name, path, pictures),
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
    columns |= {
        name: values.astype(np.float32) for name, values in ungrouped(mesh["attributes"]).items()
    }
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
