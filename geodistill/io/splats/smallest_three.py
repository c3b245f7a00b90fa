"""Rotations as the smaller three of four components, which leave the largest to be computed."""

from __future__ import annotations

import numpy as np

from geodistill.io.splats.eight_bits import unit_quaternions

_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
"""The components beside the largest, by its index."""


def smallest_three(quaternions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index [N] of the largest component, and the others, float64 [N, 3], in their order.

    Of quaternions [N, 4] of any length but 0, as unit ones whose largest component is positive: the
    others are between -sqrt(1/2) and sqrt(1/2).
    """
    units = unit_quaternions(quaternions)
    largest = np.abs(units).argmax(axis=1)
    sign = np.sign(np.take_along_axis(units, largest[:, None], axis=1))
    return largest, np.take_along_axis(units * sign, _OTHERS[largest], axis=1)


def from_smallest_three(largest: np.ndarray, others: np.ndarray) -> np.ndarray:
    """float64 [N, 4], the inverse; longer than 1 where the others are, which no writer makes."""
    rows = np.arange(len(largest))
    quaternions = np.empty((len(largest), 4))
    quaternions[rows[:, None], _OTHERS[largest]] = others
    quaternions[rows, largest] = np.sqrt(np.maximum(0, 1 - (others**2).sum(axis=1)))
    return quaternions
