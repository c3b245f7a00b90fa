"""Axis-aligned boxes in the world and within the unit cube of a field."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError, UsageError
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.values import LARGEST

WHOLE = (-1.0, -1.0, -1.0, 1.0, 1.0, 1.0)
"""The unit cube as a box: low corner, high corner."""
_THINNEST = 1e-4
_TURNED = 1e-6


def placed(
    low: NDArray, high: NDArray, where: str
) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """The smallest cube about a box of the world, as the unit cube that a field lives in.

    Returns world_from_field [4, 4] and the box within the cube (low corner, high corner), which is
    empty where it is all of the cube.

    Raises InputError, beginning with `where`, for corners that span no box.
    """
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    size = high - low
    known = np.isfinite(low).all() and np.isfinite(high).all()
    if not known or max(np.abs(low).max(), np.abs(high).max()) > LARGEST:
        raise InputError(f"{where} is a box with the corners {low.tolist()} and {high.tolist()}")
    if not (size > _THINNEST * size.max()).all():
        raise InputError(
            f"{where} is a box without volume: its corners are {low.tolist()} and {high.tolist()}"
        )
    world_from_field = np.diag([*[size.max() / 2] * 3, 1.0])
    world_from_field[:3, 3] = (low + high) / 2
    half = size / size.max()
    box = () if (half == 1).all() else tuple(float(v) for v in (*-half, *half))
    return world_from_field, box


def world_box(
    field: FieldArrays, what: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Low and high corner in the world of what a field's grid spans, and the scale of its cube.

    Raises UsageError, beginning with `what`, the kind of file, for a field that is turned or
    contracted.
    """
    if field["contraction"] != "none":
        raise UsageError(
            f"{what} holds a box of the world, not all of it, and this field is contracted: keep "
            "it as .safetensors"
        )
    matrix = np.asarray(field["world_from_field"], np.float64)
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    if np.abs(matrix[:3, :3] - scale * np.eye(3)).max() > _TURNED * abs(scale):
        raise UsageError(
            f"{what} holds a box along the axes of the world: this field is turned against them, "
            "which only its own file keeps"
        )
    corners = np.reshape(box_of(field), (2, 3))
    low, high = scale * corners + matrix[:3, 3]
    return low, high, scale


def box_of(field: FieldArrays) -> Sequence[float]:
    """The box within the unit cube, low corner and high corner."""
    return tuple(field["config"].get("box") or ()) or WHOLE
