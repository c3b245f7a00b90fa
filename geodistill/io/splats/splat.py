"""The .splat layout of antimatter15's viewer: rows of 32 bytes, without a header.

x y z and three linear scales (float32, little endian), red green blue opacity, and w x y z of a
quaternion (bytes; 128 is zero, 128 steps are one).
Source: https://github.com/antimatter15/splat, README.md and convert.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geodistill.checks import InputError
from geodistill.io.splats.arrays import SplatArrays, logit, splat_arrays
from geodistill.io.splats.eight_bits import (
    color_bytes,
    color_coefficients,
    log_scales_of,
    opacity_bytes,
    say_left_out,
    unit_quaternions,
)
from geodistill.io.whole_file import read_whole

ROW = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("rgba", "u1", 4), ("turn", "u1", 4)])
_LOG_RANGE = (-87.0, 88.0)  # their exponentials are normal float32


def read_dot_splat(path: Path) -> SplatArrays:
    """Colour alone (degree 0). A quaternion of zeros is no rotation, a scale of zero is flat.

    Raises InputError when it is missing, empty, cut, has negative scales or is not finite.
    """
    data = read_whole(path)
    if len(data) % ROW.itemsize:
        raise InputError(
            f"{path} is truncated or no .splat file: its {len(data)} bytes are no multiple of the "
            f"{ROW.itemsize} of a splat; copy or make it again"
        )
    rows = np.frombuffer(data, ROW)
    shares = rows["rgba"] / 255.0
    turns = rows["turn"].astype(np.float64) - 128
    turns[~turns.any(axis=1)] = (1, 0, 0, 0)
    return splat_arrays(
        path,
        rows["means"],
        turns,
        log_scales_of(path, rows["scales"]),
        logit(shares[:, 3]),
        color_coefficients(shares[:, None, :3]),
    )


def dot_splat_files(splats: SplatArrays, path: Path) -> dict[str, bytes]:
    """Sorted by size times opacity, the largest first, as its viewer shows a file that still loads.

    Colours and opacities have 8 bits and are clamped to [0, 1]; so have the components of
    quaternions, which turns a splat by up to 0.9 degrees. Harmonics and attributes are left out,
    with a line.
    """
    say_left_out(splats, path)
    rows = np.empty(len(splats["means"]), ROW)
    rows["means"] = splats["means"]
    rows["scales"] = np.exp(np.clip(splats["log_scales"], *_LOG_RANGE))
    rows["rgba"][:, :3] = color_bytes(splats["sh"][:, 0])
    rows["rgba"][:, 3] = opacity_bytes(splats["opacity_logits"])
    turns = np.rint(unit_quaternions(splats["rotations"]) * 128) + 128
    rows["turn"] = turns.clip(0, 255)
    return {path.name: rows[_largest_first(splats)].tobytes()}


def _largest_first(splats: SplatArrays) -> np.ndarray:
    """The order of -exp(sum of log scales) / (1 + exp(-logit)), by logarithms, which are finite."""
    size = splats["log_scales"].astype(np.float64).sum(axis=1)
    opacity = -np.logaddexp(0, -splats["opacity_logits"].astype(np.float64))
    return np.argsort(-(size + opacity), kind="stable")
