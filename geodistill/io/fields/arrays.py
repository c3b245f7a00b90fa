"""Radiance fields in files of other programs, as plain arrays."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray


class FieldArrays(TypedDict):
    """A field of one of geodistill's own architectures.

    A position u of the unit cube [-1, 1]^3 is `world = s R u + t` in the user's world; densities
    are per length of that cube.
    """

    architecture: str  # "ngp", "tensorf", "tensorf-cp", "plenoxels" or "mlp"
    config: dict[str, Any]  # of that architecture; what is left out has its default
    parameters: dict[str, NDArray[np.float32]]  # by the names of geodistill's own field file
    nodes: NDArray[np.bool_] | None  # plenoxels: [X, Y, Z], which nodes exist
    occupancy: NDArray[np.bool_] | None  # [G, G, G] of the unit cube, [ix, iy, iz]; None: not known
    world_from_field: NDArray[np.float64]  # [4, 4] similarity
    contraction: Literal["none", "linf", "l2"]
    extra: dict[str, Any]  # what the format holds beyond, for its writer
