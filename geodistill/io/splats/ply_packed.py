"""PlayCanvas's compressed PLY: chunks of 256 splats, 16 bytes a splat, a byte a harmonic.

Element chunk holds the bounds of positions, logarithmic scales and (since 2024) colours. Element
vertex holds packed_position and packed_scale (11, 10, 11 bits between the bounds), packed_color
(red, green, blue, opacity, 8 bits each) and packed_rotation (2 bits for which of w, x, y, z is the
largest, 10 for each of the others in their order, between -sqrt(1/2) and sqrt(1/2)), the first
number highest. Element sh, if any, holds f_rest_* as bytes, in 256 bins between -4 and 4.
Source: https://github.com/playcanvas/splat-transform and supersplat, which read and write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from geodistill.checks import InputError
from geodistill.io.columns import as_float32, grouped
from geodistill.io.ply import Column, ListColumn
from geodistill.io.ply_write import ply_bytes
from geodistill.io.splats.arrays import COEFFICIENTS, SplatArrays, logit, splat_arrays
from geodistill.io.splats.eight_bits import (
    FLATTEST,
    color_coefficients,
    colors_of,
    opacity_bytes,
    say_left_out,
)
from geodistill.io.splats.order import morton_order
from geodistill.io.splats.smallest_three import from_smallest_three, smallest_three

CHUNK = 256
PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_AXES, _COLORS = ("x", "y", "z", "scale_x", "scale_y", "scale_z"), ("r", "g", "b")
_BITS_3, _BITS_4, _TURN_BITS = (11, 10, 11), (8, 8, 8, 8), (10, 10, 10)
_TURN_RANGE = np.sqrt(2.0)  # from the least to the most that they can be
_SH_RANGE = 8.0  # from -4 to 4

Elements = Mapping[str, Mapping[str, Column]]


def read_packed_splats(path: Path, elements: Elements) -> SplatArrays:
    """From the elements of a file whose vertices are packed; further columns are attributes.

    A byte of harmonics stands for the middle of its bin, 0 and 255 for the ends, as its converters
    have it.

    Raises InputError when properties are missing or of other types, counts contradict each other,
    or values are not finite.
    """
    vertices = {k: c for k, c in elements["vertex"].items() if not isinstance(c, ListColumn)}
    words = [_column(path, vertices, "vertex", name, "u4") for name in PACKED]
    position, rotation, scale, color = words
    count = len(position)
    low, high = _bounds(path, elements.get("chunk", {}), count)
    colors = _unpacked(color, _BITS_4)
    shares = np.concatenate(
        [_unpacked(position, _BITS_3), _unpacked(scale, _BITS_3), colors[:, :3]], axis=1
    )
    with np.errstate(invalid="ignore"):  # infinite bounds are refused with the values
        values = low * (1 - shares) + high * shares
    rest = _harmonics(path, elements.get("sh", {}), count)
    further = grouped({name: c for name, c in vertices.items() if name not in PACKED})
    return splat_arrays(
        path,
        values[:, :3],
        _unpacked_turns(rotation),
        values[:, 3:6],
        logit(colors[:, 3]),
        np.concatenate([color_coefficients(values[:, None, 6:]), rest], axis=1),
        {name: as_float32(c, f"{path}: '{name}'") for name, c in further.items()},
    )


def packed_ply_files(splats: SplatArrays, path: Path) -> dict[str, list[bytes]]:
    """In Morton order, so that a chunk is small, and its splats are stored the finer for it.

    Of a chunk's extent, positions and scales are within 1/4094 (1/2046 along y), colours within
    1/510; opacities are within 1/510, rotations within 0.3 degrees, harmonics within 1/64 (1/32
    at -4 and 4). Logarithmic scales are clamped to -20..20, harmonics beyond colour to -4..4.
    Attributes are left out, with a line.
    """
    say_left_out(splats, path, harmonics=False)
    order = morton_order(splats["means"])
    scales = np.clip(splats["log_scales"], FLATTEST, -FLATTEST)
    colors = colors_of(splats["sh"][:, 0])
    values = np.concatenate([splats["means"], scales, colors], axis=1)[order].astype(np.float32)
    starts = np.arange(0, len(values), CHUNK)
    low, high = (edge.reduceat(values, starts, axis=0) for edge in (np.minimum, np.maximum))
    shares = _shares(values, low, high)
    opacity = opacity_bytes(splats["opacity_logits"][order])
    words = (
        _packed(shares[:, :3], _BITS_3),
        _packed_turns(splats["rotations"][order]),
        _packed(shares[:, 3:6], _BITS_3),
        _packed(shares[:, 6:], _BITS_4[:3]) << np.uint32(8) | opacity,
    )
    elements: dict[str, dict[str, Column]] = {
        "chunk": dict(zip(_bound_names(colors=True), _by_side(low, high), strict=True)),
        "vertex": dict(zip(PACKED, words, strict=True)),
    }
    if splats["sh"].shape[1] > 1:
        rest = splats["sh"][order, 1:].swapaxes(1, 2).reshape(len(order), -1)
        bins = np.clip((rest / _SH_RANGE + 0.5) * 256, 0, 255).astype(np.uint8)
        elements["sh"] = {f"f_rest_{i}": bins[:, i] for i in range(bins.shape[1])}
    return {path.name: ply_bytes(elements)}


def _bound_names(colors: bool) -> list[str]:
    """min_x min_y min_z max_x ... max_scale_z, and those of colours"""
    groups = [_AXES[:3], _AXES[3:], *([_COLORS] if colors else [])]
    return [f"{side}_{name}" for group in groups for side in ("min", "max") for name in group]


def _by_side(low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    """The columns of `_bound_names` from bounds [chunks, 9]"""
    return [c for i in range(0, 9, 3) for side in (low, high) for c in side[:, i : i + 3].T]


def _bounds(path: Path, chunks: Mapping[str, Column], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds, float64 [N, 9], of every splat. Colours without any are in [0, 1]."""
    colors = "min_r" in chunks
    columns = {name: _column(path, chunks, "chunk", name, "f4") for name in _bound_names(colors)}
    found, wanted = len(columns["min_x"]), -(-count // CHUNK)
    if found != wanted:
        raise InputError(
            f"{path} is damaged: its {count} splats need {wanted} chunks of {CHUNK}, but it has "
            f"{found}; make it again"
        )
    of_splat = np.arange(count) // CHUNK
    sides = []
    for side, default in (("min", 0.0), ("max", 1.0)):
        names = [f"{side}_{name}" for name in (*_AXES, *_COLORS)]
        bounds = [columns.get(name, np.full(found, default)) for name in names]
        with np.errstate(invalid="ignore"):  # NaN, which is refused with the values
            sides.append(np.stack(bounds, axis=1).astype(np.float64)[of_splat])
    return sides[0], sides[1]


def _harmonics(path: Path, columns: Mapping[str, Column], count: int) -> np.ndarray:
    """[N, (degree + 1)^2 - 1, 3]"""
    names = [f"f_rest_{i}" for i in range(len(columns))]
    if len(columns) not in [3 * (n - 1) for n in COEFFICIENTS]:
        raise InputError(
            f"{path}: its element sh has {len(columns)} properties: 9, 24 or 45 are the degrees 1 "
            "to 3"
        )
    if not names:
        return np.zeros((count, 0, 3))
    codes = np.stack([_column(path, columns, "sh", name, "u1") for name in names], axis=1)
    if len(codes) != count:
        raise InputError(
            f"{path} is damaged: it has {count} splats but harmonics of {len(codes)}; make it again"
        )
    middles = (np.arange(256) + 0.5) / 256
    middles[[0, -1]] = 0, 1
    table = ((middles - 0.5) * _SH_RANGE).astype(np.float32)
    return table[codes].reshape(count, 3, len(names) // 3).swapaxes(1, 2)


def _column(
    path: Path, columns: Mapping[str, Column], element: str, name: str, kind: str
) -> np.ndarray:
    column = columns.get(name)
    if isinstance(column, np.ndarray) and column.dtype == np.dtype(kind):
        return column
    wanted = {"u4": "uint", "f4": "float", "u1": "uchar"}[kind]
    raise InputError(
        f"{path} is no compressed splat file: its element {element} has no property '{name}' of "
        f"type {wanted}; export it again"
    )


def _shares(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """float64 [N, C], where between the bounds of their chunk the values are; 0 where all are."""
    of_splat = np.arange(len(values)) // CHUNK
    extent = high.astype(np.float64) - low
    extent[extent == 0] = 1
    return (values - low.astype(np.float64)[of_splat]) / extent[of_splat]


def _packed(shares: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """uint32 [N] of shares [N, C] in [0, 1], the first in the highest bits"""
    word = np.zeros(len(shares), np.uint32)
    for share, size in zip(shares.T, bits, strict=True):
        code = np.floor(share * (2**size - 1) + 0.5).clip(0, 2**size - 1)
        word = word << np.uint32(size) | code.astype(np.uint32)
    return word


def _unpacked(words: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """float64 [N, C] in [0, 1]"""
    shares, below = np.empty((len(words), len(bits))), sum(bits)
    for i, size in enumerate(bits):
        below -= size
        shares[:, i] = (words >> np.uint32(below) & np.uint32(2**size - 1)) / (2**size - 1)
    return shares


def _packed_turns(rotations: np.ndarray) -> np.ndarray:
    largest, others = smallest_three(rotations)
    return largest.astype(np.uint32) << np.uint32(30) | _packed(
        others / _TURN_RANGE + 0.5, _TURN_BITS
    )


def _unpacked_turns(words: np.ndarray) -> np.ndarray:
    """[N, 4] quaternions (w, x, y, z)"""
    others = (_unpacked(words, _TURN_BITS) - 0.5) * _TURN_RANGE
    return from_smallest_three(words >> np.uint32(30), others)
