"""Splats in glTF 2.0 and GLB files, as the extension KHR_gaussian_splatting keeps them.

Source: Khronos, KHR_gaussian_splatting, release candidate of 2026. A primitive of points has
POSITION, ROTATION (x, y, z, w), SCALE and OPACITY (both linear) and a VEC3 for each harmonic, in
the basis, order and signs of 3DGS. glTF's axes are x left, y up, z forward; here they come out as
OpenGL's, half a turn about y further.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.meshes.gltf_file import DAMAGE, JSON_CHUNK, MAGIC, PART, GltfFile
from geodistill.io.meshes.gltf_nodes import world_matrices
from geodistill.io.splats.arrays import SplatArrays, splat_arrays
from geodistill.io.splats.gltf_primitive import EXTENSION, primitive_splats
from geodistill.io.splats.turning import similar, turned
from geodistill.io.whole_file import read_start, read_whole

HALF_TURN = np.diag([-1.0, 1.0, -1.0])
"""Between glTF's axes and OpenGL's, either way."""
_TOLERANCE = 1e-4
_POINTS = 0


def holds_splats(path: Path) -> bool:
    """Whether a .glb or .gltf file has a primitive of splats, by its JSON alone.

    False as well for a file that cannot be read: what is wrong with it a reader says.
    """
    try:
        content = json.loads(_json_bytes(path))
        meshes = content.get("meshes", [])
        return any(_is_splats(one) for mesh in meshes for one in mesh.get("primitives", []))
    except (InputError, RecursionError, *DAMAGE):
        return False


def read_gltf_splats(path: Path) -> SplatArrays:
    """All splats of the scene, each primitive placed by its node, those of lower degree padded.

    Custom attributes `_NAME` are attributes, in lower case; triangles are passed over. Raises
    InputError when it is missing, damaged, holds no splats, splats of another kernel or colour
    space, or a node that does more than turn, scale evenly and move them.
    """
    try:
        file = GltfFile(path)
        placed = _placed(file)
        splats = [_in_place(file, primitive, number, M) for primitive, number, M in placed]
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path} is not a valid glTF file ({error}): export it again") from None
    return _joined(path, splats)


def _json_bytes(path: Path) -> bytes:
    start = read_start(path, 20)
    if not start.startswith(MAGIC):
        return read_whole(path)
    size, kind = struct.unpack_from("<2I", start, 12) if len(start) == 20 else (0, 0)
    if kind != JSON_CHUNK or size > path.stat().st_size:
        raise InputError(f"{path} does not begin with JSON")
    return read_start(path, 20 + size)[20:]


def _is_splats(primitive: dict[str, Any]) -> bool:
    return EXTENSION in primitive.get("extensions", {})


def _placed(file: GltfFile) -> list[tuple[dict[str, Any], int, np.ndarray]]:
    """Every primitive of splats with its node's number and transform, checked, none read yet."""
    found, others = [], 0
    for number, matrix in world_matrices(file).items():
        node = file.entry("nodes", number)
        if "mesh" not in node:
            continue
        for primitive in file.entry("meshes", node["mesh"])["primitives"]:
            file.take(PART)
            if _is_splats(primitive):
                found.append((primitive, number, matrix))
            else:
                others += 1
    if not found:
        raise InputError(
            f"{file.path} holds no splats: none of its parts in the scene has the extension "
            f"{EXTENSION}"
        )
    if others:
        log.say(f"{file.path}: {others} of its parts are no splats and passed over")
    return found


def _in_place(
    file: GltfFile, primitive: dict[str, Any], number: int, matrix: np.ndarray
) -> SplatArrays:
    linear = matrix[:3, :3]
    if not similar(linear, _TOLERANCE) or np.linalg.det(linear) < 0:
        raise InputError(
            f"{file.path}: node {number} stretches, shears or mirrors its splats: apply its "
            "transform before the export"
        )
    if primitive.get("mode") != _POINTS:
        raise InputError(f"{file.path}: splats are not points (mode {primitive.get('mode')})")
    splats = primitive_splats(file, primitive)
    return turned(splats, HALF_TURN @ linear, HALF_TURN @ matrix[:3, 3])


def _joined(path: Path, parts: list[SplatArrays]) -> SplatArrays:
    """Checked again, for a node's scale may have led beyond what single precision holds."""
    coefficients = max(part["sh"].shape[1] for part in parts)
    harmonics = [
        np.pad(part["sh"], ((0, 0), (0, coefficients - part["sh"].shape[1]), (0, 0)))
        for part in parts
    ]
    return splat_arrays(
        path,
        np.concatenate([part["means"] for part in parts]),
        np.concatenate([part["rotations"] for part in parts]),
        np.concatenate([part["log_scales"] for part in parts]),
        np.concatenate([part["opacity_logits"] for part in parts]),
        np.concatenate(harmonics),
        _joined_attributes(path, parts),
    )


def _joined_attributes(path: Path, parts: list[SplatArrays]) -> dict[str, np.ndarray]:
    """Those that all parts have in one shape; a line names the others."""
    names = dict.fromkeys(name for part in parts for name in part["attributes"])
    joined, left = {}, []
    for name in names:
        columns = [part["attributes"].get(name) for part in parts]
        shapes = {None if column is None else column.shape[1:] for column in columns}
        if None in shapes or len(shapes) > 1:
            left.append(name)
        else:
            joined[name] = np.concatenate([column for column in columns if column is not None])
    if left:
        log.say(f"{path}: not all its parts have the attributes {', '.join(left)}: left out")
    return joined
