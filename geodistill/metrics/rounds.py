"""What both detection metrics do with the objects of many frames at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
PAIRS = 1 << 20
"""At a time."""


def stacked(parts: Sequence[Array], columns: int = 0) -> Array:
    """Values of all frames, [N] or [N, columns]; of no frames too."""
    return np.concatenate([np.zeros((0, columns) if columns else 0), *parts])


def expect_comparable(labels: Sequence[Any], predictions: Sequence[Any]) -> None:
    """Raise InputError for different numbers of frames, or predictions without finite scores."""
    if len(labels) != len(predictions):
        raise InputError(
            f"{len(labels)} frames of labels and {len(predictions)} of predictions: give as many"
        )
    if any(frame.scores is None for frame in predictions):
        raise InputError("predictions need scores: of KITTI's text files the 16th column")
    if any(not np.isfinite(frame.scores).all() for frame in predictions):
        raise InputError("predictions have scores that are no finite numbers")


def parts_of(one: Numbers, two: Numbers) -> list[Numbers]:
    """Places in the first of two lists of frames, parted so that the pairs of equal frames of each
    part fit into memory; the second is sorted. There is one part at least."""
    count = np.searchsorted(two, one, side="right") - np.searchsorted(two, one)
    ends = np.flatnonzero(np.diff(count.cumsum() // PAIRS)) + 1
    return np.split(np.arange(len(one)), ends)


def same_frame(one: Numbers, two: Numbers) -> tuple[Numbers, Numbers]:
    """All pairs of places in two lists of frames that have equal frames, in the order of the first;
    the second is sorted."""
    first, last = np.searchsorted(two, one), np.searchsorted(two, one, side="right")
    count = last - first
    left = np.repeat(np.arange(len(one)), count)
    within = np.arange(len(left)) - np.repeat(count.cumsum() - count, count)
    return left, np.repeat(first, count) + within


def ranks(frames: Numbers, found: Numbers) -> Numbers:
    """Of each pair: how many other objects of its frame that are in pairs come before its own.

    Args:
        frames: [P] of the pairs' objects.
        found: [P], the objects' numbers.
    """
    order = np.lexsort((found, frames))
    new = np.diff(found[order], prepend=-1) != 0
    opens = np.diff(frames[order], prepend=-1) != 0
    # Objects of a frame are numbered on: from each number that of the frame's first is taken.
    number = np.cumsum(new | opens)
    base = np.maximum.accumulate(np.where(opens, number, 0))
    before = np.zeros(len(found), np.int64)
    before[order] = number - base
    return before


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
