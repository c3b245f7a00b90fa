"""Nested occupancy grids, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest

from geodistill.io.fields.cascades import cascades_of, from_morton, joined, side_of, to_morton


def test_morton_order() -> None:
    """Bits of x, y and z in turns, x lowest."""
    numbers = from_morton(np.arange(8**3))
    assert numbers[1, 0, 0] == 1 and numbers[0, 1, 0] == 2 and numbers[0, 0, 1] == 4
    expected = sum((v >> b & 1) << (3 * b + a) for a, v in enumerate((5, 3, 6)) for b in range(3))
    assert numbers[5, 3, 6] == expected
    assert np.array_equal(to_morton(numbers), np.arange(8**3))


@pytest.mark.parametrize(("cells", "side"), [(128**3, 128), (1, 1), (100, None), (27, None)])
def test_sides(cells: int, side: int | None) -> None:
    assert side_of(cells) == side


def test_a_place_belongs_to_the_finest_cascade() -> None:
    rng = np.random.default_rng(0)
    cascades = [rng.random((8, 8, 8)) < 0.4 for _ in range(3)]
    halves = [0.25, 0.5, 1.0]
    grid = joined(cascades, halves)
    assert grid.shape == (32, 32, 32)
    for cell in np.ndindex(grid.shape):
        place = (np.array(cell) + 0.5) / 16 - 1
        c = next(c for c in range(3) if np.abs(place).max() < halves[c])
        index = tuple(((place / halves[c] + 1) * 4).astype(int))
        assert grid[cell] == cascades[c][index]


def test_finer_cells_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the grid would be too large, a cell counts where any part of it does."""
    monkeypatch.setattr("geodistill.io.fields.cascades.FINEST", 16)
    fine = np.zeros((8, 8, 8), bool)
    fine[3, 4, 5] = True
    grid = joined([fine, np.zeros((8, 8, 8), bool), np.zeros((8, 8, 8), bool)], [0.25, 0.5, 1.0])
    assert np.argwhere(grid).tolist() == [[7, 8, 8]]


def test_there_and_back() -> None:
    rng = np.random.default_rng(1)
    occupancy = rng.random((256, 256, 256)) < 0.1
    cascades = cascades_of(occupancy, [0.5, 1.0])
    assert np.array_equal(cascades[0], occupancy[64:192, 64:192, 64:192])
    pooled = occupancy.reshape(128, 2, 128, 2, 128, 2).any(axis=(1, 3, 5))
    assert np.array_equal(cascades[1], pooled)
    inner = joined(cascades, [0.5, 1.0])
    assert np.array_equal(inner[64:192, 64:192, 64:192], cascades[0])


def test_grids_that_do_not_nest_miss_nothing() -> None:
    occupancy = np.random.default_rng(2).random((100, 100, 100)) < 0.001
    (grid,) = cascades_of(occupancy, [1.0])
    places = (np.argwhere(occupancy) + 0.5) / 100
    assert grid[tuple((places * 128).astype(int).T)].all()
    assert grid.mean() < 20 * occupancy.mean()
