"""Splats in other axes: means, rotations, scales and harmonics turn along.

The geometry room does the same to tensors; this one serves readers, whose files place and mirror.
"""

from __future__ import annotations

import numpy as np

from geodistill.io.columns import to_float32
from geodistill.io.splats.arrays import SH_C0, SplatArrays

_C1 = 0.4886025119029199
_C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
_C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154)
_NOTHING = 1e-12


def similar(matrix: np.ndarray, tolerance: float) -> bool:
    """Whether a [3, 3] matrix is, to `tolerance`, a turn or mirroring with one scale above 0."""
    with np.errstate(over="ignore"):
        scale = np.cbrt(abs(np.linalg.det(matrix)))
    if not (np.isfinite(scale) and scale > 0):
        return False
    unit = matrix / scale
    return bool(np.abs(unit @ unit.T - np.eye(3)).max() <= tolerance)


def turned(splats: SplatArrays, matrix: np.ndarray, translation: np.ndarray) -> SplatArrays:
    """The splats at `matrix @ means + translation`, seen as before from cameras that go along.

    `matrix` [3, 3] is `similar`: a turn or mirroring times a scale. Half turns about the axes
    change signs and nothing else.
    """
    sign = 1.0 if np.linalg.det(matrix) > 0 else -1.0
    scale = np.cbrt(abs(np.linalg.det(matrix)))
    turn = _quaternion(sign * matrix / scale)
    # a Gaussian is its own mirror image at its mean, so what mirrors it turns it as -M does
    rotations = _snapped(_products(turn, splats["rotations"].astype(np.float64)))
    means = splats["means"].astype(np.float64) @ matrix.T + translation
    return SplatArrays(
        means=to_float32(means),
        rotations=rotations.astype(np.float32),
        log_scales=(splats["log_scales"] + np.log(scale)).astype(np.float32),
        opacity_logits=splats["opacity_logits"],
        sh=_turned_sh(splats["sh"], _matrix(turn), sign),
        attributes=splats["attributes"],
    )


def _turned_sh(sh: np.ndarray, rotation: np.ndarray, sign: float) -> np.ndarray:
    """[N, K, 3] float32: each band turns within itself, and odd bands change sign in a mirror."""
    result = np.empty_like(sh)
    before, after = harmonics(_DIRECTIONS), harmonics(_DIRECTIONS @ rotation.T)
    for band in range(round(np.sqrt(sh.shape[1]))):
        own = slice(band**2, (band + 1) ** 2)
        turn = np.linalg.lstsq(after[:, own], before[:, own], rcond=None)[0]
        turn = (_snapped(turn) * sign**band).astype(np.float32)
        if np.array_equal(np.abs(turn), np.eye(len(turn))):
            result[:, own] = sh[:, own] * np.diag(turn)[:, None]
        else:
            rows = np.ascontiguousarray(sh[:, own].swapaxes(0, 1)).reshape(len(turn), -1)
            result[:, own] = (turn @ rows).reshape(len(turn), -1, 3).swapaxes(0, 1)
    return result


def harmonics(d: np.ndarray) -> np.ndarray:
    """3DGS's 16 harmonics of degrees 0 to 3 at unit directions [D, 3], float64 [D, 16]."""
    x, y, z = d.T
    xx, yy, zz = x * x, y * y, z * z
    return np.stack(
        [
            np.full_like(x, SH_C0),
            -_C1 * y,
            _C1 * z,
            -_C1 * x,
            _C2[0] * x * y,
            -_C2[0] * y * z,
            _C2[1] * (2 * zz - xx - yy),
            -_C2[0] * x * z,
            _C2[2] * (xx - yy),
            -_C3[0] * y * (3 * xx - yy),
            _C3[1] * x * y * z,
            -_C3[2] * y * (4 * zz - xx - yy),
            _C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
            -_C3[2] * x * (4 * zz - xx - yy),
            _C3[1] / 2 * z * (xx - yy),
            -_C3[0] * x * (xx - 3 * yy),
        ],
        axis=1,
    )


def spread(count: int) -> np.ndarray:
    """Directions spread evenly, a Fibonacci lattice. float64 [count, 3]"""
    index = np.arange(count)
    z = 1 - (2 * index + 1) / count
    azimuth, ring = index * (np.pi * (3 - 5**0.5)), np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(azimuth), ring * np.sin(azimuth), z], axis=1)


_DIRECTIONS = spread(64)


def _quaternion(R: np.ndarray) -> np.ndarray:
    """The unit quaternion (w, x, y, z) of the rotation nearest to [3, 3] (Bar-Itzhack 2000)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = R.tolist()
    K = [
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, yx + xy, xz + zx],
        [xz - zx, yx + xy, yy - xx - zz, zy + yz],
        [yx - xy, xz + zx, zy + yz, zz - xx - yy],
    ]
    q = _snapped(np.linalg.eigh(np.array(K))[1][:, -1])
    return q if q[np.argmax(np.abs(q))] > 0 else -q


def _matrix(q: np.ndarray) -> np.ndarray:
    """[3, 3] of a unit quaternion"""
    w, v = q[0], q[1:]
    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def _products(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Hamilton products of one quaternion with [N, 4]"""
    w, x, y, z = q
    left = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    return p @ left.T


def _snapped(values: np.ndarray) -> np.ndarray:
    """What differs from 0 or ±1 by rounding alone becomes it."""
    whole = np.rint(values)
    return np.where(np.abs(values - whole) < _NOTHING, whole, values)
