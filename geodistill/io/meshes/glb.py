"""Meshes as one self-contained GLB file, with textures and per-vertex columns inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geodistill.checks import InputError
from geodistill.io.meshes.arrays import MaterialArrays, MeshArrays
from geodistill.io.meshes.glb_file import VERTICES, GlbBuffer, custom_attributes, glb_pieces
from geodistill.io.meshes.gltf import ORDER_KEY
from geodistill.io.meshes.skin import Skin, skin_attributes, skin_nodes
from geodistill.io.meshes.textures import encode_png, linear_from_srgb

_INDICES = 34963
_FAR = 16.0


def glb_files(mesh: MeshArrays, path: Path, skin: Skin | None = None) -> dict[str, list[bytes]]:
    """The one file that makes the mesh, in pieces; with a skin the mesh is as it is at rest.

    Vertices keep their order. Faces are stored by material, and their order beside them where it
    is another. Positions are floats; those of a mesh far from its origin are relative to a node
    near it. A column of C values is `_NAME`, or `_NAME_0` … in parts of at most four.
    """
    buffer = GlbBuffer()
    attributes, translation = _attributes(mesh, buffer, path)
    node: dict[str, Any] = {"mesh": 0}
    nodes, skins = [node], {}
    if skin is not None:
        # Joints alone say where a skinned mesh is.
        attributes |= skin_attributes(skin, buffer)
        center = np.array(translation or [0.0, 0.0, 0.0])
        joints, entry = skin_nodes(skin, buffer, center, 1)
        nodes, skins, node["skin"] = [node, *joints], {"skins": [entry]}, 0
    elif translation is not None:
        node["translation"] = translation
    primitives, extras = _primitives(mesh, attributes, buffer)
    content: dict[str, Any] = {
        "scene": 0,
        "scenes": [{"nodes": [0] if skin is None else [0, 1]}],
        "nodes": nodes,
        **skins,
        "meshes": [{"primitives": primitives, **({"extras": extras} if extras else {})}],
        **_materials(mesh["materials"], buffer),
    }
    return {path.name: glb_pieces(content, buffer, path)}


def _attributes(
    mesh: MeshArrays, buffer: GlbBuffer, path: Path
) -> tuple[dict[str, int], list[float] | None]:
    """Accessors by attribute name, and the translation of the node."""
    vertices, translation = mesh["vertices"], None
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    if np.abs(vertices).max() > _FAR * np.linalg.norm(high - low):
        center = (low + high) / 2
        translation, vertices = center.tolist(), vertices - center
    local = vertices.astype(np.float32)
    if not np.isfinite(local).all():
        raise InputError(f"positions beyond 3e38 do not fit the floats of {path}: choose .ply")
    bounds = {"min": local.min(axis=0).tolist(), "max": local.max(axis=0).tolist()}
    found = {"POSITION": buffer.accessor(local, VERTICES, **bounds)}
    if mesh["uv"] is not None:
        uv = np.stack([mesh["uv"][:, 0], 1 - mesh["uv"][:, 1]], axis=1)
        found["TEXCOORD_0"] = buffer.accessor(uv, VERTICES)
    if mesh["colors"] is not None:
        shares = mesh["colors"] / 255
        shares[:, :3] = linear_from_srgb(shares[:, :3])
        rgba = np.rint(shares * 65535).astype(np.uint16)
        found["COLOR_0"] = buffer.accessor(rgba, VERTICES, normalized=True)
    for key, part in custom_attributes(mesh["attributes"]).items():
        found[key] = buffer.accessor(part, VERTICES)
    return found, translation


def _primitives(
    mesh: MeshArrays, attributes: dict[str, int], buffer: GlbBuffer
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """One primitive per material in use, and the extras that hold the order of the faces."""
    faces, material = mesh["faces"].astype(np.uint32), mesh["face_material"]
    if material is None:
        material = np.full(len(faces), -1)
    order = np.argsort(material, kind="stable")
    primitives = []
    for number in np.unique(material).tolist():
        indices = faces[material == number].reshape(-1)
        primitive: dict[str, Any] = {
            "attributes": attributes,
            "indices": buffer.accessor(indices, _INDICES),
        }
        if number >= 0:
            primitive["material"] = number
        primitives.append(primitive)
    if np.array_equal(order, np.arange(len(order))):
        return primitives, {}
    return primitives, {ORDER_KEY: buffer.accessor(order.astype(np.uint32))}


def _materials(materials: list[MaterialArrays], buffer: GlbBuffer) -> dict[str, Any]:
    """The top-level lists of materials, textures and images; equal pictures are stored once.

    A picture that materials share lies at one place in memory, and is packed once.
    """
    entries, images = [], []
    stored: dict[bytes, int] = {}
    packed: dict[tuple[int, ...], bytes] = {}
    for material in materials:
        red, green, blue, alpha = material["base_color"]
        surface: dict[str, Any] = {
            "baseColorFactor": [*linear_from_srgb(np.array([red, green, blue])).tolist(), alpha],
            "metallicFactor": 0.0,
            "roughnessFactor": 1.0,
        }
        entry = {"name": material["name"], "pbrMetallicRoughness": surface, "doubleSided": True}
        texture = material["texture"]
        if texture is not None:
            place = (texture.ctypes.data, *texture.shape, *texture.strides)
            if place not in packed:
                packed[place] = encode_png(texture)
            picture = packed[place]
            if picture not in stored:
                stored[picture] = len(images)
                images.append({"bufferView": buffer.view(picture), "mimeType": "image/png"})
            surface["baseColorTexture"] = {"index": stored[picture]}
        if alpha < 1 or (texture is not None and (texture[..., 3] < 255).any()):
            entry["alphaMode"] = "BLEND"
        entries.append(entry)
    if not entries:
        return {}
    textures = [{"source": number, "sampler": 0} for number in range(len(images))]
    repeat = {"samplers": [{"wrapS": 10497, "wrapT": 10497}]} if images else {}
    pictures = {"images": images, "textures": textures} if images else {}
    return {"materials": entries, **repeat, **pictures}
