"""What formats of few bits share: colours and opacities in bytes, linear scales, what they lose."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.splats.arrays import SH_C0, SplatArrays, sigmoid

FLATTEST = -20.0
"""The logarithm of a scale of zero: 2e-9, without extent at any size that a screen shows, yet its
square is a float32."""


def colors_of(coefficients: np.ndarray) -> np.ndarray:
    """float64 colours, 0 to 1 and beyond, from coefficients of degree 0, any shape."""
    return 0.5 + SH_C0 * np.asarray(coefficients, np.float64)


def color_bytes(coefficients: np.ndarray) -> np.ndarray:
    """uint8 from coefficients of degree 0; colours are clamped to [0, 1]."""
    return np.rint(np.clip(colors_of(coefficients), 0, 1) * 255).astype(np.uint8)


def color_coefficients(colors: np.ndarray) -> np.ndarray:
    """float64 coefficients of degree 0 from colours, any shape."""
    return (np.asarray(colors, np.float64) - 0.5) / SH_C0


def opacity_bytes(logits: np.ndarray) -> np.ndarray:
    """uint8 [N]; all 256 come back from `arrays.logit` as they were."""
    return np.rint(sigmoid(logits) * 255).astype(np.uint8)


def log_scales_of(path: Path, scales: np.ndarray) -> np.ndarray:
    """float64 logarithms of standard deviations; of zero, `FLATTEST`.

    Raises InputError, naming the file, for negative ones. NaN stays.
    """
    with np.errstate(invalid="ignore"):  # NaN
        scales = np.asarray(scales, np.float64)
    if (scales < 0).any():
        row = int(np.argwhere(scales < 0)[0, 0])
        raise InputError(
            f"{path} is damaged: splat {row} has the negative scale {scales[row].min():g}; make it "
            "again"
        )
    with np.errstate(divide="ignore"):
        return np.where(scales == 0, FLATTEST, np.log(scales))


def unit_quaternions(rotations: np.ndarray) -> np.ndarray:
    """float64 [N, 4] of length 1, from any length but 0"""
    quaternions = np.asarray(rotations, np.float64)
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


def say_left_out(splats: SplatArrays, path: Path, harmonics: bool = True) -> None:
    """One line on what the file will not hold: attributes and, if so said, harmonics."""
    lost = []
    if harmonics and splats["sh"].shape[1] > 1:
        lost.append("the harmonics, so that colours no longer depend on the view")
    if splats["attributes"]:
        lost.append(f"the attributes {', '.join(splats['attributes'])}")
    if lost:
        log.say(f"{path}: its format cannot hold {' and '.join(lost)}: left out")
