"""What both detection metrics do with the objects of many frames at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]


def stacked(parts: Sequence[Array], columns: int = 0) -> Array:
    """Values of all frames, [N] or [N, columns]; of no frames too."""
    return np.concatenate([np.zeros((0, columns) if columns else 0), *parts])


def first_free(owner: Numbers, free: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """The first row that is free of each owner and in each column: rows and columns, int64 [M].

    Args:
        owner: [P] of each row, equal ones one behind the other.
        free: [P, C].
    """
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    # The first is the largest of numbers that fall.
    rank = np.arange(len(owner), 0, -1)[:, None] * free
    first = np.maximum.reduceat(rank, starts, axis=0)
    which, at = np.nonzero(first)
    return len(owner) - first[which, at], at
