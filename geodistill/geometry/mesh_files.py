"""Meshes from files and into files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geodistill.geometry.mesh import Material, Mesh
from geodistill.io.meshes import (
    MaterialArrays,
    MeshArrays,
    Skin,
    mesh_arrays,
    read_mesh,
    write_mesh,
)
from geodistill.io.meshes.textures import texture_name


def load_mesh(path: Path | str) -> Mesh:
    """Read OBJ, PLY, OFF, STL, GLB or glTF as one mesh, vertices and faces in the file's order.

    Scenes of several parts are one mesh with one material per face. A missing texture is reported
    in a line, and its material keeps its factor.

    Raises:
        InputError: no such file, an unknown ending, damaged, no faces, values that are not finite.
    """
    return _from_arrays(read_mesh(path))


def load_mesh_with_attributes(path: Path | str) -> tuple[Mesh, dict[str, Tensor]]:
    """The mesh, and the file's further columns of vertices: float32 [V] or [V, C] by name.

    Of GLB and glTF these are the attributes with a leading underscore, in lower case and without
    it; of PLY every other property of vertices. What `save_mesh` splits into parts is one column
    again. Raises InputError as `load_mesh` does.
    """
    arrays = read_mesh(path)
    return _from_arrays(arrays), _attributes(arrays)


def save_mesh(
    path: Path | str,
    mesh: Mesh,
    attributes: Mapping[str, Tensor] | None = None,
    skin: Skin | None = None,
) -> None:
    """Write GLB, OBJ or PLY, chosen by the ending; vertices and faces keep their order.

    GLB is self-contained and holds positions in single precision. OBJ is written with an MTL file
    and PNG textures beside it, named after it; PLY with its textures. OBJ and PLY keep positions
    in double precision. OBJ loses the alpha of colours, PLY the materials without texture.

    Args:
        path: where to; what stands there is replaced.
        mesh: the mesh.
        attributes: columns of numbers per vertex, [V] or [V, C], for GLB and PLY. In GLB a name
            becomes `_NAME`, beyond four channels `_NAME_0`, `_NAME_1` …; in PLY `name_0` ….
        skin: joints of the mesh, which is then as it is at rest; for GLB.

    Raises:
        UsageError: another ending, attributes for OBJ, a name that cannot be written, a skin for
            anything but GLB.
        ShapeError: attributes of another length.
        InputError: attributes that are not finite, an unwritable path.
    """
    write_mesh(path, _to_arrays(mesh, attributes or {}), skin)


def files_beside(path: Path | str, mesh: Mesh) -> list[Path]:
    """What `save_mesh` writes beside the mesh itself: the library and the textures of materials."""
    return companions(path, [material.texture is not None for material in mesh.materials])


def companions(path: Path | str, textured: Sequence[bool]) -> list[Path]:
    """The same, given which of the mesh's materials have a texture."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".glb" or not textured:
        return []
    names = [f"{path.stem}.mtl"] if suffix == ".obj" else []
    names += [texture_name(path.stem, number) for number, has in enumerate(textured) if has]
    return [path.with_name(name) for name in names]


def _attributes(arrays: MeshArrays) -> dict[str, Tensor]:
    columns = arrays["attributes"]
    return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in columns.items()}


def _from_arrays(arrays: MeshArrays) -> Mesh:
    def tensor(array: np.ndarray | None) -> Tensor | None:
        return None if array is None else torch.from_numpy(array)

    materials = [
        Material(entry["name"], entry["base_color"], tensor(entry["texture"]))
        for entry in arrays["materials"]
    ]
    return Mesh(
        torch.from_numpy(arrays["vertices"]),
        torch.from_numpy(arrays["faces"]),
        tensor(arrays["uv"]),
        tensor(arrays["colors"]),
        tuple(materials),
        tensor(arrays["face_material"]),
    )


def _to_arrays(mesh: Mesh, attributes: Mapping[str, Tensor]) -> MeshArrays:
    def array(tensor: Tensor | None) -> np.ndarray | None:
        return None if tensor is None else tensor.detach().cpu().contiguous().numpy()

    materials: list[MaterialArrays] = [
        {"name": m.name, "base_color": m.base_color, "texture": array(m.texture)}
        for m in mesh.materials
    ]
    face_material = array(mesh.face_material)
    if face_material is None and materials:  # all faces are of the first
        face_material = np.zeros(len(mesh.faces), np.int64)
    return mesh_arrays(
        mesh.vertices.detach().cpu().numpy(),
        mesh.faces.cpu().numpy(),
        array(mesh.uv),
        array(mesh.colors),
        materials,
        face_material,
        {name: t.detach().cpu().float().numpy() for name, t in attributes.items()},
    )
