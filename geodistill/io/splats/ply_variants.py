"""What other programs make of 3DGS's PLY layout, brought back to it.

2DGS (Huang et al. 2024) leaves scale_2 out; Mip-Splatting (Yu et al. 2024) and what builds on it
(Gaussian Opacity Fields, RaDe-GS) add filter_3D; converters write infinite logits and logarithms.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from geodistill import log
from geodistill.io.splats.arrays import finite_rows, logit, say_antialiased
from geodistill.io.splats.eight_bits import FLATTEST

THIRD_SCALE, FILTER = "scale_2", "filter_3D"
_FLAT = np.log(1e-3)
_MODE = re.compile(r"\s*(?:splatrendermode:\s*(\w+)|antialiased\s+(\d+))\s*", re.IGNORECASE)


def say_mode(path: Path, comments: Iterable[str]) -> None:
    """A line for splats that are to be drawn with antialiasing, as Brush and splat-transform
    (SplatRenderMode: mip) and Postshot (antialiased 1) say in a comment; the last one counts."""
    found = [match for match in map(_MODE.fullmatch, comments) if match is not None]
    mode, flag = found[-1].groups("") if found else ("", "")
    if mode.lower() == "mip" or flag == "1":
        say_antialiased(path, found[-1][0].strip())


def as_reference(
    path: Path, columns: dict[str, np.ndarray], layout: Collection[str]
) -> dict[str, np.ndarray]:
    """The columns as the reference would have them; of its `layout` scale_2 may be missing.

    * An infinite opacity is the logit of 0 or 1, a scale of -infinity that of a flat axis.
    * The filter of Mip-Splatting is folded as in equation 9 of its paper: variances add, and
      opacity is multiplied by the square root of the ratio of the determinants.
    * Without scale_2 splats are discs. The third axis gets 1e-3 of the smaller other: seen from any
      side it covers less than a pixel wherever the disc is not a thousand pixels wide, and it stays
      positive and finite, which the inverse of a covariance needs.
    * Splats that a trainer left without finite numbers, or with a rotation of zeros, are drawn by
      no program, and left out with a line.

    Raises InputError where these are more than half: the file is damaged.
    """
    columns = _finite_ends(dict(columns))
    checked = {name: values for name, values in columns.items() if name in {*layout, FILTER}}
    rotations = np.stack([v for name, v in checked.items() if name.startswith("rot_")], axis=1)
    keep = finite_rows(path, checked, rotations)
    if not keep.all():
        columns = {name: values[keep] for name, values in columns.items()}
    if FILTER in columns:
        columns = _without_filter(path, columns)
    if THIRD_SCALE not in columns:
        log.say(f"{path} has no {THIRD_SCALE}: its splats are discs (2DGS)")
        columns[THIRD_SCALE] = np.minimum(columns["scale_0"], columns["scale_1"]) + _FLAT
    return columns


def _finite_ends(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """In place."""
    opacity = columns["opacity"]
    if np.isinf(opacity).any():
        columns["opacity"] = np.where(np.isinf(opacity), logit(opacity > 0), opacity)
    for name in _scales(columns):
        flat = np.isneginf(columns[name])
        if flat.any():
            columns[name] = np.where(flat, FLATTEST, columns[name])
    return columns


def _without_filter(path: Path, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By logarithms, so that a filter of zero changes no bit and no square overflows."""
    names = _scales(columns)
    before = np.stack([columns[name] for name in names], axis=1).astype(np.float64)
    with np.errstate(divide="ignore"):
        log_filter = np.log(np.abs(columns[FILTER].astype(np.float64)))
        after = 0.5 * np.logaddexp(2 * before, 2 * log_filter[:, None])
        fade = (after - before).sum(axis=1)  # minus the logarithm of opacity's factor
        loss = fade + np.log(-np.expm1(-fade))  # the logarithm of exp(fade) - 1
        opacity = -np.logaddexp(loss, fade - columns["opacity"].astype(np.float64))
    log.say(f"{path}: its {FILTER} is folded into scales and opacities")
    rest = {name: values for name, values in columns.items() if name != FILTER}
    return {**rest, "opacity": opacity, **dict(zip(names, after.T, strict=True))}


def _scales(columns: dict[str, np.ndarray]) -> list[str]:
    return [name for name in ("scale_0", "scale_1", THIRD_SCALE) if name in columns]
