"""Sparse voxels with spherical harmonics, no network (Fridovich-Keil et al., Plenoxels, 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geodistill import kernels
from geodistill.geometry.fields.base import Field, ParamGroup
from geodistill.geometry.fields.decoder import box_corners, harmonic_color

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
    """Nodes per axis, at cell centres as in svox2."""
    grid: tuple[int, ...] = ()
    """Nodes along x, y and z, where they differ."""
    sh_degree: int = 2
    """Of the harmonics of colour."""
    box: tuple[float, ...] = ()
    """Low and high corner of what the grid spans in the unit cube; all of it when empty."""


class Plenoxels(Field):
    """sigma = 1000 relu(trilinear raw), rgb = max(SH(d) . k + 1/2, 0).

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
        """Unit-cube positions of integer node indices. [N, 3] -> [N, 3]"""
        return (index + 0.5) * (2.0 / self.links.shape[0]) - 1.0

    def latent(self, u: Tensor) -> Tensor:
        return self._interpolated(u, self.values)

    def sigma(self, u: Tensor) -> Tensor:
        return self.sigma_of(self._interpolated(u, self.values[:, :1]))

    def _interpolated(self, u: Tensor, values: Tensor) -> Tensor:
        if self.box is None and not self.config.grid:
            grid = (u + 1.0) * (self.links.shape[0] / 2) - 0.5
            return kernels.voxel_interp(grid, self.links, values)
        low, high = (self.box if self.box is not None else UNIT_BOX).to(u)
        nodes = u.new_tensor(self.links.shape)
        found = kernels.voxel_interp((u - low) / (high - low) * nodes - 0.5, self.links, values)
        inside = ((u >= low) & (u <= high)).all(dim=1)
        return found * inside[:, None]

    def sigma_of(self, latent: Tensor) -> Tensor:
        return DENSITY_UNIT * torch.relu(latent[:, 0])

    def rgb_of(self, latent: Tensor, directions: Tensor) -> Tensor:
        return harmonic_color(latent[:, 1:], directions)

    def param_groups(self) -> list[ParamGroup]:
        return [ParamGroup([self.values], 1e-2, "lazy-adam", eps=EPS)]
