"""Occupied cells of the unit cube from the grids that other programs keep, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CELLS = 128
"""Per axis, of what is made here."""
_SLIVER = 1e-4
"""Of a spacing: what reaches less far into a cell is left out, for it is within rounding."""


def cells_from_nodes(
    nodes: NDArray[np.bool_],  # [X, Y, Z]
    first: Sequence[float] | NDArray,
    spacing: Sequence[float] | NDArray,
    reach: float = 1.0,
) -> NDArray[np.bool_]:
    """The cells that what is said at grid nodes extends into. [CELLS, CELLS, CELLS]

    Node i of an axis lies at first + i spacing in the unit cube, and speaks for the open box of
    `reach` spacings to each of its sides: 1 where values are interpolated linearly between nodes,
    1/2 where nodes are centres of cells. A cell is True where such a box of a True node meets it.
    """
    edges = np.linspace(-1.0, 1.0, CELLS + 1)
    found = nodes
    for axis in range(3):
        count = nodes.shape[axis]
        place = (edges - first[axis]) / spacing[axis]
        begin = np.floor(place[:-1] - reach + _SLIVER) + 1
        end = np.ceil(place[1:] + reach - _SLIVER)
        ranges = zip(begin.clip(0, count), end.clip(0, count), strict=True)
        slabs = np.moveaxis(found, axis, 0)
        met = np.stack([slabs[int(a) : int(b)].any(axis=0) for a, b in ranges])
        found = np.moveaxis(met, 0, axis)
    return np.ascontiguousarray(found)


def nodes_from_cells(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Nodes whose linear interpolation is positive within occupied cells and nowhere else.

    cells: [G, G, G].  Returns [2G + 1, 2G + 1, 2G + 1] from one face of the cube to the other: the
    centres of cells, their faces, edges and corners; True where all cells that touch it are.
    """
    found = cells
    for axis in range(3):
        slabs = np.moveaxis(found, axis, 0)
        nodes = np.empty((2 * len(slabs) + 1, *slabs.shape[1:]), bool)
        nodes[1::2] = slabs
        nodes[2:-1:2] = slabs[1:] & slabs[:-1]
        nodes[0], nodes[-1] = slabs[0], slabs[-1]
        found = np.moveaxis(nodes, 0, axis)
    return np.ascontiguousarray(found)


def within_box(cells: NDArray[np.bool_], box: Sequence[float]) -> NDArray[np.bool_]:
    """The cells [G, G, G] without those that lie outside of a box (low corner, high corner)."""
    size, kept = len(cells), np.array(cells)
    for axis in range(3):
        low, high = ((value + 1) * (size / 2) for value in (box[axis], box[axis + 3]))
        index = np.arange(size)
        outside = (index + 1 <= low + _SLIVER) | (index >= high - _SLIVER)
        np.moveaxis(kept, axis, 0)[outside] = False
    return kept
