"""Where instant-ngp and torch-ngp put a scene, and the similarity that undoes it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError

CYCLE = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
"""Axes of instant-ngp and torch-ngp from those of transforms.json: their x is its y, and so on."""
FRAME_ENTRY = "geodistill"
"""Top-level entry of the files we write, which other programs leave alone."""
LARGEST_WEIGHT = 1e9
"""Greatest magnitude of what a network or a grid has learnt; beyond it arithmetic fails."""
_TOLERANCE = 1e-3


class Parts(NamedTuple):
    """world = scale rotation u + offset"""

    scale: float
    rotation: NDArray[np.float64]
    offset: NDArray[np.float64]


def parts_of(world_from_field: NDArray[np.float64]) -> Parts:
    linear = world_from_field[:3, :3]
    scale = float(np.cbrt(np.linalg.det(linear)))
    return Parts(scale, linear / scale, world_from_field[:3, 3])


def matrix_of(scale: float, rotation: NDArray, offset: NDArray) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation
    matrix[:3, 3] = offset
    return matrix


def frame_entry(world_from_field: NDArray[np.float64]) -> dict[str, Any]:
    """What stands under FRAME_ENTRY."""
    return {"world_from_field": [[float(v) for v in row] for row in world_from_field]}


def stored_frame(content: dict[str, Any], where: str) -> NDArray[np.float64] | None:
    """The similarity that our writers add to a file, None where there is none.

    Raises InputError for what is not a similarity.
    """
    entry = content.get(FRAME_ENTRY)
    if not isinstance(entry, dict) or "world_from_field" not in entry:
        return None
    matrix = vector(entry["world_from_field"], 16, "world_from_field", where).reshape(4, 4)
    gram = matrix[:3, :3].T @ matrix[:3, :3]
    squared = np.trace(gram) / 3
    if (
        not 1e-18 < squared < 1e18
        or np.abs(gram / squared - np.eye(3)).max() > _TOLERANCE
        or np.linalg.det(matrix[:3, :3]) <= 0
        or (matrix[3] != [0, 0, 0, 1]).any()
    ):
        raise InputError(f"{where} has a world_from_field that is no rotation with a scale")
    return matrix


def vector(value: Any, size: int, key: str, where: str) -> NDArray[np.float64]:
    """[size] finite numbers out of nested lists, or InputError"""
    try:
        found = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        found = np.zeros(0)
    if found.shape != (size,) or not np.isfinite(found).all():
        raise InputError(f"{where} has {key} that is not of {size} finite numbers")
    return found


def scale_of(value: float, where: str) -> float:
    """InputError for a scale that cannot be undone"""
    if not 1e-9 < value < 1e9:
        raise InputError(f"{where} has scale = {value:g}, which is no scale of a scene")
    return value
