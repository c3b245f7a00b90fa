"""What a file of any geometry is, for `geodistill info`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from geodistill.geometry import fields
from geodistill.geometry.mesh import bounds
from geodistill.geometry.mesh_files import load_mesh
from geodistill.geometry.splats import Splats, load_splat_attributes, load_splats
from geodistill.io import clouds
from geodistill.io.meshes import READERS
from geodistill.io.ply import read_ply_header


def describe(path: Path | str) -> dict[str, Any]:
    """Kind, size, bounds and columns of a file; a suffix that is none here means a field.

    Raises InputError when it is missing, damaged, or nothing that is known.
    """
    path = Path(path)
    return DESCRIBERS.get("" if path.is_dir() else path.suffix.lower(), fields.describe)(path)


def _cloud(path: Path) -> dict[str, Any]:
    cloud, metadata = clouds.read_cloud(path)
    further = {k: v for k, v in cloud.items() if k not in ("positions", "colors", "normals")}
    return {
        "kind": "point cloud",
        "points": len(cloud["positions"]),
        "bounds": _bounds(cloud["positions"]),
        "colors": "colors" in cloud,
        "normals": "normals" in cloud,
        "attributes": _channels(further),
        **{name: [*value] for name, value in metadata.items() if value},
    }


def _ply(path: Path) -> dict[str, Any]:
    """A PLY file holds splats, a mesh or a cloud: its header tells which."""
    elements = {element.name: element for element in read_ply_header(path).elements}
    names = {p.name for p in elements["vertex"].properties} if "vertex" in elements else set()
    if "f_dc_0" in names:
        return _splats(path, load_splats(path))
    if "face" in elements and elements["face"].count:
        return _mesh(path)
    return _cloud(path)


def _splats(path: Path, splats: Splats) -> dict[str, Any]:
    return {
        "kind": "Gaussian splats",
        "splats": len(splats),
        "bounds": _bounds(splats.means.double().numpy()),
        "sh_degree": splats.degree,
        "attributes": _channels(load_splat_attributes(path)),
    }


def _mesh(path: Path) -> dict[str, Any]:
    mesh = load_mesh(path)
    low, high = bounds(mesh)
    return {
        "kind": "mesh",
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "bounds": [low.tolist(), high.tolist()],
        "uv": mesh.uv is not None,
        "colors": mesh.colors is not None,
        "materials": [material.name for material in mesh.materials],
    }


def _bounds(positions: np.ndarray) -> list[list[float]]:
    return [positions.min(axis=0).tolist(), positions.max(axis=0).tolist()]


def _channels(columns: dict[str, np.ndarray] | dict[str, Tensor]) -> dict[str, int]:
    return {name: 1 if values.ndim == 1 else values.shape[1] for name, values in columns.items()}


DESCRIBERS = {
    **dict.fromkeys(READERS, _mesh),
    **dict.fromkeys(clouds.FORMATS, _cloud),
    ".ply": _ply,
}
"""Suffix to the function that describes such a file."""
