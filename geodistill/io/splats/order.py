"""An order in which neighbours in space are neighbours in a file."""

from __future__ import annotations

import numpy as np

_BITS = 21  # three axes of them fill 63 bits
_SPREADS = (
    (32, 0x001F00000000FFFF),
    (16, 0x001F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)


def morton_order(means: np.ndarray) -> np.ndarray:
    """int64 [N], the indices of means [N, 3] along the Morton curve of their box (Morton 1966).

    Means that share a cell, 1 of 2^21 along each axis, keep their order.
    """
    low, high = means.min(axis=0).astype(np.float64), means.max(axis=0).astype(np.float64)
    extent = np.where(high > low, high - low, 1.0)
    cells = ((means - low) / extent * (2**_BITS - 1)).astype(np.uint64)
    codes = sum(_spread(cells[:, axis]) << np.uint64(axis) for axis in range(3))
    return np.argsort(codes, kind="stable")


def _spread(numbers: np.ndarray) -> np.ndarray:
    """The bits of 21-bit numbers, two zeros between each and the next."""
    for shift, mask in _SPREADS:
        numbers = (numbers | (numbers << np.uint64(shift))) & np.uint64(mask)
    return numbers
