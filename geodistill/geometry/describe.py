"""What a file of any geometry is, for `geodistill info`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from geodistill.geometry import fields
from geodistill.geometry.fields.files import KIND as FIELD
from geodistill.geometry.kinds import kind_of
from geodistill.geometry.mesh import bounds
from geodistill.geometry.mesh_files import load_mesh
from geodistill.geometry.splats import load_splats_with_attributes
from geodistill.io import clouds
from geodistill.io.fields import format_of
from geodistill.runs import load_tensors, read_metadata, result_file


def describe(path: Path | str) -> dict[str, Any]:
    """Kind, size, bounds and columns of a file, or of a run folder.

    Raises InputError when it is missing, damaged, or nothing that is known.
    """
    path = result_file(path)
    return DESCRIBERS[kind_of(path)](path)


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


def _splats(path: Path) -> dict[str, Any]:
    splats, attributes = load_splats_with_attributes(path)
    return {
        "kind": "Gaussian splats",
        "splats": len(splats),
        "bounds": _bounds(splats.means.double().numpy()),
        "sh_degree": splats.degree,
        "attributes": _channels(attributes),
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


def _tensors(path: Path) -> dict[str, Any]:
    """A field, or another of the files of tensors: features, an answer to a query, a network."""
    path = fields.field_path(path)
    if format_of(path) is not None or read_metadata(path).get("kind", FIELD) == FIELD:
        return fields.describe(path)
    tensors, metadata = load_tensors(path)
    return {**metadata, "tensors": {name: [*tensor.shape] for name, tensor in tensors.items()}}


def _bounds(positions: np.ndarray) -> list[list[float]]:
    return [positions.min(axis=0).tolist(), positions.max(axis=0).tolist()]


def _channels(columns: dict[str, np.ndarray] | dict[str, Tensor]) -> dict[str, int]:
    return {name: 1 if values.ndim == 1 else values.shape[1] for name, values in columns.items()}


DESCRIBERS = {"mesh": _mesh, "points": _cloud, "splats": _splats, "field": _tensors}
"""Kind to the function that describes such a file."""
