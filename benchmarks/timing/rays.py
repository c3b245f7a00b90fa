"""Samples along rays: marching and compositing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill import kernels
from geodistill.kernels import reference
from timing.measure import Case, Form, Outputs


def composite_case(fused: bool) -> Case:
    """8192 rays of about 48 samples: weights, colour, depth and opacity."""
    rays = 8192
    counts = torch.randint(16, 81, (rays,))
    offsets = F.pad(counts.cumsum(0), (1, 0))
    total = int(offsets[-1])
    sigma = torch.rand(total).mul_(5).requires_grad_()
    rgb = torch.rand(total, 3, requires_grad=True)
    t, dt = torch.rand(total), torch.full((total,), 0.01)
    ones = torch.ones(total)

    def one_pass() -> Outputs:
        seen = kernels.composite(sigma, dt, (rgb, t[:, None]), offsets)
        return *seen.sums, seen.opacity

    def separate() -> Outputs:
        weights = kernels.ray_weights(sigma, dt, offsets)
        parts = (rgb, t[:, None], ones[:, None])
        return tuple(kernels.segment_sum(weights, part, offsets) for part in parts)

    forms = composite_forms(sigma, rgb, t, dt, offsets)
    name, ours = ("composite", one_pass) if fused else ("ray_weights + segment_sum", separate)
    return Case(f"{name}, 8192 rays x 48", ours, forms, [sigma, rgb])


def composite_forms(
    sigma: Tensor, rgb: Tensor, t: Tensor, dt: Tensor, offsets: Tensor
) -> dict[str, Form]:
    """What torch offers for it. Samples differ from step to step, so all start from the offsets."""
    counts, total = offsets.diff(), len(sigma)
    rays, ones = len(counts), torch.ones(total)

    def weights_by_cumsum() -> tuple[Tensor, Tensor]:
        owner = kernels.ray_index(offsets)
        tau = sigma * dt
        after = tau.cumsum(0)
        before = after - tau
        return owner, torch.exp(before[offsets[:-1]][owner] - before) * -torch.expm1(-tau)

    def one_index_add() -> Outputs:
        owner, w = weights_by_cumsum()
        values = torch.cat([rgb, t[:, None], ones[:, None]], 1)
        return (torch.zeros(rays, 5).index_add(0, owner, w[:, None] * values),)

    def three_index_adds() -> Outputs:
        owner, w = weights_by_cumsum()
        color = torch.zeros(rays, 3).index_add(0, owner, w[:, None] * rgb)
        return color, *(torch.zeros(rays).index_add(0, owner, v) for v in (w * t, w))

    def segment_reduce() -> Outputs:
        _, w = weights_by_cumsum()
        parts = (w[:, None] * rgb, w * t, w)
        return tuple(torch.segment_reduce(p, "sum", offsets=offsets, axis=0) for p in parts)

    def padded() -> Outputs:
        width = int(counts.max())
        owner = kernels.ray_index(offsets)
        cells = torch.arange(total) + (torch.arange(rays) * width - offsets[:-1])[owner]
        tau = torch.zeros(rays * width).index_copy(0, cells, sigma * dt).view(rays, width)
        before = tau.cumsum(1) - tau
        weights = torch.exp(-before) * -torch.expm1(-tau)
        color = torch.zeros(rays * width, 3).index_copy(0, cells, rgb).view(rays, width, 3)
        depth = torch.zeros(rays * width).index_copy(0, cells, t).view(rays, width, 1)
        sums = [torch.bmm(weights[:, None], part).squeeze(1) for part in (color, depth)]
        return *sums, weights.sum(1)

    def by_reference() -> Outputs:
        weights = reference.ray_weights(sigma, dt, offsets)
        parts = (rgb, t[:, None], ones[:, None])
        return tuple(reference.segment_sum(weights, part, offsets) for part in parts)

    return {
        "cumsum + one index_add": one_index_add,
        "cumsum + three index_adds": three_index_adds,
        "cumsum + segment_reduce": segment_reduce,
        "padded cumsum + bmm": padded,
        "reference": by_reference,
    }


def march_case() -> Case:
    """4096 rays through a 128^3 grid that holds a thin shell, step 1/256 of the side."""
    rays = 4096
    grid = torch.linspace(-1, 1, 128)
    radius = (grid[:, None, None] ** 2 + grid[None, :, None] ** 2 + grid**2).sqrt()
    occupancy = (radius - 0.7).abs() < 0.03
    origins = F.normalize(torch.randn(rays, 3), dim=1) * 2.5
    directions = F.normalize(torch.rand(rays, 3) - 0.5 - origins, dim=1)
    bounds = (torch.full((rays,), 0.5), torch.full((rays,), 4.5))
    arguments = (origins, directions, *bounds, 2 / 256, occupancy, torch.rand(rays), 256)
    forms = {"reference": lambda: reference.march(*arguments)}
    return Case("march 4096 rays, 128^3", lambda: kernels.march(*arguments), forms)
