"""A palette of vectors by k-means in two levels, for as many vectors as splats have harmonics.

Cells are the clusters of a sample (Lloyd 1982); each gets its share of the palette, seeded in
rounds as k-means|| is (Bahmani et al. 2012). The nearest entry is looked for in the nearest cells
alone, as an inverted file does (Jégou et al. 2011): it is the nearest of all for most vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

_CELL = 256  # entries, about
_SAMPLE = 100_000
_STEPS, _REFINED, _ROUNDS = 5, 3, 4
_PROBED, _PROBED_LAST = 4, 8
_BLOCK = 2**18  # distances at a time
_MOST_DISTANCES = 2**28  # within a cell: what is denser than floats tell apart gets few entries


class _Cells(NamedTuple):
    """Which entries of the palette a cell has: those from start to start + size."""

    centres: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray


def palette(rows: np.ndarray, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Entries float32 [size, D] and the entry of every row, int64 [N], of float32 rows [N, D].

    Rows of which no more than `size` differ are entries themselves. The same rows give the same
    palette.
    """
    draw = np.random.default_rng(seed)
    first, labels = _different(rows, draw)
    if len(first) <= size:
        entries = rows[first]
    else:
        # without what most rows share, as squared distances lose what is small beside it
        middle = np.median(rows[:: 1 + len(rows) // _SAMPLE], axis=0)
        with _one_thread():
            entries, labels = _clustered(rows - middle, size, draw)
        entries = entries + middle
    return np.pad(entries, ((0, size - len(entries)), (0, 0)), mode="edge"), labels


def _different(rows: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The first of the rows of each kind, in their order, and the kind of every row.

    Rows are told apart by 64 bits of theirs: random multiples of their numbers, summed up.
    """
    keys = np.zeros(len(rows), np.uint64)
    for column in (rows + np.float32(0)).view(np.uint32).T:  # -0 becomes 0
        keys += column.astype(np.uint64) * draw.integers(0, 2**64, dtype=np.uint64)
    _, first, kinds = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[kinds]


def _clustered(
    rows: np.ndarray, size: int, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    cells, entries = _start(rows, size, draw)
    near = _nearest_cells(rows, cells.centres, min(_PROBED_LAST, len(cells.centres)))
    for _ in range(_REFINED):
        found = _probed(rows, near[:, :_PROBED], cells, entries)
        entries = _moved(rows, *found, entries)
    return entries, _probed(rows, near, cells, entries)[0]


def _start(rows: np.ndarray, size: int, draw: np.random.Generator) -> tuple[_Cells, np.ndarray]:
    """Cells, and the palette of each from its own rows alone.

    The cells' seeds are any rows, so that where most rows are, most cells are.
    """
    sample = rows
    if len(rows) > _SAMPLE:
        sample = rows[np.sort(draw.choice(len(rows), _SAMPLE, replace=False))]
    centres = _lloyd(sample, max(1, size // _CELL), draw, rounds=1)
    cell, distances = nearest(rows, centres)
    counts = np.bincount(cell, minlength=len(centres))
    spread = np.bincount(cell, distances, minlength=len(centres))
    most = np.minimum(counts, -(-_MOST_DISTANCES // np.maximum(counts, 1)))
    sizes = _shares(size, spread, most)
    members = np.split(np.argsort(cell, kind="stable"), np.cumsum(counts)[:-1])
    parts = [_lloyd(rows[m], k, draw) for m, k in zip(members, sizes.tolist(), strict=True) if k]
    return _Cells(centres, np.cumsum(sizes) - sizes, sizes), np.concatenate(parts)


def _shares(size: int, spread: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Entries of each cell, `size` in all where these fit: in proportion to the spread of its
    rows, but one at least and `most` at most."""
    least = np.minimum(most, 1)
    low, high = 0.0, size / max(float(spread[spread > 0].min(initial=np.inf)), 1e-30)
    for _ in range(100):
        middle = (low + high) / 2
        total = np.clip(np.rint(middle * spread), least, most).sum()
        low, high = (middle, high) if total <= size else (low, middle)
    shares = np.clip(np.rint(low * spread), least, most).astype(np.int64)
    room = most - shares
    return shares + np.clip(size - shares.sum() - (np.cumsum(room) - room), 0, room)


def _lloyd(
    rows: np.ndarray, size: int, draw: np.random.Generator, rounds: int = _ROUNDS
) -> np.ndarray:
    if size >= len(rows):
        return rows.copy()
    entries = _seeds(rows, size, draw, rounds)
    for _ in range(_STEPS):
        entries = _moved(rows, *nearest(rows, entries), entries)
    return entries


def _seeds(rows: np.ndarray, size: int, draw: np.random.Generator, rounds: int) -> np.ndarray:
    """Rows, in rounds: the further from those that are chosen, the likelier."""
    chosen = np.zeros(0, np.int64)
    distances = np.ones(len(rows), np.float32)
    for batch in np.diff(np.linspace(0, size, min(size, rounds) + 1).astype(int)):
        with np.errstate(divide="ignore"):
            keys = np.log(distances) + draw.gumbel(size=len(rows))
        keys[chosen] = -np.inf
        new = np.argpartition(keys, len(rows) - batch)[len(rows) - batch :]
        first = not len(chosen)
        chosen = np.concatenate([chosen, new])
        found = nearest(rows, rows[new])[1]
        distances = found if first else np.minimum(distances, found)
    return rows[chosen]


def _moved(
    rows: np.ndarray, labels: np.ndarray, distances: np.ndarray, entries: np.ndarray
) -> np.ndarray:
    """The means of the rows of each entry; an entry without any goes to one of the furthest."""
    size = len(entries)
    counts = np.bincount(labels, minlength=size)
    ends = np.concatenate([[0], np.cumsum(counts)])
    ones = np.ones(len(rows), np.float32)
    sums = csr_matrix((ones, np.argsort(labels, kind="stable"), ends), (size, len(rows))) @ rows
    means = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    unused = np.flatnonzero(counts == 0)
    if len(unused):
        means[unused] = rows[np.argpartition(distances, len(rows) - len(unused))[-len(unused) :]]
    return means


def nearest(rows: np.ndarray, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest entry of each row, int64 [N], and its squared distance, float32 [N]."""
    planes = _planes(entries)
    labels, distances = [], []
    for part in _blocks(rows, len(entries)):
        scores = _scores(part, planes)
        labels.append(scores.argmin(axis=1))
        least = scores[np.arange(len(part)), labels[-1]]
        distances.append(np.maximum(least + np.einsum("nd,nd->n", part, part), 0))
    return np.concatenate(labels), np.concatenate(distances)


def _blocks(rows: np.ndarray, entries: int) -> Iterator[np.ndarray]:
    """Rows whose distances to all entries fit the processor's cache."""
    step = max(1, _BLOCK // entries)
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _planes(entries: np.ndarray) -> tuple[Tensor, Tensor]:
    """[D, K] and [K]: the product of a row with the first, and the second, make its squared
    distances less its own square."""
    squares = np.einsum("kd,kd->k", entries, entries)
    return torch.from_numpy(np.ascontiguousarray(-2 * entries.T)), torch.from_numpy(squares)


def _scores(rows: np.ndarray, planes: tuple[Tensor, Tensor]) -> np.ndarray:
    """float32 [N, K]"""
    return torch.addmm(planes[1], torch.from_numpy(rows), planes[0]).numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Many small products: threads that wait for one another, on a busy machine, take most time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _probed(
    rows: np.ndarray, near: np.ndarray, cells: _Cells, entries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`nearest` among the entries of the cells of each row, [N, probed]."""
    order = np.argsort(near, axis=None, kind="stable") // near.shape[1]
    ends = np.cumsum(np.bincount(near.ravel(), minlength=len(cells.sizes)))
    labels = np.zeros(len(rows), np.int64)
    distances = np.full(len(rows), np.inf, np.float32)
    for cell, visitors in enumerate(np.split(order, ends[:-1])):
        start, size = cells.starts[cell], cells.sizes[cell]
        if not size or not len(visitors):
            continue
        found, distance = nearest(rows[visitors], entries[start : start + size])
        closer = distance < distances[visitors]
        labels[visitors[closer]] = found[closer] + start
        distances[visitors[closer]] = distance[closer]
    return labels, distances


def _nearest_cells(rows: np.ndarray, centres: np.ndarray, probed: int) -> np.ndarray:
    """[N, probed], the nearest first."""
    planes = _planes(centres)
    parts = []
    for part in _blocks(rows, len(centres)):
        scores = _scores(part, planes)
        near = np.argpartition(scores, probed - 1, axis=1)[:, :probed]
        order = np.take_along_axis(scores, near, axis=1).argsort(axis=1)
        parts.append(np.take_along_axis(near, order, axis=1).astype(np.int16))
    return np.concatenate(parts)
