"""What every splat format is read into and written from: plain arrays, and the steps they share."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import numpy as np

from geodistill.checks import InputError
from geodistill.io.columns import to_float32


class SplatArrays(TypedDict):
    """Gaussians in the axes of their file, all float32.

    means           [N, 3]
    rotations       [N, 4] unit quaternions (w, x, y, z)
    log_scales      [N, 3] natural logarithms of standard deviations
    opacity_logits  [N]
    sh              [N, (degree + 1)^2, 3] harmonics in 3DGS's basis, order and signs: the colour
                    is 0.5 + sum, display-referred
    attributes      further columns, [N] or [N, C]; these may hold NaN
    """

    means: np.ndarray
    rotations: np.ndarray
    log_scales: np.ndarray
    opacity_logits: np.ndarray
    sh: np.ndarray
    attributes: dict[str, np.ndarray]


SH_C0 = 0.28209479177387814
"""The harmonic of degree 0: a colour is 0.5 + SH_C0 times its coefficient."""
COEFFICIENTS = (1, 4, 9, 16)
"""Of the degrees 0 to 3, a channel."""


def splat_arrays(
    where: Path,
    means: np.ndarray,
    rotations: np.ndarray,
    log_scales: np.ndarray,
    opacity_logits: np.ndarray,
    sh: np.ndarray,
    attributes: dict[str, np.ndarray] | None = None,
) -> SplatArrays:
    """Columns of any number type as a reader returns them; quaternions get unit length.

    Raises InputError, beginning with `where`, for no splats, for values that are not finite in
    single precision and for quaternions of length 0.
    """
    if not len(means):
        raise InputError(f"{where} holds no splats")
    with np.errstate(invalid="ignore"):  # NaN, which is refused
        quaternions = np.asarray(rotations, np.float64)
        lengths = np.linalg.norm(quaternions, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise InputError(f"{where}: {int((~(lengths > 0)).sum())} of its rotations are zero or NaN")
    if np.abs(lengths - 1).max() > 1e-6:  # what is unit already keeps its last bit
        with np.errstate(invalid="ignore"):  # infinite, which is refused below
            quaternions = quaternions / lengths
    columns = {
        "means": means,
        "rotations": quaternions,
        "log_scales": log_scales,
        "opacity_logits": opacity_logits,
        "sh": sh,
    }
    narrow = {name: np.ascontiguousarray(to_float32(c)) for name, c in columns.items()}
    for name, values in narrow.items():
        finite = np.isfinite(values)
        if not finite.all():
            row = int(np.argwhere(~finite)[0, 0])
            raise InputError(
                f"{where}: its {name.replace('_', ' ')} hold {int((~finite).sum())} NaN or "
                f"infinite values of {values.size}, the first in splat {row}"
            )
    return SplatArrays(**narrow, attributes=attributes or {})  # pyright: ignore[reportArgumentType]


def logit(share: np.ndarray) -> np.ndarray:
    """float32 logits of opacities in [0, 1], kept finite as 8 bits would: half a step from ends."""
    inside = np.clip(np.asarray(share, np.float64), 0.5 / 255, 1 - 0.5 / 255)
    return np.log(inside / (1 - inside)).astype(np.float32)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """float64 in [0, 1]"""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float64)))
