"""Samples along rays: marching and compositing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_MARCH_CHUNK = 1 << 22


@dataclass(frozen=True)
class Samples:
    """Samples along rays, ray after ray: those of ray n are `offsets[n]:offsets[n + 1]`."""

    offsets: Tensor  # int64 [N+1]
    t: Tensor  # [S] position along the ray in units of its direction
    dt: Tensor  # [S] length of the interval the sample stands for


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


def offsets_end(offsets: Tensor) -> int:
    """The last of `offsets`; -1 if they do not start at 0 or ever decrease."""
    rising = offsets[0] == 0 and bool((offsets.diff() >= 0).all())
    return int(offsets[-1]) if rising else -1


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


def _wide(x: Tensor) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64
