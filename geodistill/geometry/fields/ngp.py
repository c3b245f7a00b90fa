"""Multi-resolution hash grid with a small MLP (Mueller et al., Instant-NGP, 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from geodistill import kernels
from geodistill.geometry.fields.base import ParamGroup
from geodistill.geometry.fields.decoder import PLAIN, DecoderConfig
from geodistill.geometry.fields.heads import HEAD_LR, Branch, Mlp


@dataclass(frozen=True)
class NgpConfig:
    """Hash-grid field. The reference size is that of torch-ngp and PVD."""

    levels: int = 14
    """Number of grid resolutions."""
    features: int = 2
    """Features per level."""
    log2_size: int = 19
    """Base-2 logarithm of the entries a level may hold."""
    base_resolution: int = 16
    """Coarsest resolution across the unit cube."""
    max_resolution: int = 2048
    """Finest resolution across the unit cube."""
    convention: Literal["torch-ngp", "tcnn", "nerfstudio"] = "torch-ngp"
    """Whose cell and hash layout the table follows."""
    hidden: int = 64
    """Width of the density network."""
    layers: int = 1
    """Hidden layers of the density network."""
    bias: bool = False
    """Whether its layers have biases."""
    resolutions: tuple[int, ...] | None = None
    """Nodes per axis of each level, where a file rounds otherwise than the convention says."""
    level_scale: float | None = None
    """Ratio of neighbouring levels, where a file states one that misses max_resolution."""
    box: tuple[float, ...] = ()
    """Low and high corner of what the grid spans in the unit cube; all of it when empty."""
    limits: tuple[float, ...] = ()
    """Least and greatest raw density, and those of the features, as PVD clamps them; or none."""
    decoder: DecoderConfig = PLAIN
    """From the latent to density and colour."""


class HashBranch(Branch):
    """Hash encoding -> density network -> latent."""

    def __init__(self, config: NgpConfig) -> None:
        super().__init__()
        self.spec = kernels.HashSpec(
            levels=config.levels,
            features=config.features,
            log2_size=config.log2_size,
            base_resolution=config.base_resolution,
            max_resolution=config.max_resolution,
            convention=config.convention,
            resolutions=config.resolutions,
            level_scale=config.level_scale,
        )
        table = torch.empty(self.spec.entries, config.features).uniform_(-1e-4, 1e-4)
        self.table = nn.Parameter(table)
        hidden = [config.hidden] * config.layers
        widths = (self.spec.width, *hidden, 1 + config.decoder.features)
        self.density_net = Mlp(*widths, bias=config.bias)

    def forward(self, u: Tensor) -> Tensor:
        return self.density_net(kernels.hash_encode((u + 1.0) * 0.5, self.table, self.spec))

    def param_groups(self) -> list[ParamGroup]:
        net = ParamGroup(list(self.density_net.parameters()), HEAD_LR)
        return [ParamGroup([self.table], 1e-2, "lazy-adam"), net]
