"""Sparse voxels with spherical harmonics, no network (Fridovich-Keil et al., Plenoxels, 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geodistill import kernels
from geodistill.geometry.fields.activations import spherical_harmonics
from geodistill.geometry.fields.base import Field, ParamGroup

SH_DEGREE = 2
DENSITY_UNIT = 1000.0
"""Density per scene radius that a raw value of 1 stands for: raw values and harmonics then have
like magnitudes, and one learning rate suits both."""
EPS = 1e-7
"""Adam's epsilon. Nodes that few rays see have gradients below it: they move little and keep what
they started with, where Adam's usual full steps fit them to these few rays."""
CHANNELS = 1 + 3 * (SH_DEGREE + 1) ** 2


@dataclass(frozen=True)
class PlenoxelsConfig:
    """Sparse voxel field; memory grows with the nodes that are kept, not with resolution^3."""

    resolution: int = 256
    """Nodes per axis, at cell centres as in svox2."""


class Plenoxels(Field):
    """sigma = 1000 relu(trilinear raw), rgb = max(SH(d) . k + 1/2, 0).

    `links` int32 [R, R, R] holds each node's row in `values` [M, 28], or -1 where it is empty.
    `values` are [raw density, 9 harmonics of red, of green, of blue].
    """

    config: PlenoxelsConfig
    links: Tensor

    def __init__(self, config: PlenoxelsConfig) -> None:
        super().__init__("plenoxels", config)
        res = config.resolution
        self.register_buffer("links", torch.full((res, res, res), -1, dtype=torch.int32))
        self.values = nn.Parameter(torch.zeros(0, CHANNELS))

    def allocate(self, nodes: Tensor, values: Tensor | None = None) -> None:
        """Keep the nodes where the bool grid [R, R, R] is True, in index order.

        Args:
            nodes: which nodes exist from now on.
            values: [nodes.sum(), 28], zeros by default.
        """
        count = int(nodes.sum())
        rows = torch.full(nodes.shape, -1, dtype=torch.int32, device=nodes.device)
        rows[nodes] = torch.arange(count, dtype=torch.int32, device=nodes.device)
        if values is None:
            values = torch.zeros(count, CHANNELS, device=nodes.device)
        self.links, self.values = rows, nn.Parameter(values)

    def node_positions(self, index: Tensor) -> Tensor:
        """Unit-cube positions of integer node indices. [N, 3] -> [N, 3]"""
        return (index + 0.5) * (2.0 / self.links.shape[0]) - 1.0

    def latent(self, u: Tensor) -> Tensor:
        return kernels.voxel_interp(self._grid(u), self.links, self.values)

    def sigma(self, u: Tensor) -> Tensor:
        return self.sigma_of(kernels.voxel_interp(self._grid(u), self.links, self.values[:, :1]))

    def _grid(self, u: Tensor) -> Tensor:
        return (u + 1.0) * (self.links.shape[0] / 2) - 0.5

    def sigma_of(self, latent: Tensor) -> Tensor:
        return DENSITY_UNIT * torch.relu(latent[:, 0])

    def rgb_of(self, latent: Tensor, directions: Tensor) -> Tensor:
        basis = spherical_harmonics(directions, SH_DEGREE)
        weights = latent[:, 1:].unflatten(1, (3, -1))
        return ((weights * basis[:, None, :]).sum(dim=-1) + 0.5).clamp_min(0.0)

    def param_groups(self) -> list[ParamGroup]:
        return [ParamGroup([self.values], 1e-2, "lazy-adam", eps=EPS)]
