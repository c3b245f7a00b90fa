"""Joining the separate components of a surface where they come nearest."""

from __future__ import annotations

import numpy as np

_MOST = 20_000  # points that are searched; a larger surface is thinned


def bridges(points: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of points that join all components by a shortest tree. Two int64 [components - 1].

    points [P, 3], labels int [P] number the components from 0. Above 20,000 points, one point of
    each component stands for those in a cell of a grid, and a bridge is at most four cells longer
    than the shortest. Borůvka's algorithm: each component takes its shortest bridge to another,
    all at once, until one is left.
    """
    kept = _thinned(points, labels)
    places, groups = points[kept], labels[kept]
    one, two = np.empty(0, np.int64), np.empty(0, np.int64)
    while (count := groups.max() + 1) > 1:
        gap, other = _nearest_foreign(places, groups)
        order = np.lexsort((gap, groups))
        best = order[np.searchsorted(groups[order], np.arange(count))]
        best = best[np.argsort(gap[best], kind="stable")]
        groups, joined = _join(groups, best, other[best], count)
        one = np.concatenate([one, kept[best[joined]]])
        two = np.concatenate([two, kept[other[best[joined]]]])
    return one, two


def _join(
    groups: np.ndarray, one: np.ndarray, two: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Merge groups along the pairs, shortest first; which pairs joined what was still apart."""
    parent = np.arange(count)

    def root(group: int) -> int:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    joined = np.zeros(len(one), bool)
    for pair, (a, b) in enumerate(zip(groups[one], groups[two], strict=True)):
        a, b = root(a), root(b)
        if a != b:
            parent[b] = a
            joined[pair] = True
    roots = np.array([root(group) for group in range(count)])
    return np.unique(roots, return_inverse=True)[1].ravel()[groups], joined


def _nearest_foreign(points: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to, and index of, the nearest point of any other group, for each point.

    Two groups differ in some binary digit of their numbers, so one search among the points with
    the other value of each digit finds it.
    """
    from scipy.spatial import KDTree

    best, index = np.full(len(points), np.inf), np.zeros(len(points), np.int64)
    for digit in range(int(groups.max()).bit_length()):
        for value in (0, 1):
            mine = np.flatnonzero(groups >> digit & 1 == value)
            theirs = np.flatnonzero(groups >> digit & 1 != value)
            gap, found = map(np.asarray, KDTree(points[theirs]).query(points[mine]))
            nearer = gap < best[mine]
            best[mine[nearer]], index[mine[nearer]] = gap[nearer], theirs[found[nearer]]
    return best, index


def _thinned(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices of the points that are searched: all, or one of each component in a grid's cell."""
    kept = np.arange(len(points))
    labels, low, size = labels.astype(np.int64), points.min(0), np.ptp(points, axis=0).max()
    cells = 256
    while len(kept) > max(_MOST, 2 * (labels.max() + 1)) and cells > 1:
        cell = np.minimum((points - low) / size * cells, cells - 1).astype(np.int64)
        key = ((labels * cells + cell[:, 0]) * cells + cell[:, 1]) * cells + cell[:, 2]
        kept = np.sort(np.unique(key, return_index=True)[1])
        cells //= 2
    return kept
