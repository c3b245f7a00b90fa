"""Scenes of glTF 2.0 and GLB as one mesh: every part in place, its base colour as material."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.meshes.arrays import (
    MaterialArrays,
    MeshArrays,
    check_indices,
    mesh_arrays,
)
from geodistill.io.meshes.glb_file import joined_attributes
from geodistill.io.meshes.gltf_file import DAMAGE, PART, GltfFile
from geodistill.io.meshes.gltf_nodes import world_matrices
from geodistill.io.meshes.textures import colour_bytes, srgb_from_linear

ORDER_KEY = "geodistill_face_order"
"""In a mesh's `extras`: the accessor of each stored face's place in the original order."""

_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_TRANSFORM = "KHR_texture_transform"
_OLD_MATERIAL = "KHR_materials_pbrSpecularGlossiness"


@dataclass
class _Parts:
    """Vertices and faces gathered from one primitive after the other."""

    count: int = 0
    vertices: list[np.ndarray] = field(default_factory=list)
    uv: list[np.ndarray | None] = field(default_factory=list)
    colors: list[np.ndarray | None] = field(default_factory=list)
    attributes: list[dict[str, np.ndarray]] = field(default_factory=list)
    faces: list[np.ndarray] = field(default_factory=list)
    face_material: list[np.ndarray] = field(default_factory=list)


def read_gltf(path: Path) -> MeshArrays:
    """Node transforms are applied in float64; primitives that share vertices keep sharing them.

    Skinned parts stand in their rest pose. Points and lines are passed over.
    """
    try:
        file = GltfFile(path)
        opaque: dict[int, np.ndarray] = {}
        used = [
            _material(file, number, opaque) for number in range(len(file.json.get("materials", [])))
        ]
        parts = _Parts()
        for placed in _placed_meshes(file):
            _add_mesh(file, placed, parts)
        sizes = [len(vertices) for vertices in parts.vertices]
        uv, colors = _joined(file, parts.uv, sizes, 0), _joined(file, parts.colors, sizes, 255)
        attributes = _joined_attributes(file, parts.attributes, sizes)
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path} is not a valid glTF file ({error}): export it again") from None
    if not parts.faces:
        return mesh_arrays(np.zeros((0, 3)), np.zeros((0, 3)))
    return mesh_arrays(
        np.concatenate(parts.vertices),
        np.concatenate(parts.faces),
        uv,
        colors,
        used,
        np.concatenate(parts.face_material) if used else None,
        attributes,
    )


def _joined(file: GltfFile, parts: list[Any], sizes: list[int], filling: int) -> np.ndarray | None:
    """Arrays of all parts end to end, filled where some part has none."""
    known = next((part for part in parts if part is not None), None)
    if known is None:
        return None
    shape = known.shape[1:]
    without = sum(size for part, size in zip(parts, sizes, strict=True) if part is None)
    file.take(without * math.prod(shape))
    return np.concatenate(
        [
            np.full((size, *shape), filling, known.dtype) if part is None else part
            for part, size in zip(parts, sizes, strict=True)
        ]
    )


def _joined_attributes(
    file: GltfFile, parts: list[dict[str, np.ndarray]], sizes: list[int]
) -> dict[str, np.ndarray]:
    """Those that have one shape in all parts that have them; a line names the others."""
    result, left = {}, []
    for name in dict.fromkeys(name for part in parts for name in part):
        columns = [part.get(name) for part in parts]
        if len({column.shape[1:] for column in columns if column is not None}) == 1:
            result[name] = _joined(file, columns, sizes, 0)
        else:
            left.append(name)
    if left:
        log.say(f"{file.path}: its parts have {', '.join(left)} in several shapes: left out")
    return result


@dataclass(frozen=True)
class _Placed:
    """A mesh in the scene: its world transform [4, 4], and those of its joints [J, 4, 4]."""

    mesh: int
    matrix: np.ndarray
    joints: np.ndarray | None


def _placed_meshes(file: GltfFile) -> Iterator[_Placed]:
    """All meshes, in the order of the scene."""
    world = world_matrices(file)
    skins: dict[int, np.ndarray] = {}
    for number, matrix in world.items():
        node = file.entry("nodes", number)
        if "mesh" not in node:
            continue
        skin = node.get("skin")
        if skin is not None and skin not in skins:
            skins[skin] = _joints(file, file.entry("skins", skin), world)
        yield _Placed(node["mesh"], matrix, None if skin is None else skins[skin])


def _joints(file: GltfFile, skin: dict[str, Any], world: dict[int, np.ndarray]) -> np.ndarray:
    """What each joint of a skin does to a vertex at rest, float64 [J, 4, 4]."""
    joints = np.stack([world.get(joint, np.eye(4)) for joint in skin["joints"]])
    if "inverseBindMatrices" in skin:
        inverse = file.accessor(skin["inverseBindMatrices"]).astype(np.float64)
        joints = joints @ inverse[: len(joints)].reshape(-1, 4, 4).swapaxes(1, 2)
    return joints


def _add_mesh(file: GltfFile, placed: _Placed, parts: _Parts) -> None:
    mesh = file.entry("meshes", placed.mesh)
    shared: dict[tuple, tuple[int, int]] = {}
    first = len(parts.faces)
    for primitive in mesh.get("primitives", []):
        file.take(PART)
        if primitive.get("mode", _TRIANGLES) not in (_TRIANGLES, _STRIP, _FAN):
            continue
        attributes = primitive["attributes"]
        if "POSITION" not in attributes:
            continue
        material = primitive.get("material")
        texture: dict[str, Any] = {}
        if material is not None:
            _, texture = _texture_info(file.entry("materials", material))
        mapping = repr((texture.get("texCoord", 0), _transform(texture)))
        key = (*sorted(attributes.items()), mapping)
        if key not in shared:
            start = parts.count
            _add_vertices(file, attributes, texture, placed, parts)
            shared[key] = start, parts.count - start
        start, count = shared[key]
        faces = _faces(file, primitive, count)
        matrix = placed.matrix if placed.joints is None else placed.joints[0]
        if np.linalg.det(matrix[:3, :3]) < 0:  # a mirrored part would be inside out
            faces = faces[:, [0, 2, 1]]
        parts.faces.append(faces + start)
        parts.face_material.append(np.full(len(faces), -1 if material is None else material))
    _restore_order(file, mesh, parts, first)


def _restore_order(file: GltfFile, mesh: dict[str, Any], parts: _Parts, first: int) -> None:
    """Put faces that were stored by material back where they were."""
    extras = mesh.get("extras")
    if not isinstance(extras, dict) or ORDER_KEY not in extras or first == len(parts.faces):
        return
    order = file.accessor(extras[ORDER_KEY])[:, 0].astype(np.int64)
    faces, material = (
        np.concatenate(parts.faces[first:]),
        np.concatenate(parts.face_material[first:]),
    )
    if not np.array_equal(np.sort(order), np.arange(len(faces))):
        log.say(f"{file.path}: the stored order of faces does not fit them and is not applied")
        return
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    parts.faces[first:], parts.face_material[first:] = [faces[back]], [material[back]]


def _add_vertices(
    file: GltfFile,
    attributes: dict[str, int],
    texture: dict[str, Any],
    placed: _Placed,
    parts: _Parts,
) -> None:
    local = file.accessor(attributes["POSITION"]).astype(np.float64)
    count = len(local)

    def column(name: str) -> np.ndarray | None:
        if name not in attributes:
            return None
        values = file.accessor(attributes[name])
        if len(values) != count:
            raise InputError(
                f"{file.path}: {name} has {len(values)} values for {count} vertices: it is damaged"
            )
        return values

    set_number = _transform(texture).get("texCoord", texture.get("texCoord", 0))
    uv = column(f"TEXCOORD_{set_number}")
    if uv is not None:
        uv = _transformed_uv(uv.astype(np.float64), _transform(texture)).astype(np.float32)
        uv[:, 1] = 1 - uv[:, 1]
    colors = column("COLOR_0")
    if colors is not None:
        shade = srgb_from_linear(colors[:, :3])
        colors = colour_bytes(np.concatenate([shade, colors[:, 3:4]], axis=1))
    own = {
        name: values
        for name in attributes
        if name.startswith("_") and (values := column(name)) is not None
    }
    parts.count += count
    parts.vertices.append(_in_world(file, attributes, local, placed))
    parts.uv.append(uv)
    parts.colors.append(colors)
    parts.attributes.append(joined_attributes(own))


def _in_world(
    file: GltfFile, attributes: dict[str, int], local: np.ndarray, placed: _Placed
) -> np.ndarray:
    """Vertices moved by their node, or by the weighted joints of a skin in its rest pose."""
    if placed.joints is None or "JOINTS_0" not in attributes:
        return local @ placed.matrix[:3, :3].T + placed.matrix[:3, 3]
    blended, number = np.zeros((len(local), 4, 4)), 0
    while f"JOINTS_{number}" in attributes:
        joints = file.accessor(attributes[f"JOINTS_{number}"])
        weights = file.accessor(attributes[f"WEIGHTS_{number}"])
        for slot in range(4):
            blended += weights[:, slot, None, None] * placed.joints[joints[:, slot]]
        number += 1
    return np.einsum("vij,vj->vi", blended[:, :3, :3], local) + blended[:, :3, 3]


def _faces(file: GltfFile, primitive: dict[str, Any], count: int) -> np.ndarray:
    """int64 [F, 3], numbered within the primitive."""
    if "indices" in primitive:
        index = file.accessor(primitive["indices"])[:, 0].astype(np.int64)
    else:
        file.take(count)
        index = np.arange(count)
    mode = primitive.get("mode", _TRIANGLES)
    if mode == _TRIANGLES:
        if len(index) % 3:
            raise InputError(f"{file.path} has triangles of {len(index)} corners: it is damaged")
        faces = index.reshape(-1, 3)
    else:
        step = np.arange(max(len(index) - 2, 0))
        odd = step % 2
        if mode == _STRIP:
            corners = np.stack([step, step + 1 + odd, step + 2 - odd], axis=1)
        else:
            corners = np.stack([step + 1, step + 2, np.zeros_like(step)], axis=1)
        faces = index[corners]
    check_indices(faces, count, file.path)
    return faces


def _texture_info(material: dict[str, Any]) -> tuple[list[float], dict[str, Any]]:
    """The linear base colour factor, and the object that refers to its texture, or {}."""
    values = material.get("pbrMetallicRoughness", {})
    factor, texture = values.get("baseColorFactor"), values.get("baseColorTexture")
    old = material.get("extensions", {}).get(_OLD_MATERIAL)
    if old and factor is None and texture is None:
        factor, texture = old.get("diffuseFactor"), old.get("diffuseTexture")
    return factor or [1.0] * 4, texture or {}


def _material(file: GltfFile, number: int, opaque: dict[int, np.ndarray]) -> MaterialArrays:
    """`opaque` keeps the pictures that had to lose their alpha, by identity."""
    entry = file.entry("materials", number)
    factor, info = _texture_info(entry)
    red, green, blue = (float(v) for v in srgb_from_linear(np.array(factor[:3])))
    alpha = min(max(float(factor[3]), 0.0), 1.0)
    texture = _texture(file, info["index"]) if info else None
    if entry.get("alphaMode", "OPAQUE") == "OPAQUE":
        alpha = 1.0
        if texture is not None:
            if id(texture) not in opaque:
                opaque[id(texture)] = _without_alpha(texture)
            texture = opaque[id(texture)]
    name = str(entry.get("name") or f"material_{number}")
    return {"name": name, "base_color": (red, green, blue, alpha), "texture": texture}


def _without_alpha(texture: np.ndarray) -> np.ndarray:
    if (texture[..., 3] == 255).all():
        return texture
    return np.concatenate([texture[..., :3], np.full_like(texture[..., :1], 255)], -1)


def _texture(file: GltfFile, number: int) -> np.ndarray | None:
    entry = file.entry("textures", number)
    webp = entry.get("extensions", {}).get("EXT_texture_webp", {})
    source = webp.get("source", entry.get("source"))
    if source is None:
        log.say(f"{file.path}: texture {number} is of a kind that is not read; one colour is kept")
        return None
    return file.image(source)


def _transform(texture: dict[str, Any]) -> dict[str, Any]:
    return texture.get("extensions", {}).get(_TRANSFORM, {})


def _transformed_uv(uv: np.ndarray, transform: dict[str, Any]) -> np.ndarray:
    """Scale, then rotate, then move (KHR_texture_transform), origin at the upper left.

    A positive rotation turns them counter-clockwise as seen, with the second axis pointing down.
    """
    if not transform:
        return uv
    angle = float(transform.get("rotation", 0))
    cos, sin = np.cos(angle), np.sin(angle)
    scaled = uv * np.array(transform.get("scale", (1, 1)), np.float64)
    turned = scaled @ np.array([[cos, sin], [-sin, cos]]).T
    return turned + np.array(transform.get("offset", (0, 0)), np.float64)
