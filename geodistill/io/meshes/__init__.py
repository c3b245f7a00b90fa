"""Triangle meshes in files, as plain arrays: OBJ, PLY, OFF, STL, GLB and glTF.

No reader moves, merges or drops a vertex or a face, because features per vertex refer to their
order; polygons are cut into fans where they stand. (STL repeats every corner, so there equal
positions become one vertex.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.io.columns import COLORS, NORMALS
from geodistill.io.meshes.arrays import (
    MaterialArrays,
    MeshArrays,
    check_mesh,
    distinct_rows,
    mesh_arrays,
)
from geodistill.io.meshes.glb import glb_files
from geodistill.io.meshes.gltf import read_gltf
from geodistill.io.meshes.obj import obj_files, read_obj
from geodistill.io.meshes.ply import ply_files, read_ply_mesh
from geodistill.io.meshes.simple import read_off, read_stl
from geodistill.io.meshes.skin import Skin
from geodistill.io.meshes.textures import files_read
from geodistill.runs import write_files

__all__ = [
    "READERS",
    "WRITERS",
    "MaterialArrays",
    "MeshArrays",
    "Skin",
    "distinct_rows",
    "expect_writable",
    "files_of_mesh",
    "mesh_arrays",
    "read_mesh",
    "write_mesh",
]

READERS: dict[str, Callable[[Path], MeshArrays]] = {
    ".obj": read_obj,
    ".ply": read_ply_mesh,
    ".off": read_off,
    ".stl": read_stl,
    ".glb": read_gltf,
    ".gltf": read_gltf,
}
WRITERS: dict[str, Callable[[MeshArrays, Path], Mapping[str, bytes | list[bytes]]]] = {
    ".glb": glb_files,
    ".obj": obj_files,
    ".ply": ply_files,
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TAKEN = {*"xyzstuv", *(name for names in (*NORMALS, *COLORS) for name in names), "alpha"}


def read_mesh(path: Path | str) -> MeshArrays:
    """Read a mesh by the ending of its name.

    Raises InputError, naming the file, when it is missing, empty, damaged, without faces, or holds
    values that are not finite or indices out of range.
    """
    return _read(Path(path))


def files_of_mesh(path: Path | str) -> list[Path]:
    """The file and all that it names and that are there: libraries, buffers, textures.

    Raises as `read_mesh`, which it calls.
    """
    noted: list[Path] = [Path(path)]
    token = files_read.set(noted)
    try:
        _read(Path(path))
    finally:
        files_read.reset(token)
    return noted


def _read(path: Path) -> MeshArrays:
    if path.suffix.lower() not in READERS and path.exists() and not path.is_dir():
        raise InputError(
            f"{path} has an ending that is no mesh format known here: {', '.join(READERS)}"
        )
    reader = READERS.get(path.suffix.lower(), read_obj)  # which says what is wrong with the path
    with np.errstate(all="ignore"):  # what overflows is refused below
        mesh = reader(path)
    check_mesh(mesh, path)
    return mesh


def expect_writable(path: Path) -> None:
    """Raise UsageError, naming the endings, for one that meshes are not written with."""
    if path.suffix.lower() not in WRITERS:
        raise UsageError(f"cannot write a mesh as {path.name}: choose {', '.join(WRITERS)}")


def write_mesh(path: Path | str, mesh: MeshArrays, skin: Skin | None = None) -> None:
    """Write a mesh by the ending of its name; the files it refers to come before it, atomically.

    Raises UsageError for an ending, attributes or a skin that cannot be written, InputError for
    an unwritable path.
    """
    path = Path(path)
    expect_writable(path)
    writer = WRITERS[path.suffix.lower()]
    _check_attributes(mesh, path)
    if skin is not None and writer is not glb_files:
        raise UsageError(f"{path}: only GLB holds a skin: name it .glb")
    with np.errstate(over="ignore"):
        files = writer(mesh, path) if skin is None else glb_files(mesh, path, skin)
    write_files(path, files)


def _check_attributes(mesh: MeshArrays, path: Path) -> None:
    if mesh["attributes"] and path.suffix.lower() == ".obj":
        raise UsageError(f"{path}: OBJ holds no attributes of vertices: choose .glb or .ply")
    count = len(mesh["vertices"])
    for name, values in mesh["attributes"].items():
        if not _NAME.fullmatch(name) or name.lower() in _TAKEN:
            raise UsageError(
                f"an attribute of a mesh cannot be called '{name}': use letters, digits and _, and "
                f"none of {', '.join(sorted(_TAKEN))}"
            )
        if values.ndim not in (1, 2) or len(values) != count or not values.size:
            raise ShapeError(
                f"attribute {name} must have shape [{count}] or [{count}, C], got {[*values.shape]}"
            )
        if not np.isfinite(values).all():
            raise InputError(f"attribute {name} holds NaN or infinite values: {path} takes none")
