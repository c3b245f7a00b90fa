"""Occupied cells of a field's unit cube, from nested grids over boxes of its world.

A place belongs to the finest level whose box holds it, and what no box holds is empty. Source:
nerfacc 0.5.3, grid.py (`_query`) and estimators/occ_grid.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CELLS = 128
"""Per axis, of what is made here."""
_TOUCH = 1e-4
"""Of a level's cell: what overlaps by less only touches."""


def cells_of_levels(
    grids: NDArray[np.bool_],  # [levels, G, G, G]
    boxes: NDArray[np.float64],  # [levels, 2, 3], low and high corner, finest first
    world_from_field: NDArray[np.float64],
    contracted: bool,
) -> NDArray[np.bool_]:
    """The cells of the unit cube that an occupied cell of a level overlaps. [CELLS] * 3

    Where the world is contracted by the largest coordinate, a cell of the cube is a box with bent
    sides in the world, of which the box about its corners is taken.
    """
    tables = [_sums(_outside(level, grids, boxes)) for level in range(len(grids))]
    found = np.zeros((CELLS,) * 3, bool)
    for ix in range(CELLS):
        low, high = _cells(ix, world_from_field, contracted)
        for table, (first, last) in zip(tables, boxes, strict=True):
            found[ix] |= _any(
                table, (low - first) / (last - first), (high - first) / (last - first)
            )
    return found


def _outside(level: int, grids: NDArray[np.bool_], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A level's cells but those within the box of the next finer one."""
    cells = np.array(grids[level])
    if level:
        low, high = boxes[level]
        inner = (boxes[level - 1] - low) / (high - low) * cells.shape[0]
        first = np.ceil(inner[0] - _TOUCH).astype(int)
        last = np.floor(inner[1] + _TOUCH).astype(int)
        first, last = first.clip(0, None), last.clip(0, None)
        cells[first[0] : last[0], first[1] : last[1], first[2] : last[2]] = False
    return cells


def _sums(cells: NDArray[np.bool_]) -> NDArray[np.int32]:
    """[G + 1] * 3, how many cells lie before each corner on all axes."""
    table = np.zeros([side + 1 for side in cells.shape], np.int32)
    sums = cells.astype(np.int32)
    for axis in range(3):
        sums = np.cumsum(sums, axis=axis, dtype=np.int32)
    table[1:, 1:, 1:] = sums
    return table


def _any(table: NDArray, low: NDArray, high: NDArray) -> NDArray[np.bool_]:
    """Whether a box [..., 3] of the unit square of a level meets one of its cells. [...]"""
    side = len(table) - 1
    first = np.floor(low * side + _TOUCH).clip(0, side).astype(int)
    last = np.ceil(high * side - _TOUCH).clip(0, side).astype(int)
    last = np.maximum(first, last)
    count = 0
    for corner in np.ndindex(2, 2, 2):
        at = [(first, last)[corner[axis]][..., axis] for axis in range(3)]
        count = count + (1 if sum(corner) % 2 else -1) * table[at[0], at[1], at[2]]
    return np.asarray(count) > 0


def _cells(
    ix: int, world_from_field: NDArray[np.float64], contracted: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high corners in the world of the cells [ix, :, :]. [CELLS, CELLS, 3] each"""
    edges = np.linspace(-1.0, 1.0, CELLS + 1)
    corners = np.stack(np.meshgrid(edges[ix : ix + 2], edges, edges, indexing="ij"), axis=-1)
    if contracted:
        corners = _expanded(corners)
    corners = corners * world_from_field[0, 0] + world_from_field[:3, 3]
    low, high = corners, corners
    for axis in range(3):
        ahead = [slice(None)] * 3
        behind = [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        low = np.minimum(low[tuple(ahead)], low[tuple(behind)])
        high = np.maximum(high[tuple(ahead)], high[tuple(behind)])
    return low[0], high[0]


def _expanded(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the points of the cube come from that the contraction led to; far away on its faces."""
    v = 2.0 * u
    size = np.abs(v).max(axis=-1, keepdims=True)
    grown = 1.0 / (size * (2.0 - size.clip(None, 2.0 - 1e-9)).clip(1e-9, None)).clip(1e-12, None)
    return np.where(size > 1.0, v * grown, v)
