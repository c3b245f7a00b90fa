"""What SOG is quantised by: optimal codebooks, and palettes as good as those of plain k-means."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from geodistill.io.splats import codebook as codebooks
from geodistill.io.splats import palette as palettes
from geodistill.io.splats.codebook import codebook, nearest_code
from geodistill.io.splats.palette import nearest, palette


def test_no_other_intervals_are_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to cut 11 bins into 4 is tried."""
    monkeypatch.setattr(codebooks, "SIZE", 4)
    for seed in range(20):
        draw = np.random.default_rng(seed)
        centres = np.sort(draw.normal(size=11) ** 3) + 50
        weights = draw.integers(1, 90, 11) ** 0.5

        def cost(cuts: tuple[int, ...], x: np.ndarray = centres, w: np.ndarray = weights) -> float:
            pieces = itertools.pairwise([0, *cuts, 11])
            return sum(
                float((w[a:b] * (x[a:b] - np.average(x[a:b], weights=w[a:b])) ** 2).sum())
                for a, b in pieces
            )

        least = min(map(cost, itertools.combinations(range(1, 11), 3)))
        codes = codebooks._intervals(centres, weights)
        found = (weights * np.abs(centres[:, None] - codes).min(axis=1) ** 2).sum()
        assert found == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("values", [[1.5], [2, 1, 2], [-7e30, 0, 1e-30, 5e5], range(256)])
def test_few_values_are_kept(values: list[float]) -> None:
    many = np.repeat(np.array(values, np.float32), 9)
    many = np.append(many, np.full(5000, values[0], np.float32))
    codes = codebook(many)
    assert codes.shape == (256,) and codes.dtype == np.float32
    np.testing.assert_array_equal(codes[nearest_code(many, codes)], many)


def test_a_code_is_the_nearest_and_tails_are_spared() -> None:
    """At a tenth more error than the least, that of the furthest values is half as large."""
    draw = np.random.default_rng(0)
    values = draw.laplace(size=50_000).astype(np.float32)
    codes = codebook(values)
    assert (np.diff(codes) > 0).all()
    sample = np.append(draw.choice(values, 500), [values.min(), values.max(), -99, 99])
    wanted = np.abs(sample[:, None] - codes).min(axis=1)
    np.testing.assert_allclose(np.abs(codes[nearest_code(sample, codes)] - sample), wanted)
    error = np.abs(codes[nearest_code(values, codes)] - values)
    assert np.sqrt((error**2).mean()) < 0.0118 and error.max() < 0.09
    assert nearest_code(values.reshape(2, -1), codes).shape == (2, 25_000)


def some_rows(count: int, seed: int = 0) -> np.ndarray:
    """Clusters about a few centres, of few directions and some noise, as harmonics are."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(7, 24))[draw.integers(0, 7, count)]
    parts = draw.normal(size=(count, 5)) @ draw.normal(size=(5, 24))
    return (centres + 0.3 * parts + 0.05 * draw.normal(size=(count, 24))).astype(np.float32)


def test_a_palette_is_as_good_as_plain_k_means() -> None:
    rows = some_rows(6000)
    entries, labels = palette(rows, 1024)
    assert entries.shape == (1024, 24) and labels.shape == (6000,)
    assert len(np.unique(labels)) > 1000
    error = ((rows - entries[labels]) ** 2).sum(axis=1)
    exact = ((rows[:500, None] - entries) ** 2).sum(axis=2)
    assert (exact.argmin(axis=1) == labels[:500]).mean() > 0.99
    plain = rows[np.random.default_rng(1).choice(6000, 1024, replace=False)]
    for _ in range(8):
        plain = palettes._moved(rows, *nearest(rows, plain), plain)
    assert error.mean() < nearest(rows, plain)[1].mean()


def test_the_nearest_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(palettes, "_BLOCK", 1000)
    rows, entries = some_rows(300), some_rows(70, 1)
    labels, distances = nearest(rows, entries)
    exact = ((rows[:, None].astype(np.float64) - entries) ** 2).sum(axis=2)
    np.testing.assert_array_equal(labels, exact.argmin(axis=1))
    np.testing.assert_allclose(distances, exact.min(axis=1), rtol=1e-3)


def test_means_of_members_and_what_no_row_is_nearest_to() -> None:
    rows = np.array([[0, 0], [2, 0], [10, 10], [11, 30]], np.float32)
    labels, distances = np.array([0, 0, 2, 2]), np.array([1, 1, 5, 300], np.float32)
    moved = palettes._moved(rows, labels, distances, np.zeros((3, 2), np.float32))
    np.testing.assert_allclose(moved, [[1, 0], [11, 30], [10.5, 20]])


@pytest.mark.parametrize("count, size", [(1, 1), (2, 2), (3, 2), (700, 512), (1500, 1024)])
def test_palettes_of_any_size(count: int, size: int) -> None:
    rows = some_rows(count)
    entries, labels = palette(rows, size)
    assert entries.shape == (size, 24) and entries.dtype == np.float32
    assert labels.min() >= 0 and labels.max() < size
    again = palette(rows, size)
    np.testing.assert_array_equal(again[0], entries)
    np.testing.assert_array_equal(again[1], labels)


def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        palette(some_rows(700), 512)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("different", [1, 3, 400, 1024])
def test_rows_that_recur(different: int) -> None:
    """No more rows that differ than entries: each is one, in the order in which they come."""
    rows = some_rows(different)[np.arange(1500) % different]
    rows[::different, 0] = 0.0
    rows[different::different, 0] *= -1
    entries, labels = palette(rows, 1024)
    np.testing.assert_array_equal(labels, np.arange(1500) % different)
    np.testing.assert_array_equal(entries[labels], rows)
    np.testing.assert_array_equal(entries[different:], entries[[-1]].repeat(1024 - different, 0))


@pytest.mark.parametrize("offset", [0, 3])
def test_many_rows_that_hardly_differ_beside_few_that_do(offset: float) -> None:
    """Both get entries, though squares of the few, or of what all share, would hide the many."""
    rows = some_rows(6000)
    rows[60:] = offset + 1e-4 * rows[60:]
    entries, labels = palette(rows, 1024)
    error = ((rows - entries[labels]) ** 2).mean(axis=1)
    assert error[60:].mean() < 0.1 * rows[60:].var(axis=0).mean() and error[:60].max() < 1e-8


def test_what_cannot_be_told_apart_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that a cell cannot have within its share of distances repeat the last."""
    monkeypatch.setattr(palettes, "_MOST_DISTANCES", 10_000)
    rows = some_rows(3000)
    entries, labels = palette(rows, 1024)
    assert entries.shape == (1024, 24) and len(np.unique(entries, axis=0)) < 600
    np.testing.assert_array_equal(labels, nearest(rows, entries)[0])


def test_shares_add_up() -> None:
    for seed in range(50):
        draw = np.random.default_rng(seed)
        counts = draw.integers(0, 40, 9)
        spread = draw.random(9) ** 4 * (counts > 1) * (draw.random(9) < 0.8)
        size = int(draw.integers((counts > 0).sum(), counts.sum() + 9))
        shares = palettes._shares(size, spread, counts)
        assert shares.sum() == min(size, counts.sum())
        assert (shares <= counts).all() and (shares >= np.minimum(counts, 1)).all()
