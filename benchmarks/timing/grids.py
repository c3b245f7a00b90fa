"""Look-ups in grids: hash tables, planes and lines, voxels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill import kernels
from geodistill.kernels import reference
from geodistill.kernels.hashspec import PRIMES
from geodistill.kernels.reference import LINE_AXES, PLANE_AXES
from timing.measure import Case


def hash_case() -> Case:
    """16 levels, 2^19 entries, 2^18 uniform points, gradient to the table."""
    spec = kernels.HashSpec()
    x = torch.rand(2**18, 3)
    table = torch.randn(spec.entries, spec.features, requires_grad=True)

    def by_level(look_up: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        parts = []
        for level in range(spec.levels):
            rows = table[spec.offsets[level] : spec.offsets[level + 1]]
            parts.append(look_up(rows, *corners_of(x, spec, level)))
        return torch.cat(parts, dim=1)

    return Case(
        "hash_encode 16x2^19, 2^18 points",
        lambda: kernels.hash_encode(x, table, spec),
        {
            "reference": lambda: reference.hash_encode(x, table, spec),
            "indexing": lambda: by_level(lambda t, e, w: (t[e] * w[..., None]).sum(1)),
            "index_select": lambda: by_level(
                lambda t, e, w: torch.einsum(
                    "ncf,nc->nf", t.index_select(0, e.flatten()).view(*e.shape, -1), w
                )
            ),
            "embedding": lambda: by_level(
                lambda t, e, w: torch.bmm(w[:, None], F.embedding(e, t)).squeeze(1)
            ),
            "embedding_bag": lambda: by_level(
                lambda t, e, w: F.embedding_bag(e, t, per_sample_weights=w, mode="sum")
            ),
        },
        [table],
    )


def corners_of(x: Tensor, spec: kernels.HashSpec, level: int) -> tuple[Tensor, Tensor]:
    """Entries and weights [N, 8] of one level, computed for all corners at once."""
    position = x * spec.scales[level] + spec.shift
    cell = position.floor()
    fraction = position - cell
    pair = torch.stack([1 - fraction, fraction], dim=-1)
    weights = (
        pair[:, 0, :, None, None] * pair[:, 1, None, :, None] * pair[:, 2, None, None, :]
    ).flatten(1)
    nodes = cell.long()[:, :, None] + torch.arange(2)
    stride = spec.strides[level]
    if stride:
        i, j, k = nodes[:, 0], nodes[:, 1] * stride, nodes[:, 2] * stride**2
        entries = i[:, :, None, None] + j[:, None, :, None] + k[:, None, None, :]
        entries = entries % spec.sizes[level]
    else:
        i, j, k = (nodes[:, axis] * PRIMES[axis] for axis in range(3))
        entries = i[:, :, None, None] ^ j[:, None, :, None] ^ k[:, None, None, :]
        entries = entries & (spec.sizes[level] - 1)
    return entries.flatten(1), weights


def plane_line_case(channels: int) -> Case:
    """TensoRF VM at 300^3, 2^16 points."""
    res, x = 300, torch.rand(2**16, 3) * 2 - 1
    planes = [torch.randn(res, res, channels, requires_grad=True) for _ in range(3)]
    lines = [torch.randn(res, channels, requires_grad=True) for _ in range(3)]

    def grid_sample() -> Tensor:
        parts = []
        for plane, line, (a, b), c in zip(planes, lines, PLANE_AXES, LINE_AXES, strict=True):
            at_plane = x[:, [a, b]].view(1, -1, 1, 2)
            at_line = torch.stack([torch.zeros(len(x)), x[:, c]], 1).view(1, -1, 1, 2)
            image, column = plane.permute(2, 0, 1)[None], line.t()[None, :, :, None]
            first = F.grid_sample(image, at_plane, align_corners=True)
            second = F.grid_sample(column, at_line, align_corners=True)
            parts.append((first * second).view(channels, -1).t())
        return torch.stack(parts, 1)

    def bags() -> Tensor:
        parts = []
        for plane, line, (a, b), c in zip(planes, lines, PLANE_AXES, LINE_AXES, strict=True):
            u, v, w = ((x[:, axis] + 1) * (0.5 * (res - 1)) for axis in (a, b, c))
            i, j, k = (p.floor().clamp(max=res - 2) for p in (u, v, w))
            fu, fv, fw = u - i, v - j, w - k
            low = (j * res + i).long()
            rows = torch.stack([low, low + 1, low + res, low + res + 1], 1)
            weights = torch.stack([(1 - fu) * (1 - fv), fu * (1 - fv), (1 - fu) * fv, fu * fv], 1)
            first = F.embedding_bag(
                rows, plane.view(-1, channels), per_sample_weights=weights, mode="sum"
            )
            ends = torch.stack([k.long(), k.long() + 1], 1)
            second = F.embedding_bag(
                ends, line, per_sample_weights=torch.stack([1 - fw, fw], 1), mode="sum"
            )
            parts.append(first * second)
        return torch.stack(parts, 1)

    forms = {
        "indexing": lambda: reference.plane_line(x, planes, lines),
        "grid_sample": grid_sample,
        "embedding_bag": bags,
    }
    ours = lambda: kernels.plane_line(x, planes, lines)  # noqa: E731
    return Case(f"plane_line 300^2 x {channels}, 2^16 points", ours, forms, [*planes, *lines])


def line_product_case(channels: int) -> Case:
    """TensoRF CP at 300, 2^16 points."""
    res, x = 300, torch.rand(2**16, 3) * 2 - 1
    lines = [torch.randn(res, channels, requires_grad=True) for _ in range(3)]

    def bags() -> Tensor:
        out = torch.ones(())
        for line, axis in zip(lines, LINE_AXES, strict=True):
            p = (x[:, axis] + 1) * (0.5 * (res - 1))
            low = p.floor().clamp(max=res - 2)
            ends = torch.stack([low.long(), low.long() + 1], 1)
            weights = torch.stack([1 - (p - low), p - low], 1)
            out = out * F.embedding_bag(ends, line, per_sample_weights=weights, mode="sum")
        return out

    forms = {"indexing": lambda: reference.line_product(x, lines), "embedding_bag": bags}
    ours = lambda: kernels.line_product(x, lines)  # noqa: E731
    return Case(f"line_product 300 x {channels}, 2^16 points", ours, forms, lines)


def voxel_case() -> Case:
    """Plenoxels: a shell in 256^3 links, 28 channels, 2^17 points in cells that exist."""
    links = torch.full((256, 256, 256), -1, dtype=torch.int32)
    grid = torch.linspace(-1, 1, 256)
    radius = (grid[:, None, None] ** 2 + grid[None, :, None] ** 2 + grid**2).sqrt()
    shell = (radius - 0.7).abs() < 0.02
    links[shell] = torch.arange(int(shell.sum()), dtype=torch.int32)
    values = torch.randn(int(shell.sum()), 28, requires_grad=True)
    nodes = shell.nonzero()
    x = nodes[torch.randint(len(nodes), (2**17,))] + torch.rand(2**17, 3)
    x = x.clamp(0, 255)

    def bag() -> Tensor:
        low = x.floor().clamp(max=254)
        fraction = x - low
        pair = torch.stack([1 - fraction, fraction], -1)
        weights = pair[:, 0, :, None, None] * pair[:, 1, None, :, None] * pair[:, 2, None, None, :]
        i, j, k = (low[:, axis].long()[:, None] + torch.arange(2) for axis in range(3))
        found = links[i[:, :, None, None], j[:, None, :, None], k[:, None, None, :]].flatten(1)
        weights = weights.flatten(1) * (found >= 0)
        return F.embedding_bag(
            found.clamp(min=0).long(), values, per_sample_weights=weights, mode="sum"
        )

    forms = {
        "indexing": lambda: reference.voxel_interp(x, links, values),
        "embedding_bag": bag,
    }
    ours = lambda: kernels.voxel_interp(x, links, values)  # noqa: E731
    return Case(f"voxel_interp {len(values)} x 28, 2^17 points", ours, forms, [values])
