"""The footprint of a radiance field down to the corners of a voxel grid, which carry features.

A field that decodes through a network is not linear in anything it holds. What is lifted onto it
lives at the nodes of a regular grid instead, and each sample of a ray reads it trilinearly.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geodistill import kernels
from geodistill.cameras import Camera
from geodistill.checks import UsageError, check
from geodistill.footprint import Footprint
from geodistill.geometry.contraction import expand
from geodistill.geometry.fields import Field
from geodistill.geometry.grids import nodes_near
from geodistill.rays import Rays, camera_rays
from geodistill.render.fields import NEGLIGIBLE, RAYS_PER_CHUNK, STOP
from geodistill.render.samples import DEFAULT_STEP, field_samples, unit_camera, visible

VALUES_AT_ONCE = 1 << 23
"""Samples times channels that are in memory at a time."""


@dataclass(frozen=True, eq=False)
class FieldGrid:
    """Nodes of a grid over a field's unit cube, those that its occupied cells are read from.

    The first and last node of an axis lie on the faces of the cube.
    """

    index: Tensor  # int32 [K, K, K] by ix, iy, iz: number of the node, -1 where there is none
    positions: Tensor  # float64 [N, 3] in the world

    @classmethod
    def of_field(cls, field: Field, resolution: int) -> FieldGrid:
        """A grid of `resolution` nodes an axis. Raises UsageError for fewer than 2."""
        if resolution < 2:
            raise UsageError(f"a grid needs at least 2 nodes an axis, got {resolution}")
        near = nodes_near(field.occupancy, resolution, centred=False)
        places = near.nonzero()
        index = torch.full(near.shape, -1, dtype=torch.int32, device=near.device)
        index[near] = torch.arange(len(places), dtype=torch.int32, device=near.device)
        unit = places.double() * (2.0 / (resolution - 1)) - 1.0
        return cls(index, field.frame.apply(expand(unit, field.contraction)))

    def __len__(self) -> int:
        return len(self.positions)


class FieldFootprint(Footprint):
    """Pixels row by row, elements are the nodes of a grid.

    A weight is what a ray's samples contribute to it, T_i (1 - exp(-sigma_i dt_i)), times the
    trilinear weight of the node. Samples that an image leaves out are left out here: row sums are
    the rendered opacity. Differentiable in the features; the field is taken as it is.
    """

    def __init__(self, field: Field, grid: FieldGrid, camera: Camera) -> None:
        rays = camera_rays(unit_camera(field, camera))
        origins, directions = rays.origins, rays.directions
        pairs = zip(origins.split(RAYS_PER_CHUNK), directions.split(RAYS_PER_CHUNK), strict=True)
        parts = [_samples(field, Rays(*pair)) for pair in pairs]
        counts = torch.cat([part.counts for part in parts])
        self.offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        self.weights = torch.cat([part.weights for part in parts])
        self.x = (torch.cat([part.u for part in parts]) + 1) * (0.5 * (grid.index.shape[0] - 1))
        self.index = grid.index
        self.pixels, self.elements = len(rays), len(grid)

    def render(self, features: Tensor) -> Tensor:
        check(features=(features, f"{self.elements} C"))
        return _Apply.apply(features, self, False)

    def adjoint(self, pixels: Tensor) -> Tensor:
        check(pixels=(pixels, f"{self.pixels} C"))
        return _Apply.apply(pixels, self, True)

    def row_sums(self) -> Tensor:
        return self.render(self.weights.new_ones(self.elements, 1))[:, 0]

    def column_sums(self) -> Tensor:
        return self.adjoint(self.weights.new_ones(self.pixels, 1))[:, 0]

    def to_csr(self) -> Tensor:
        ray = kernels.ray_index(self.offsets)
        low = self.x.floor().clamp(0, self.index.shape[0] - 2)
        fraction = self.x - low
        rows, columns, values = [], [], []
        for corner in itertools.product((0, 1), repeat=3):
            step = torch.tensor(corner, device=low.device)
            share = torch.where(step == 1, fraction, 1 - fraction).prod(dim=1)
            element = self.index[tuple((low.long() + step).unbind(1))].long()
            kept = element >= 0
            rows.append(ray[kept])
            columns.append(element[kept])
            values.append((self.weights * share)[kept])
        places = torch.stack([torch.cat(rows), torch.cat(columns)])
        size = (self.pixels, self.elements)
        return torch.sparse_coo_tensor(places, torch.cat(values), size).coalesce().to_sparse_csr()

    def chunks(self, channels: int) -> Iterator[Chunk]:
        """The rays in runs of at most VALUES_AT_ONCE values, or of one ray."""
        most = max(1, VALUES_AT_ONCE // max(1, channels))
        first = 0
        while first < self.pixels:
            start = int(self.offsets[first])
            last = int(torch.searchsorted(self.offsets, start + most, right=True)) - 1
            last = min(max(last, first + 1), self.pixels)
            samples = slice(start, int(self.offsets[last]))
            offsets = self.offsets[first : last + 1] - start
            yield Chunk(slice(first, last), offsets, self.weights[samples], self.x[samples])
            first = last


class Chunk(NamedTuple):
    """Some of the rays, and their samples."""

    rays: slice
    offsets: Tensor  # int64 [rays + 1]
    weights: Tensor  # [S]
    x: Tensor  # [S, 3] in units of the grid


class _Samples(NamedTuple):
    counts: Tensor
    weights: Tensor
    u: Tensor


def _samples(field: Field, rays: Rays) -> _Samples:
    samples = field_samples(field, rays, DEFAULT_STEP)
    weights = visible(field, samples, STOP).weights
    kept = weights > NEGLIGIBLE
    samples = samples.select(kept)
    return _Samples(samples.offsets.diff(), weights[kept], samples.u)


def _render(footprint: FieldFootprint, features: Tensor) -> Tensor:
    out = features.new_empty(footprint.pixels, features.shape[1])
    for part in footprint.chunks(features.shape[1]):
        values = kernels.voxel_interp(part.x.to(features), footprint.index, features)
        out[part.rays] = kernels.segment_sum(part.weights.to(features), values, part.offsets)
    return out


def _adjoint(footprint: FieldFootprint, pixels: Tensor) -> Tensor:
    out = pixels.new_zeros(footprint.elements, pixels.shape[1])
    for part in footprint.chunks(pixels.shape[1]):
        given = pixels[part.rays][kernels.ray_index(part.offsets)]
        given = part.weights.to(pixels)[:, None] * given
        with torch.enable_grad():
            features = torch.zeros_like(out, requires_grad=True)
            values = kernels.voxel_interp(part.x.to(pixels), footprint.index, features)
        out += torch.autograd.grad(values, features, given)[0]
    return out


class _Apply(torch.autograd.Function):
    """W or its adjoint, which is the derivative of the other: no sample's features are kept."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, footprint: FieldFootprint, adjoint: bool) -> Tensor:
        ctx.footprint, ctx.adjoint = footprint, adjoint
        return (_adjoint if adjoint else _render)(footprint, vectors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _Apply.apply(grads[0], ctx.footprint, not ctx.adjoint), None, None
