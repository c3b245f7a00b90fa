"""Where the nodes of a glTF scene stand.

Source: Khronos glTF 2.0 specification, section 3.5 (scenes, nodes, transformations).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geodistill.checks import InputError
from geodistill.io.meshes.gltf_file import GltfFile


def world_matrices(file: GltfFile) -> dict[int, np.ndarray]:
    """float64 [4, 4] of every node of the scene by its number, in the order of the scene.

    Raises InputError for a node that stands in it twice, or whose transform is not finite.
    """
    nodes = file.json.get("nodes", [])
    if "scenes" in file.json:
        roots = file.entry("scenes", file.json.get("scene", 0)).get("nodes", [])
    else:
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [number for number in range(len(nodes)) if number not in children]
    stack = [(number, np.eye(4)) for number in reversed(roots)]
    world: dict[int, np.ndarray] = {}
    while stack:
        number, above = stack.pop()
        node = file.entry("nodes", number)
        if number in world:
            raise InputError(f"{file.path}: node {number} stands in the scene twice")
        world[number] = above @ _matrix(node, number, file.path)
        stack += [(child, world[number]) for child in reversed(node.get("children", []))]
    return world


def _matrix(node: dict[str, Any], number: int, path: Path) -> np.ndarray:
    """float64 [4, 4] of a node's matrix or translation, rotation (x, y, z, w) and scale."""
    if "matrix" in node:
        result = np.array(node["matrix"], np.float64).reshape(4, 4).T
    else:
        x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), np.float64)
        rotation = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
        result = np.eye(4)
        result[:3, :3] = rotation * np.array(node.get("scale", (1, 1, 1)), np.float64)
        result[:3, 3] = node.get("translation", (0, 0, 0))
    if not np.isfinite(result).all():
        raise InputError(f"{path}: the transform of node {number} is NaN or infinite")
    return result
