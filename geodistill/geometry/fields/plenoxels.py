"""Sparse voxels with spherical harmonics, no network (Fridovich-Keil et al., Plenoxels, 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from geodistill import kernels
from geodistill.geometry.fields.activations import truncated_exp
from geodistill.geometry.fields.base import Field, ParamGroup
from geodistill.geometry.fields.decoder import (
    NOWHERE,
    box_corners,
    harmonic_color,
    harmonic_sums,
)
from geodistill.geometry.fields.heads import limited

DENSITY_UNIT = 1000.0
"""Density per scene radius that a raw value of 1 stands for: raw values and harmonics then have
like magnitudes, and one learning rate suits both."""
UNIT_BOX = torch.tensor([[-1.0], [1.0]]).expand(2, 3)
EPS = 1e-7
"""Adam's epsilon. Nodes that few rays see have gradients below it: they move little and keep what
they started with, where Adam's usual full steps fit them to these few rays."""
CHANNELS = 28
"""Values of a node with harmonics of degree 2."""


@dataclass(frozen=True)
class PlenoxelsConfig:
    """Sparse voxel field; memory grows with the nodes that are kept, not with resolution^3."""

    resolution: int = 256
    """Nodes per axis."""
    grid: tuple[int, ...] = ()
    """Nodes along x, y and z, where they differ."""
    sh_degree: int = 2
    """Of the harmonics of colour."""
    box: tuple[float, ...] = ()
    """Low and high corner of what the grid spans in the unit cube; all of it when empty."""
    nodes: Literal["centres", "borders"] = "centres"
    """Where the nodes stand: at the centres of equal cells as in svox2, or from border to border as
    in PVD."""
    density: Literal["relu", "exp"] = "relu"
    """Of the raw density: 1000 relu(raw) as in svox2, or exp(raw) as in PVD."""
    limits: tuple[float, ...] = ()
    """Least and greatest raw density, as PVD clamps it; or none."""
    color: Literal["shifted", "sigmoid"] = "shifted"
    """Of the harmonics' sum: max(sum + 1/2, 0) as in svox2, or sigmoid(sum) as in PVD."""


class Plenoxels(Field):
    """sigma = 1000 relu(trilinear raw), rgb = max(SH(d) . k + 1/2, 0), unless the config says
    otherwise.

    `links` int32 [X, Y, Z] holds each node's row in `values` [M, C], or -1 where it is empty.
    `values` are [raw density, K harmonics of red, of green, of blue]; 28 for degree 2.
    """

    config: PlenoxelsConfig
    links: Tensor

    def __init__(self, config: PlenoxelsConfig) -> None:
        super().__init__("plenoxels", config)
        self.box = box_corners(config.box)
        shape = config.grid or (config.resolution,) * 3
        self.register_buffer("links", torch.full(shape, -1, dtype=torch.int32))
        self.values = nn.Parameter(torch.zeros(0, self.channels))

    @property
    def channels(self) -> int:
        """Values of a node."""
        return 1 + 3 * (self.config.sh_degree + 1) ** 2

    def allocate(self, nodes: Tensor, values: Tensor | None = None) -> None:
        """Keep the nodes where the bool grid [X, Y, Z] is True, in index order.

        Args:
            nodes: which nodes exist from now on.
            values: [nodes.sum(), channels], zeros by default.
        """
        count = int(nodes.sum())
        rows = torch.full(nodes.shape, -1, dtype=torch.int32, device=nodes.device)
        rows[nodes] = torch.arange(count, dtype=torch.int32, device=nodes.device)
        if values is None:
            values = torch.zeros(count, self.channels, device=nodes.device)
        self.links, self.values = rows, nn.Parameter(values)

    def node_positions(self, index: Tensor) -> Tensor:
        """Unit-cube positions of integer node indices, cell centres. [N, 3] -> [N, 3]"""
        return (index + 0.5) * (2.0 / self.links.shape[0]) - 1.0

    def latent(self, u: Tensor) -> Tensor:
        return self._interpolated(u, self.values)

    def sigma(self, u: Tensor) -> Tensor:
        return self.sigma_of(self._interpolated(u, self.values[:, :1]))

    def _interpolated(self, u: Tensor, values: Tensor) -> Tensor:
        plain = self.box is None and not self.config.grid and self.config.nodes == "centres"
        if plain:
            grid = (u + 1.0) * (self.links.shape[0] / 2) - 0.5
            return limited(kernels.voxel_interp(grid, self.links, values), self.config.limits)
        low, high = (self.box if self.box is not None else UNIT_BOX).to(u)
        part, nodes = (u - low) / (high - low), u.new_tensor(self.links.shape)
        centred = self.config.nodes == "centres"
        grid = part * nodes - 0.5 if centred else part * (nodes - 1.0)
        found = kernels.voxel_interp(grid, self.links, values)
        inside = ((u >= low) & (u <= high)).all(dim=1)
        outside = 0.0 if self.config.density == "relu" else NOWHERE
        return torch.where(inside[:, None], limited(found, self.config.limits), outside)

    def sigma_of(self, latent: Tensor) -> Tensor:
        if self.config.density == "exp":
            return truncated_exp(latent[:, 0])
        return DENSITY_UNIT * torch.relu(latent[:, 0])

    def rgb_of(self, latent: Tensor, directions: Tensor) -> Tensor:
        if self.config.color == "sigmoid":
            return torch.sigmoid(harmonic_sums(latent[:, 1:], directions))
        return harmonic_color(latent[:, 1:], directions)

    def param_groups(self) -> list[ParamGroup]:
        return [ParamGroup([self.values], 1e-2, "lazy-adam", eps=EPS)]
