"""Rotations as three components: nothing is lost but the sign of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from geodistill.io.splats.smallest_three import from_smallest_three, smallest_three


@pytest.mark.parametrize("length", [1.0, 0.01, 300.0])
def test_there_and_back(length: float) -> None:
    q = np.random.default_rng(0).normal(size=(500, 4))
    q[:4], q[4:8] = np.eye(4), -np.eye(4)
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    largest, others = smallest_three(length * q)
    assert set(largest.tolist()) == {0, 1, 2, 3} and (np.abs(others) <= np.sqrt(0.5) + 1e-12).all()
    for i, row in enumerate(q):
        place = int(np.abs(row).argmax())
        assert largest[i] == place
        np.testing.assert_allclose(others[i], np.delete(row, place) * np.sign(row[place]))
    sign = np.sign(np.take_along_axis(q, largest[:, None], axis=1))
    np.testing.assert_allclose(from_smallest_three(largest, others), q * sign, atol=1e-12)


def test_others_that_are_too_long_leave_no_largest() -> None:
    found = from_smallest_three(np.array([2]), np.array([[0.7, -0.7, 0.7]]))
    np.testing.assert_array_equal(found, [[0.7, -0.7, 0.0, 0.7]])
