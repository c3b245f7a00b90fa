"""Readable pure-torch twins of the kernels: any device and float dtype, differentiable by autograd.

They are the oracle of the tests and what runs where no faster implementation exists.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill.kernels.hashspec import PRIMES, HashSpec

PLANE_AXES = ((0, 1), (0, 2), (1, 2))
"""Plane k spans these two axes: its columns run along the first, its rows along the second."""
LINE_AXES = (2, 1, 0)
"""Line k runs along this axis."""

_CORNERS = tuple(itertools.product((0, 1), repeat=3))
_MARCH_CHUNK = 1 << 22


@dataclass(frozen=True)
class Samples:
    """Samples along rays, ray after ray: those of ray n are `offsets[n]:offsets[n + 1]`."""

    offsets: Tensor  # int64 [N+1]
    t: Tensor  # [S] position along the ray in units of its direction
    dt: Tensor  # [S] length of the interval the sample stands for

    def ray_index(self) -> Tensor:
        """The ray of each sample, int64 [S]."""
        return ray_index(self.offsets)


@dataclass(frozen=True)
class Composite:
    """What rays see."""

    weights: Tensor  # [S] of each sample
    opacity: Tensor  # [N] sum of the ray's weights
    sums: tuple[Tensor, ...]  # [N, C] each: weighted sums of the values


def ray_index(offsets: Tensor) -> Tensor:
    """offsets [N+1] -> the row that each of the offsets[-1] elements belongs to, int64 [S]."""
    rows = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(rows, offsets.diff())


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


def march(
    origins: Tensor,
    directions: Tensor,
    near: Tensor,
    far: Tensor,
    step: float,
    occupancy: Tensor,
    jitter: Tensor | None,
    max_samples: int,
) -> Samples:
    wide = _wide(origins)
    o, d, t0, t1 = (v.to(wide) for v in (origins, directions, near, far))
    shift = torch.full_like(t0, 0.5) if jitter is None else jitter.to(wide)
    first, count = _lattice_window(o, d, t0, t1, step, shift)
    longest = max(int(count.max()), 1) if len(count) else 1
    rows, times = [], []
    for start in range(0, len(o), max(_MARCH_CHUNK // longest, 1)):
        part = slice(start, start + max(_MARCH_CHUNK // longest, 1))
        k = torch.arange(longest, device=o.device)
        t = t0[part, None] + (first[part, None] + k + shift[part, None]) * step
        keep = (k < count[part, None]) & (t < t1[part, None])
        keep &= _occupied(o[part, None] + t[..., None] * d[part, None], occupancy)
        keep &= keep.cumsum(1) <= max_samples
        ray, sample = keep.nonzero(as_tuple=True)
        rows.append(ray + start)
        times.append(t[ray, sample].to(origins.dtype))
    t = torch.cat(times) if times else origins.new_zeros(0)
    counts = (
        torch.bincount(torch.cat(rows), minlength=len(o)) if rows else first.new_zeros(0).long()
    )
    offsets = F.pad(counts.cumsum(0), (1, 0))
    return Samples(offsets, t, torch.full_like(t, step))


def _lattice_window(
    o: Tensor, d: Tensor, near: Tensor, far: Tensor, step: float, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """First lattice index and number of indices that can lie inside the cube [-1, 1]^3."""
    a, b = (-1.0 - o) / d, (1.0 - o) / d
    parallel = d == 0
    inside = o.abs() <= 1
    enter = torch.where(parallel, torch.where(inside, -torch.inf, torch.inf), torch.minimum(a, b))
    leave = torch.where(parallel, torch.where(inside, torch.inf, -torch.inf), torch.maximum(a, b))
    first = ((torch.maximum(enter.amax(1), near) - near) / step - shift).floor() - 1
    first = first.clamp(min=0)
    last = ((torch.minimum(leave.amin(1), far) - near) / step - shift).ceil() + 1
    count = last - first + 1
    usable = count.isfinite() & (count > 0)
    return torch.where(usable, first, 0.0), torch.where(usable, count, 0.0).long()


def _occupied(points: Tensor, occupancy: Tensor) -> Tensor:
    sizes = torch.tensor(occupancy.shape, device=points.device)
    inside = (points.abs() <= 1).all(dim=-1)
    scaled = torch.where(inside[..., None], (points + 1) * (0.5 * sizes), 0.0)
    cell = torch.minimum(scaled.floor().long(), sizes - 1)
    return inside & (occupancy[cell[..., 0], cell[..., 1], cell[..., 2]] != 0)


def ray_weights(sigma: Tensor, dt: Tensor, offsets: Tensor) -> Tensor:
    # exp(-1000) is zero in every dtype; the clamp keeps inf - inf out of the running sums.
    tau = (sigma * dt).clamp(max=1e3)
    total = F.pad(tau.to(_wide(tau)).cumsum(0), (1, 0))
    before = total[:-1] - total[offsets[:-1]][ray_index(offsets)]
    return torch.exp(-before).to(tau.dtype) * -torch.expm1(-tau)


def segment_sum(weights: Tensor, values: Tensor, offsets: Tensor) -> Tensor:
    out = values.new_zeros(len(offsets) - 1, values.shape[1])
    return out.index_add(0, ray_index(offsets), weights[:, None] * values)


def composite(sigma: Tensor, dt: Tensor, values: Sequence[Tensor], offsets: Tensor) -> Composite:
    weights = ray_weights(sigma, dt, offsets)
    ones = torch.ones_like(weights)[:, None]
    opacity, *sums = (segment_sum(weights, v, offsets) for v in (ones, *values))
    return Composite(weights, opacity[:, 0], tuple(sums))


def sparse_adam_step(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
) -> None:
    rows = (grad != 0).any(dim=-1)
    g = grad[rows]
    m = exp_avg[rows] * beta1 + g * (1 - beta1)
    v = exp_avg_sq[rows] * beta2 + g * g * (1 - beta2)
    root = (v / (1 - beta2**step)).sqrt()
    param[rows] -= lr / (1 - beta1**step) * m / (root + eps)
    exp_avg[rows], exp_avg_sq[rows] = m, v
    grad[rows] = 0


def fused_mlp(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    for weight in weights[:-1]:
        x = F.relu(F.linear(x, weight))
    return F.linear(x, weights[-1])


def _wide(x: Tensor) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64
