"""Directions as nerfstudio's PyTorch networks see them, and frequencies in its order."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from geodistill.io.splats.turning import harmonics, spread


@functools.cache
def from_harmonics() -> NDArray[np.float64]:
    """A [16, 16] with nerfstudio's encoding of d = A @ (our harmonics of d), for unit d.

    Its PyTorch encoding takes (d + 1) / 2, which it does not map back, and puts that into
    harmonics without the Condon-Shortley phase. On the unit sphere these are polynomials of
    degree 3 in d, which our 16 harmonics span; their coefficients follow from values.
    """
    directions = spread(64)
    seen = _encoded(0.5 * (directions + 1.0))
    return np.linalg.lstsq(harmonics(directions), seen, rcond=None)[0].T


def _encoded(e: NDArray[np.float64]) -> NDArray[np.float64]:
    """Harmonics of degree 3 as polynomials, at points that need not be of unit length. [N, 16]"""
    x, y, z = e.T
    xx, yy, zz = x * x, y * y, z * z
    root = {n: math.sqrt(n / math.pi) for n in (1, 3, 5, 7, 15, 35, 105)}
    return np.stack(
        [
            np.full_like(x, root[1] / 2),
            root[3] / 2 * y,
            root[3] / 2 * z,
            root[3] / 2 * x,
            root[15] / 2 * x * y,
            root[15] / 2 * y * z,
            root[5] / 4 * (3 * zz - 1),
            root[15] / 2 * x * z,
            root[15] / 4 * (xx - yy),
            root[35] / math.sqrt(32) * y * (3 * xx - yy),
            root[105] / 2 * x * y * z,
            root[7] * math.sqrt(3 / 32) * y * (5 * zz - 1),
            root[7] / 4 * z * (5 * zz - 3),
            root[7] * math.sqrt(3 / 32) * x * (5 * zz - 1),
            root[105] / 4 * z * (xx - yy),
            root[35] / math.sqrt(32) * x * (xx - 3 * yy),
        ],
        axis=1,
    )


def frequencies(count: int, highest: float) -> tuple[float, ...]:
    """Of its NeRFEncoding: 2 pi 2^e for `count` exponents e from 0 to `highest`."""
    return tuple(float(2 * np.pi * 2.0**e) for e in np.linspace(0.0, highest, count))


def sine_columns(size: int, count: int) -> NDArray[np.int64]:
    """Where our sines of `size` inputs stand among its own. [2 size count]

    Ours: frequency after frequency, sines of all inputs, then cosines. Its own: the sines, then
    the cosines, of every input one frequency after the other.
    """
    its_own = np.arange(2 * size * count).reshape(2, size, count)
    return its_own.transpose(2, 0, 1).reshape(-1)
