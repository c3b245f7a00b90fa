"""The numbers of SPZ: how bytes stand for positions, opacities, colours, scales and rotations.

Source: the reference implementation, github.com/nianticlabs/spz, versions 1 to 4 of the format.

Positions are 24-bit fixed point, scales (log + 10) x 16, opacities and the colours' constant terms
bytes, further harmonics (x + 1) x 128, rotations the three smallest of four components in 10 bits
each (magnitude and sign, as shares of the square root of a half).
"""

from __future__ import annotations

import numpy as np

from geodistill.io.splats.arrays import logit, sigmoid
from geodistill.io.splats.smallest_three import from_smallest_three, smallest_three

_DC = 0.15
_HALF_ROOT = float(np.sqrt(0.5))
_LARGEST = 2**23 - 1
_FRACTION = 12
_BUCKETS = (8, 16)  # of bytes, in the first degree and in the others
_SH_VALUES = ((np.arange(256) - 128) / 128).astype(np.float32)


def means_of(data: bytes | memoryview, fraction_bits: int) -> np.ndarray:
    """float32 [N, 3] of 9 bytes a splat, little endian"""
    triples = np.frombuffer(data, np.uint8).reshape(-1, 3)
    wide = np.zeros((len(triples), 4), np.uint8)
    wide[:, 1:] = triples
    fixed = wide.view("<i4")[:, 0] >> 8  # the shift carries the sign down
    return (fixed / float(2**fraction_bits)).astype(np.float32).reshape(-1, 3)


def half_means_of(data: bytes | memoryview) -> np.ndarray:
    """float32 [N, 3] of the half floats of version 1"""
    return np.frombuffer(data, "<f2").reshape(-1, 3).astype(np.float32)


def bytes_of_means(means: np.ndarray) -> tuple[bytes, int]:
    """9 bytes a splat, and the fractional bits: 12 as everywhere, fewer beyond 2048 units.

    Clamped beyond 2^23 units.
    """
    farthest = float(np.abs(means).max())
    bits = _FRACTION
    while bits and np.rint(farthest * 2.0**bits) > _LARGEST:
        bits -= 1
    fixed = _rounded(means.astype(np.float64) * 2.0**bits)
    fixed = np.clip(fixed, -_LARGEST - 1, _LARGEST).astype("<i4").reshape(-1, 1)
    return fixed.view(np.uint8)[:, :3].tobytes(), bits


def logits_of(data: bytes | memoryview) -> np.ndarray:
    """float32 [N]; 0 and 255 become finite."""
    return logit(np.arange(256) / 255)[np.frombuffer(data, np.uint8)]


def bytes_of_logits(logits: np.ndarray) -> bytes:
    return _bytes(sigmoid(logits) * 255)


def colours_of(data: bytes | memoryview) -> np.ndarray:
    """float32 [N, 3] harmonics of degree 0"""
    values = ((np.arange(256) / 255 - 0.5) / _DC).astype(np.float32)
    return values[np.frombuffer(data, np.uint8)].reshape(-1, 3)


def bytes_of_colours(dc: np.ndarray) -> bytes:
    """Clamped beyond ±10/3, which are colours of -0.44 and 1.44."""
    return _bytes(dc.astype(np.float64) * (_DC * 255) + 0.5 * 255)


def log_scales_of(data: bytes | memoryview) -> np.ndarray:
    """float32 [N, 3]"""
    values = (np.arange(256) / 16 - 10).astype(np.float32)
    return values[np.frombuffer(data, np.uint8)].reshape(-1, 3)


def bytes_of_log_scales(log_scales: np.ndarray) -> bytes:
    """Clamped to -10 … 5.94, which are 4.5e-5 … 379 units."""
    return _bytes((log_scales.astype(np.float64) + 10) * 16)


def rotations_of(data: bytes | memoryview) -> np.ndarray:
    """float64 [N, 4] (w, x, y, z) of 4 bytes a splat

    From the top: the number of the largest of x, y, z, w, which is positive and not stored, then
    the others in order, each a sign and 9 bits.
    """
    packed = np.frombuffer(data, "<u4").astype(np.int64)
    largest = packed >> 30
    fields = packed[:, None] >> np.array([20, 10, 0])
    small = (fields & 511) * (_HALF_ROOT / 511) * np.where(fields & 512, -1.0, 1.0)
    return from_smallest_three(largest, small)[:, [3, 0, 1, 2]]


def old_rotations_of(data: bytes | memoryview) -> np.ndarray:
    """float64 [N, 4] (w, x, y, z) of 3 bytes a splat, x, y and z, as versions 1 and 2 have them"""
    xyz = np.frombuffer(data, np.uint8).reshape(-1, 3) / 127.5 - 1
    w = np.sqrt(np.clip(1 - (xyz * xyz).sum(axis=1, keepdims=True), 0, None))
    return np.concatenate([w, xyz], axis=1)


def bytes_of_rotations(rotations: np.ndarray) -> bytes:
    """4 bytes a splat; rotations [N, 4] (w, x, y, z) of any length but 0."""
    largest, small = smallest_three(rotations[:, [1, 2, 3, 0]])
    magnitude = np.floor(511 * (np.abs(small) / _HALF_ROOT) + 0.5).clip(0, 511).astype(np.int64)
    fields = magnitude | np.where(small < 0, 512, 0)
    packed = (largest << 30) | (fields << np.array([20, 10, 0])).sum(axis=1)
    return packed.astype("<u4").tobytes()


def sh_of(data: bytes | memoryview, count: int, kept: int) -> np.ndarray:
    """float32 [N, kept, 3]: of as many coefficients as the bytes hold, the first `kept`"""
    coefficients = np.frombuffer(data, np.uint8).reshape(count, -1, 3)
    return _SH_VALUES[coefficients[:, :kept]]


def bytes_of_sh(sh: np.ndarray) -> bytes:
    """[N, K, 3], K 3, 8 or 15: rounded to 5 bits in degree 1 and to 4 in the others, as the
    reference does, and clamped to -1 … 0.99."""
    values = np.clip(sh, -2, 2) * np.float32(128)
    whole = _rounded(values) + 128
    buckets = np.full(sh.shape[1], _BUCKETS[1], np.float32)
    buckets[:3] = _BUCKETS[0]
    buckets = buckets[:, None]
    whole = np.floor((whole + np.floor(buckets / 2)) / buckets) * buckets
    return np.clip(whole, 0, 255).astype(np.uint8).tobytes()


def _bytes(values: np.ndarray) -> bytes:
    return np.clip(_rounded(values), 0, 255).astype(np.uint8).tobytes()


def _rounded(values: np.ndarray) -> np.ndarray:
    """To the nearest, halves away from zero, as the reference rounds"""
    return np.copysign(np.floor(np.abs(values) + 0.5), values)
