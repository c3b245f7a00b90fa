"""Grids: hash tables, planes and lines, sparse voxels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from geodistill.kernels.hashspec import PRIMES, HashSpec

PLANE_AXES = ((0, 1), (0, 2), (1, 2))
"""Plane k spans these two axes: its columns run along the first, its rows along the second."""
LINE_AXES = (2, 1, 0)
"""Line k runs along this axis."""

_CORNERS = tuple(itertools.product((0, 1), repeat=3))


def hash_encode(x: Tensor, table: Tensor, spec: HashSpec) -> Tensor:
    x = x.clamp(0.0, 1.0)
    parts = []
    for level in range(spec.levels):
        position = x * spec.scales[level] + spec.shift
        cell = position.detach().floor()
        fraction = position - cell
        rows = table[spec.offsets[level] : spec.offsets[level + 1]]
        total = x.new_zeros(len(x), spec.features)
        for corner in _CORNERS:
            entry = _hash_entry(cell.long(), corner, spec.strides[level], spec.sizes[level])
            total = total + _corner_weight(fraction, corner)[:, None] * rows[entry]
        parts.append(total)
    return torch.cat(parts, dim=1)


def _hash_entry(cell: Tensor, corner: Sequence[int], stride: int, size: int) -> Tensor:
    i, j, k = (cell[:, axis] + corner[axis] for axis in range(3))
    if stride:
        return (i + stride * (j + stride * k)) % size
    return (i * PRIMES[0] ^ j * PRIMES[1] ^ k * PRIMES[2]) % size


def _corner_weight(fraction: Tensor, corner: Sequence[int]) -> Tensor:
    wx, wy, wz = (
        fraction[:, axis] if corner[axis] else 1.0 - fraction[:, axis] for axis in range(3)
    )
    return wx * wy * wz


def plane_line(x: Tensor, planes: Sequence[Tensor], lines: Sequence[Tensor]) -> Tensor:
    parts = [
        _sample_plane(x[:, a], x[:, b], plane) * _sample_line(x[:, c], line)
        for (a, b), c, plane, line in zip(PLANE_AXES, LINE_AXES, planes, lines, strict=True)
    ]
    return torch.stack(parts, dim=1)


def line_product(x: Tensor, lines: Sequence[Tensor]) -> Tensor:
    first, second, third = (
        _sample_line(x[:, axis], line) for axis, line in zip(LINE_AXES, lines, strict=True)
    )
    return first * second * third


def _cell(u: Tensor, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinate in [-1, 1] -> lower node, upper node, fraction between them [N, 1]."""
    return _grid_cell((u.clamp(-1.0, 1.0) + 1.0) * (0.5 * (nodes - 1)), nodes)


def _grid_cell(position: Tensor, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    position = position.clamp(0, nodes - 1)
    low = position.detach().floor().long().clamp(0, max(nodes - 2, 0))
    return low, (low + 1).clamp(max=nodes - 1), (position - low)[:, None]


def _sample_line(u: Tensor, line: Tensor) -> Tensor:
    low, high, fraction = _cell(u, len(line))
    return line[low] * (1.0 - fraction) + line[high] * fraction


def _sample_plane(u: Tensor, v: Tensor, plane: Tensor) -> Tensor:
    left, right, fu = _cell(u, plane.shape[1])
    low, high, fv = _cell(v, plane.shape[0])
    lower = plane[low, left] * (1.0 - fu) + plane[low, right] * fu
    upper = plane[high, left] * (1.0 - fu) + plane[high, right] * fu
    return lower * (1.0 - fv) + upper * fv


def voxel_interp(x: Tensor, links: Tensor, values: Tensor) -> Tensor:
    axes = [_grid_cell(x[:, axis], links.shape[axis]) for axis in range(3)]
    total = x.new_zeros(len(x), values.shape[1])
    for corner in _CORNERS:
        i, j, k = (axes[axis][bit] for axis, bit in enumerate(corner))
        link = links[i, j, k].long()
        fraction = torch.cat([axis[2] for axis in axes], dim=1)
        filled = (link >= 0) & (link < len(values))
        weight = _corner_weight(fraction, corner) * filled
        if len(values):
            total = total + weight[:, None] * values[torch.where(filled, link, 0)]
    return total
