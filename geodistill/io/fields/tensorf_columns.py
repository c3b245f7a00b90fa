"""The order of what TensoRF feeds its colour network, and of what ours is fed.

TensoRF's network takes [features, d, (p), PE(p), PE(features), PE(d)], where p is the position in
the box of its grid, [-1, 1] along each axis, and PE(x) is [sin(x_i 2^j), cos(x_i 2^j)], the
components i of x outermost and the octaves j innermost. Ours has the octaves outermost, and u, the
position in a cube about that box: p = u / half box. It sees u itself wherever it sees waves of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_OCTAVES = 16
_SAME = 1e-5


@dataclass(frozen=True)
class Inputs:
    """What the first layer takes: numbers of octaves, and whether p itself is among it."""

    features: int
    view: int = 0
    feature: int = 0
    position: int = 0
    point: bool = False

    @property
    def columns(self) -> int:
        octaves = 3 * (self.view + self.position) + self.features * self.feature
        return self.features + 3 + 3 * self.point + 2 * octaves


def octaves(count: int) -> tuple[float, ...]:
    """1, 2, 4, ..."""
    return tuple(float(2**j) for j in range(count))


def position_frequencies(count: int, half: Sequence[float]) -> tuple[float, ...]:
    """Frequencies of u that make the octaves of p for a box of these half sizes."""
    return tuple(sorted({f / size for f in octaves(count) for size in half}))


def to_ours(
    weights: NDArray[np.float32],  # [out, inputs.columns]
    inputs: Inputs,
    half: Sequence[float],
) -> NDArray[np.float32]:
    """The first layer's weights for our order of columns. [out, columns]

    Columns are zero where they are for u, which is not among the inputs, or for sin(f u_i), which
    is no octave of p_i.
    """
    features, view, point, position, feature, view_waves = _blocks(weights, inputs)
    wanted = position_frequencies(inputs.position, half)
    waves = np.zeros((len(weights), len(wanted), 2, 3), np.float32)
    for axis, size in enumerate(half):
        for j, octave in enumerate(octaves(inputs.position)):
            waves[:, wanted.index(octave / size), :, axis] = position[:, :, axis, j]
    point = point / np.array(half, np.float32)[: point.shape[1]]
    if inputs.position and not inputs.point:
        point = np.zeros((len(weights), 3), np.float32)
    rest = [_octaves_first(block) for block in (feature, view_waves)]
    parts = [features, view, point, waves.reshape(len(weights), -1), *rest]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def to_theirs(
    weights: NDArray[np.float32],  # [out, ...]
    inputs: Inputs,
    frequencies: Sequence[float],
    half: Sequence[float],
) -> tuple[NDArray[np.float32], int] | None:
    """The inverse: weights for TensoRF's order of columns, and how many octaves of p they are for.

    `inputs` describes our columns, where `frequencies` of u are in the place of octaves of p. None
    where ours use a wave of u that is no octave of p.
    """
    out = len(weights)
    widths = [
        inputs.features + 3, 3 * inputs.point, 6 * len(frequencies),
        2 * inputs.features * inputs.feature,
    ]  # fmt: skip
    plain, point, waves, feature, view = np.split(weights, np.cumsum(widths), axis=1)
    point = point * np.asarray(half, np.float32)[: point.shape[1]]
    found = _position_waves(waves.reshape(out, len(frequencies), 2, 3), frequencies, half)
    if found is None:
        return None
    rest = [_octaves_last(feature, inputs.features), _octaves_last(view, 3)]
    parts = [plain, point, found.reshape(out, -1), *rest]
    return np.concatenate(parts, axis=1, dtype=np.float32), found.shape[-1]


def _position_waves(
    waves: NDArray, frequencies: Sequence[float], half: Sequence[float]
) -> NDArray | None:
    """[out, frequencies, 2, 3] of u -> [out, 2, 3, octaves] of p"""
    used: dict[tuple[int, int], NDArray] = {}
    for axis, size in enumerate(half):
        for wave, frequency in zip(waves.swapaxes(0, 1), frequencies, strict=True):
            if not wave[:, :, axis].any():
                continue
            ratio = frequency * size
            octave = round(float(np.log2(ratio))) if ratio > 0 else -1
            if not 0 <= octave < MOST_OCTAVES or abs(ratio / 2**octave - 1) > _SAME:
                return None
            used[axis, octave] = used.get((axis, octave), 0) + wave[:, :, axis]
    count = max((octave + 1 for _, octave in used), default=min(len(frequencies), 1))
    found = np.zeros((len(waves), 2, 3, count), np.float32)
    for (axis, octave), wave in used.items():
        found[:, :, axis, octave] = wave
    return found


def _blocks(weights: NDArray, inputs: Inputs) -> list[NDArray]:
    """Columns of features, d, p, and the waves of p, features and d [out, 2, width, octaves]."""
    widths = [
        inputs.features, 3, 3 * inputs.point, 6 * inputs.position,
        2 * inputs.features * inputs.feature, 6 * inputs.view,
    ]  # fmt: skip
    parts = np.split(weights, np.cumsum(widths)[:-1], axis=1)
    shapes = ((3, inputs.position), (inputs.features, inputs.feature), (3, inputs.view))
    waves = [p.reshape(len(weights), 2, *s) for p, s in zip(parts[3:], shapes, strict=True)]
    return [*parts[:3], *waves]


def _octaves_first(waves: NDArray) -> NDArray:
    """[out, 2, width, octaves] -> [out, octaves * 2 * width]"""
    return waves.transpose(0, 3, 1, 2).reshape(len(waves), -1)


def _octaves_last(columns: NDArray, width: int) -> NDArray:
    """[out, octaves * 2 * width] -> [out, 2 * width * octaves]"""
    waves = columns.reshape(len(columns), -1, 2, width)
    return waves.transpose(0, 2, 3, 1).reshape(len(columns), -1)
