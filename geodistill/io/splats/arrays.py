"""What every splat format is read into and written from: plain arrays, and the steps they share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np

from geodistill import log
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
    with np.errstate(over="ignore"):  # infinite, which is refused below
        narrow = {name: np.require(c, np.float32, ["C", "W"]) for name, c in columns.items()}
    for name, values in narrow.items():
        finite = np.isfinite(values)
        if not finite.all():
            row = int(np.argwhere(~finite)[0, 0])
            raise InputError(
                f"{where}: its {name.replace('_', ' ')} hold {int((~finite).sum())} NaN or "
                f"infinite values of {values.size}, the first in splat {row}"
            )
    return SplatArrays(**narrow, attributes=attributes or {})  # pyright: ignore[reportArgumentType]


def finite_rows(
    where: Path, columns: Mapping[str, np.ndarray], rotations: np.ndarray
) -> np.ndarray:
    """bool [N], the splats whose numbers single precision holds and whose rotation is not zero.

    What trainers leave behind of others is drawn by no program: a line says how many there are.

    Args:
        columns: [N, ...] by the names that the file gives them.
        rotations: [N, 4] quaternions of any length.

    Raises InputError where that is more than half of them: the file is damaged.
    """
    count = len(rotations)
    good = {
        name: np.isfinite(to_float32(values)).all(axis=tuple(range(1, values.ndim)))
        for name, values in columns.items()
    }
    good["rotations"] = rotations.any(axis=1)
    keep = np.logical_and.reduce([*good.values()])
    lost = count - int(keep.sum())
    if 2 * lost > count:
        worst = min(good, key=lambda name: good[name].sum())
        what = "zero" if worst == "rotations" else "NaN or infinite"
        raise InputError(
            f"{where} is damaged: {lost} of its {count} splats cannot be drawn, "
            f"{count - int(good[worst].sum())} by {what} '{worst}', the first in row "
            f"{int(np.argmin(good[worst]))}: save it again"
        )
    if lost:
        log.say(f"{where}: {lost} of its {count} splats are not finite and left out")
    return keep


def say_antialiased(where: Path, mark: str) -> None:
    """One line for splats that were trained with Mip-Splatting's screen-space filter."""
    log.say(
        f"{where}: its splats were trained with antialiasing ({mark}): drawn without, as here, "
        "thin and distant ones look wider and denser"
    )


def logit(share: np.ndarray) -> np.ndarray:
    """float32 logits of opacities in [0, 1], kept finite as 8 bits would: half a step from ends."""
    inside = np.clip(np.asarray(share, np.float64), 0.5 / 255, 1 - 0.5 / 255)
    return np.log(inside / (1 - inside)).astype(np.float32)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """float64 in [0, 1]"""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float64)))
