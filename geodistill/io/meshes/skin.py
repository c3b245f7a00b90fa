"""A mesh's skin in glTF: joints with the maps that they make, and up to eight weights a vertex.

Source: Khronos glTF 2.0 specification, section 3.7.3 (skins).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geodistill.io.meshes.glb_file import VERTICES, GlbBuffer

MOST_WEIGHTS = 8
REST = "rest"
"""Joint of what no other moves."""
_NOTHING = 1e-6  # weights below are what rounding leaves of sums of 1
_SQUARE = 1e-9


@dataclass(frozen=True, eq=False)
class Skin:
    """J joints of a mesh of V vertices, blended linearly: x' = x + sum_j w_j (D_j x - x)."""

    names: tuple[str, ...]
    pivots: np.ndarray  # [J, 3] where joints are at rest
    maps: np.ndarray  # [J, 3, 4] D
    weights: np.ndarray  # [V, J] with sums of at most 1


def skin_attributes(skin: Skin, buffer: GlbBuffer) -> dict[str, int]:
    """Accessors of the largest weights, among them the rest's, which makes their sum 1.

    What the smaller ones had is added to the larger in proportion, so that sums stay. The largest
    come first, and the second four are there only where a vertex has so many: few programs read
    them.
    """
    weights = skin.weights.astype(np.float64)
    most = min(MOST_WEIGHTS - 1, weights.shape[1])
    order = np.argsort(-weights, axis=1, kind="stable")[:, :most]
    kept = np.take_along_axis(weights, order, axis=1)
    total = weights.sum(axis=1, keepdims=True)
    kept *= total / np.maximum(kept.sum(axis=1, keepdims=True), 1e-30)
    joints = np.zeros((len(weights), MOST_WEIGHTS), np.uint16)
    shares = np.zeros((len(weights), MOST_WEIGHTS))
    joints[:, 1 : most + 1] = order + 1
    shares[:, 1 : most + 1] = kept
    shares[:, 0] = np.clip(1 - total[:, 0], 0, 1)
    shares[shares < _NOTHING] = 0
    shares /= shares.sum(axis=1, keepdims=True)
    joints[shares == 0] = 0
    falling = np.argsort(-shares, axis=1, kind="stable")
    joints = np.take_along_axis(joints, falling, axis=1)
    shares = np.take_along_axis(shares, falling, axis=1).astype(np.float32)
    found = {}
    for part in range(2 if shares[:, 4:].any() else 1):
        columns = slice(4 * part, 4 * part + 4)
        found[f"JOINTS_{part}"] = buffer.accessor(joints[:, columns], VERTICES)
        found[f"WEIGHTS_{part}"] = buffer.accessor(shares[:, columns], VERTICES)
    return found


def skin_nodes(
    skin: Skin, buffer: GlbBuffer, center: np.ndarray, first: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Nodes of the joints, the first of which is number `first` and the root of the others, and
    the entry of the skin. Vertices are relative to the center [3]."""
    count = len(skin.names)
    root: dict[str, Any] = {"name": REST}
    if count:
        root["children"] = list(range(first + 1, first + 1 + count))
    if center.any():
        root["translation"] = center.tolist()
    nodes = [root]
    inverse = np.tile(np.eye(4), (count + 1, 1, 1))
    for number, name in enumerate(skin.names):
        D, pivot = skin.maps[number], skin.pivots[number]
        place = D[:, :3] @ pivot + D[:, 3] - center
        nodes.append({"name": name, **_local(D[:, :3], place)})
        inverse[number + 1, :3, 3] = center - pivot
    columns = np.ascontiguousarray(inverse.transpose(0, 2, 1).reshape(-1, 16), np.float32)
    accessor = buffer.matrices(columns)
    joints = list(range(first, first + count + 1))
    return nodes, {"joints": joints, "skeleton": first, "inverseBindMatrices": accessor}


def _local(linear: np.ndarray, place: np.ndarray) -> dict[str, Any]:
    """Translation, rotation and scale of a node, or its matrix where it shears."""
    square = linear.T @ linear
    scale = np.sqrt(np.diag(square))
    rotation = linear / scale
    sheared = np.abs(rotation.T @ rotation - np.eye(3)).max() > _SQUARE
    if sheared or np.linalg.det(rotation) < 0:
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = linear, place
        return {"matrix": matrix.T.reshape(-1).tolist()}
    return {
        "translation": place.tolist(),
        "rotation": _quaternion(rotation).tolist(),
        "scale": scale.tolist(),
    }


def _quaternion(R: np.ndarray) -> np.ndarray:
    """x, y, z, w of a rotation matrix: the eigenvector of the largest eigenvalue of Bar-Itzhack's
    matrix (2000), which is exact whatever the angle."""
    K = np.array(
        [
            [R[0, 0] - R[1, 1] - R[2, 2], R[1, 0] + R[0, 1], R[2, 0] + R[0, 2], R[2, 1] - R[1, 2]],
            [R[1, 0] + R[0, 1], R[1, 1] - R[0, 0] - R[2, 2], R[2, 1] + R[1, 2], R[0, 2] - R[2, 0]],
            [R[2, 0] + R[0, 2], R[2, 1] + R[1, 2], R[2, 2] - R[0, 0] - R[1, 1], R[1, 0] - R[0, 1]],
            [R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], R.trace()],
        ]
    )
    found = np.linalg.eigh(K / 3)[1][:, -1]
    return found if found[3] >= 0 else -found
