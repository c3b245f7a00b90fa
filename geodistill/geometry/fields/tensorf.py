"""Tensorial radiance fields: vector-matrix (VM) and CP factors (Chen et al., TensoRF, 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geodistill import kernels
from geodistill.geometry.fields.base import ParamGroup
from geodistill.geometry.fields.decoder import PLAIN, DecoderConfig
from geodistill.geometry.fields.heads import Branch

FACTOR_LR = 2e-2
CP_LR = 4e-2
BASIS_LR = 1e-3


@dataclass(frozen=True)
class TensorfConfig:
    """VM field: per mode, density_rank + color_rank products of a plane and a line."""

    resolution: int = 300
    """Nodes per axis."""
    density_rank: int = 16
    """Components per mode for log-density."""
    color_rank: int = 48
    """Components per mode for appearance."""
    floor: float = -8.0
    """Raw density of the field whose factors are all zero: transparent."""
    grid: tuple[int, ...] = ()
    """Nodes along x, y and z, where they differ."""
    box: tuple[float, ...] = ()
    """Low and high corner of what the grid spans in the unit cube; all of it when empty."""
    limits: tuple[float, ...] = ()
    """Least and greatest raw density, and those of the features, as PVD clamps them; or none."""
    decoder: DecoderConfig = PLAIN
    """From the latent to density and colour."""


@dataclass(frozen=True)
class TensorfCpConfig:
    """CP field: products of three lines."""

    resolution: int = 300
    """Nodes per axis."""
    density_rank: int = 96
    """Components for log-density."""
    color_rank: int = 288
    """Components for appearance."""
    floor: float = -8.0
    """Raw density of the field whose factors are all zero: transparent."""
    grid: tuple[int, ...] = ()
    """Nodes along x, y and z, where they differ."""
    box: tuple[float, ...] = ()
    """Low and high corner of what the grid spans in the unit cube; all of it when empty."""
    limits: tuple[float, ...] = ()
    """Least and greatest raw density, and those of the features, as PVD clamps them; or none."""
    decoder: DecoderConfig = PLAIN
    """From the latent to density and colour."""


class FactoredBranch(Branch):
    """raw = floor + sum of density components; g = basis @ appearance components."""

    basis: nn.Parameter
    density_lines: nn.ParameterList
    color_lines: nn.ParameterList
    resolution: int
    floor: float

    def appearance(self, u: Tensor) -> Tensor:
        """Appearance components before the basis. [N, 3] -> [N, K]"""
        raise NotImplementedError

    def forward(self, u: Tensor) -> Tensor:
        return self._latent(self.raw(u), u)

    def raw_first(self, u: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        raw = self.raw(u)
        return raw, lambda index: self._latent(raw[index], u[index])

    def _latent(self, raw: Tensor, u: Tensor) -> Tensor:
        features = kernels.fused_mlp(self.appearance(u), (self.basis,))
        return torch.cat([raw[:, None], features], dim=1)


class VmBranch(FactoredBranch):
    """Vector-matrix decomposition, eq. 4 and 5 of the paper. Factors are channel-last."""

    def __init__(self, config: TensorfConfig) -> None:
        super().__init__()
        self.resolution, self.floor = config.resolution, config.floor
        planes, lines = plane_shapes(config), line_shapes(config)
        self.density_planes = _factors(0.1, planes, config.density_rank)
        self.density_lines = _factors(0.1, lines, config.density_rank)
        self.color_planes = _factors(0.1, planes, config.color_rank)
        self.color_lines = _factors(0.1, lines, config.color_rank)
        self.basis = _basis(config.decoder.features, 3 * config.color_rank)

    def raw(self, u: Tensor) -> Tensor:
        parts = kernels.plane_line(u, tuple(self.density_planes), tuple(self.density_lines))
        return self.floor + parts.flatten(1).sum(dim=1)

    def appearance(self, u: Tensor) -> Tensor:
        parts = kernels.plane_line(u, tuple(self.color_planes), tuple(self.color_lines))
        return parts.flatten(1)

    def param_groups(self) -> list[ParamGroup]:
        planes = [*self.density_planes, *self.color_planes]
        lines = [*self.density_lines, *self.color_lines]
        return [
            ParamGroup(planes, FACTOR_LR, "lazy-adam"),
            ParamGroup(lines, FACTOR_LR),
            ParamGroup([self.basis], BASIS_LR),
        ]


class CpBranch(FactoredBranch):
    """CANDECOMP/PARAFAC decomposition, eq. 2 of the paper."""

    def __init__(self, config: TensorfCpConfig) -> None:
        super().__init__()
        self.resolution, self.floor = config.resolution, config.floor
        self.density_lines = _factors(0.2, line_shapes(config), config.density_rank)
        self.color_lines = _factors(0.2, line_shapes(config), config.color_rank)
        self.basis = _basis(config.decoder.features, config.color_rank)

    def raw(self, u: Tensor) -> Tensor:
        return self.floor + kernels.line_product(u, tuple(self.density_lines)).sum(dim=1)

    def appearance(self, u: Tensor) -> Tensor:
        return kernels.line_product(u, tuple(self.color_lines))

    def param_groups(self) -> list[ParamGroup]:
        lines = [*self.density_lines, *self.color_lines]
        return [
            ParamGroup(lines, CP_LR),
            ParamGroup([self.basis], BASIS_LR),
        ]


def plane_shapes(config: TensorfConfig) -> list[tuple[int, int]]:
    """Rows and columns of the planes (x, y), (x, z), (y, z): columns run along the first axis."""
    x, y, z = _nodes(config)
    return [(y, x), (z, x), (z, y)]


def line_shapes(config: TensorfConfig | TensorfCpConfig) -> list[tuple[int]]:
    """Nodes of the lines along z, y, x."""
    x, y, z = _nodes(config)
    return [(z,), (y,), (x,)]


def _nodes(config: TensorfConfig | TensorfCpConfig) -> tuple[int, ...]:
    return config.grid or (config.resolution,) * 3


def _factors(std: float, shapes: Sequence[tuple[int, ...]], rank: int) -> nn.ParameterList:
    return nn.ParameterList(nn.Parameter(std * torch.randn(*shape, rank)) for shape in shapes)


def _basis(features: int, columns: int) -> nn.Parameter:
    bound = columns**-0.5
    return nn.Parameter(torch.empty(features, columns).uniform_(-bound, bound))
