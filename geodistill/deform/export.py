"""An edit as a mesh for other programs: posed, with its weights as colours, or with a skin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from geodistill.checks import InputError
from geodistill.deform.session import Edit
from geodistill.deform.transforms import matrices
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.mesh_files import save_mesh
from geodistill.io.meshes import Skin

Weights = Literal["none", "attributes", "colors", "skin"]


def save_edit(path: Path, mesh: Mesh, edit: Edit, weights: Weights = "none") -> None:
    """Write what an edit makes of a mesh.

    Args:
        path: GLB, OBJ or PLY, by the ending.
        mesh: as it was.
        edit: of this mesh.
        weights: `attributes`: those of each handle are a column of vertices; `colors`: those of
            the first three handles are red, green and blue of the vertices too, in the place of
            textures, which would hide them; `skin`: the mesh is written as it was, with joints
            that pose it by linear blending, up to eight a vertex.

    Raises UsageError for weights that the format cannot hold, InputError for an unwritable path or
    a skin of an edit that moves nothing.
    """
    posed = replace(mesh, vertices=edit.vertices)
    columns = {f"weight_{k}": column for k, column in enumerate(edit.weights.T)}
    if weights == "none":
        save_mesh(path, posed)
    elif weights == "attributes":
        save_mesh(path, posed, columns)
    elif weights == "colors":
        shown = Mesh(posed.vertices, posed.faces, colors=_colors(edit.weights))
        save_mesh(path, shown, columns)
    else:
        save_mesh(path, mesh, skin=skin_of(edit))


def skin_of(edit: Edit) -> Skin:
    """The joints of an edit, one for each handle and each mirror image of one.

    Raises InputError where there is none.
    """
    count = len(edit.maps)
    if not count:
        raise InputError("there are no handles, of which a skin would be made: add one")
    pivots, maps = edit.maps.pivot.numpy(), matrices(edit.maps).numpy()
    names = tuple(f"handle_{number}" for number in range(count))
    return Skin(names, pivots, maps, edit.columns.numpy())


def _colors(weights: Tensor) -> Tensor:
    """Weights [V, H] of up to three handles as colours uint8 [V, 4]."""
    colors = torch.zeros(len(weights), 4)
    colors[:, :3][:, : weights.shape[1]] = weights[:, :3].clamp(0, 1)
    colors[:, 3] = 1
    return (colors * 255).round().to(torch.uint8)
