"""256 values that stand for many: optimal quantisation in one dimension (Bruce 1965).

The values are gathered in bins, of which dynamic programming makes 256 intervals.
"""

from __future__ import annotations

import numpy as np

SIZE = 256
_BINS = 512  # by rank, and as many by value
_SPARSE = 0.5  # bins weigh this power of what they hold: what is rare counts more than its share


def codebook(values: np.ndarray) -> np.ndarray:
    """float32 [256], rising, the last repeated where fewer do, for finite values of any shape.

    The weighted sum of squared errors is the least that intervals of the bins can have; up to 256
    values that differ are kept as they are.
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    centres, counts = _bins(ordered)
    if len(centres) > SIZE:
        centres = _intervals(centres, counts**_SPARSE)
    return np.pad(centres, (0, SIZE - len(centres)), mode="edge").astype(np.float32)


def nearest_code(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """uint8, in the shape of the values: the nearest of rising codes."""
    middles = (codes[1:].astype(np.float64) + codes[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.uint8)


def _bins(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and counts: of each value where few differ, or else of those between edges, half of
    them by rank and half by value."""
    starts = np.flatnonzero(np.diff(ordered, prepend=-np.inf))
    if len(starts) > 2 * _BINS:
        edges = np.linspace(ordered[0], ordered[-1], _BINS, endpoint=False)
        ranks = np.linspace(0, len(ordered), _BINS, endpoint=False).astype(np.int64)
        starts = np.unique(np.searchsorted(ordered, np.concatenate([edges, ordered[ranks]])))
    counts = np.diff(starts, append=len(ordered)).astype(np.float64)
    return np.add.reduceat(ordered, starts) / counts, counts


def _intervals(centres: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted means of the 256 intervals of bins whose squared errors sum up to least."""
    origin = centres.mean()
    x = centres - origin  # or the differences of squares would cancel
    total, first, second = (
        np.concatenate([[0.0], np.cumsum(weights * x**power)]) for power in range(3)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = total[None] - total[:, None]
        cost = second[None] - second[:, None] - (first[None] - first[:, None]) ** 2 / weight
    cost[weight <= 0] = np.inf  # [from, to): only rising pairs are intervals
    best = cost[0]
    cuts = []
    for _ in range(SIZE - 1):
        sums = best[:, None] + cost
        cuts.append(sums.argmin(axis=0))
        best = np.take_along_axis(sums, cuts[-1][None], axis=0)[0]
    ends = [len(centres)]
    for cut in reversed(cuts):
        ends.append(int(cut[ends[-1]]))
    ends = np.array([0, *reversed(ends)])
    return np.diff(first[ends]) / np.diff(total[ends]) + origin
