"""Samples along rays through all of space, for contracted fields."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geodistill.geometry.contraction import Contraction, contract
from geodistill.rays import Rays

FAR = 1000.0
"""Where rays end, in half sides of the field's inner cube."""
NEAR = 0.02
"""Where they begin."""
POINTS = 1 << 22
"""Points that are looked up at a time."""


def contracted_samples(
    rays: Rays, occupancy: Tensor, step: float, kind: Contraction, jitter: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Samples of R rays in occupied cells: ray [S], in order, t [S], dt [S] and u [S, 3].

    They are `step` apart within a unit of where a ray comes nearest to the middle, and beyond that
    in proportion to the distance from there, as cells of contracted space grow.
    """
    reach = 1.0 + math.log(FAR)
    ticks = torch.arange(-reach, reach, step, device=rays.origins.device)
    found = []
    for rows in torch.arange(len(rays.origins)).split(max(1, POINTS // len(ticks))):
        o, d = rays.origins[rows], rays.directions[rows]
        nearest = -(o * d).sum(dim=1, keepdim=True)
        phase = 0.5 if jitter is None else jitter[rows, None]
        s = ticks + step * phase
        away = torch.where(s.abs() <= 1, s, s.sign() * torch.exp(s.abs() - 1.0))
        t = nearest + away
        ray, tick = (t > NEAR).nonzero(as_tuple=True)
        t = t[ray, tick]
        away = away.expand(len(rows), -1)[ray, tick]
        u = contract(o[ray] + t[:, None] * d[ray], kind)
        size = occupancy.shape[0]
        cell = torch.floor((u + 1.0) * (size / 2)).long().clamp(0, size - 1)
        inside = occupancy[tuple(cell.unbind(1))]
        dt = step * away[inside].abs().clamp_min(1.0)
        found.append((ray[inside] + rows[0], t[inside], dt, u[inside]))
    ray, t, dt, u = (torch.cat(parts) for parts in zip(*found, strict=True))
    return ray, t, dt, u
