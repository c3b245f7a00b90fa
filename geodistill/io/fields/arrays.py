"""Radiance fields of other programs as plain arrays: the contract of their readers and writers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError

if TYPE_CHECKING:
    from geodistill.cameras import Camera


class _Field(TypedDict):
    """A field in the terms of one of our own architectures; nothing of it is approximate.

    The scene lies in the unit cube u in [-1, 1]^3, and world = s R u + t. Densities are per unit
    of u. With a contraction u = contract(v) / 2 (mip-NeRF 360, eq. 10, in the norm that is named),
    world = s R v + t, and densities are per unit of v.
    """

    architecture: str
    """ "ngp", "tensorf", "tensorf-cp", "plenoxels" or "mlp"."""
    config: dict[str, Any]
    """Of that architecture; what is left out has its default."""
    parameters: dict[str, NDArray[np.float32]]
    """By the names of our own field files."""
    nodes: NDArray[np.bool_] | None
    """[X, Y, Z], which nodes of plenoxels exist; their rows in "values" are in C order."""
    occupancy: NDArray[np.bool_] | None
    """[G, G, G] over the unit cube, index [ix, iy, iz]; outside it the field is transparent. None:
    not known."""
    world_from_field: NDArray[np.float64]
    """[4, 4] similarity."""
    contraction: Literal["none", "linf", "l2"]
    extra: dict[str, Any]
    """What the format holds beyond, for its writer."""


class FieldArrays(_Field, total=False):
    """The same, and what few formats know."""

    views: Camera | None
    """The cameras it was made from, in its world."""


def checked(arrays: FieldArrays, path: Path) -> FieldArrays:
    """The arrays as float32 in C order. Raises InputError, naming the file, for a value that is
    not finite or a frame that is no similarity."""
    for name, values in arrays["parameters"].items():
        if not np.isfinite(values).all():
            raise InputError(f"{path} holds values that are not finite in its {name}")
        arrays["parameters"][name] = np.ascontiguousarray(values, dtype=np.float32)
    frame = arrays["world_from_field"]
    if frame.shape != (4, 4) or not np.isfinite(frame).all():
        raise InputError(f"{path} does not say where its scene lies: its frame is not finite")
    return arrays
