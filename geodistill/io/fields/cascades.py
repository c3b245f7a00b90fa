"""Nested occupancy grids, as instant-ngp and torch-ngp keep them, and the one grid of a field.

Cascade c is a grid of N^3 cells, 128 as a rule, over a cube about the middle, twice as large as
that of cascade c - 1; a place belongs to the finest cascade whose cube holds it. Cells stand in
Morton order: the bits of a cell's number are those of z, y and x in turns, x lowest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]

SIDE = 128
CELLS = SIDE**3
FINEST = 256
"""Cells a side of a field's grid at most. What a file holds finer is joined, occupied if any is."""
_TOUCH = 1e-6
"""Cells that overlap by less than this part of a cell only touch."""


def side_of(cells: int) -> int | None:
    """N of N^3 cells where N is a power of two up to 512, else None."""
    side = round(cells ** (1 / 3))
    return side if side**3 == cells and side in (2**k for k in range(10)) else None


def from_morton(cells: NDArray) -> NDArray:
    """[N^3] -> [N, N, N], index [ix, iy, iz]"""
    return cells[_morton(round(len(cells) ** (1 / 3)))]


def to_morton(grid: NDArray) -> NDArray:
    """[N, N, N], index [ix, iy, iz] -> [N^3]"""
    cells = np.empty(grid.size, grid.dtype)
    cells[_morton(len(grid))] = grid
    return cells


def joined(cascades: Sequence[Bits], halves: Sequence[float]) -> Bits:
    """The one grid [G, G, G] over the unit cube [-1, 1]^3.

    Args:
        cascades: bool [N, N, N] each, finest first.
        halves: half the side of each one's cube; the last is 1.

    G is what the finest cascade asks for where that is at most FINEST, so that nothing is lost.
    """
    size = min(FINEST, round(len(cascades[0]) * halves[-1] / halves[0]))
    edges = np.linspace(-1.0, 1.0, size + 1)
    grid = np.zeros((size, size, size), bool)
    for bits, half in reversed(list(zip(cascades, halves, strict=True))):
        inside = (edges[:-1] >= -half - 1e-9) & (edges[1:] <= half + 1e-9)
        covered = _resampled(bits, (edges[:-1] / half, edges[1:] / half))
        whole = np.ix_(inside, inside, inside)
        replaced = covered[whole]
        grid |= covered  # where a cell straddles the border of the finer cube, both count
        grid[whole] = replaced
    return grid


def cascades_of(occupancy: Bits, halves: Sequence[float]) -> list[Bits]:
    """The inverse of `joined`, grids of 128^3: a cell counts where any cell under it does."""
    edges = np.linspace(-1.0, 1.0, SIDE + 1)
    return [_resampled(occupancy, (edges[:-1] * half, edges[1:] * half)) for half in halves]


def _morton(side: int) -> NDArray[np.int64]:
    """[side, side, side] number of each cell"""
    spread = np.zeros(side, np.int64)
    for bit in range(side.bit_length() - 1):
        spread |= (np.arange(side) >> bit & 1) << 3 * bit
    return spread[:, None, None] | spread[:, None] << 1 | spread << 2


def _resampled(bits: Bits, intervals: tuple[NDArray, NDArray]) -> Bits:
    """For every box of intervals of [-1, 1]: is a cell of `bits` under it? What is outside is empty

    Args:
        bits: bool [N, N, N] over [-1, 1]^3.
        intervals: low and high ends [M], the same along every axis.
    """
    size, count = len(bits), len(intervals[0])
    low, high = ((end + 1.0) * (size / 2) for end in intervals)
    first = np.clip(np.floor(low + _TOUCH), 0, size).astype(int)
    last = np.clip(np.ceil(high - _TOUCH), 0, size).astype(int)
    if not (first < last).any():
        return np.zeros((count, count, count), bool)
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = len(first)
        found = np.zeros(1, bool)
        for step in range(int((last - first).max())):
            inside = (first + step < last).reshape(shape)
            found = found | (np.take(bits, np.minimum(first + step, size - 1), axis) & inside)
        bits = found
    return bits
