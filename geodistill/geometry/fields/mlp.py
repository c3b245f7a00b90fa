"""The classic positional-encoding network (Mildenhall et al., NeRF, 2020), with the shared head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodistill.geometry.fields.activations import positional_encoding
from geodistill.geometry.fields.base import ParamGroup
from geodistill.geometry.fields.decoder import PLAIN, DecoderConfig, sines
from geodistill.geometry.fields.heads import Branch, Mlp
from geodistill.kernels.precision import has_native_bf16

TRUNK_LR = 2e-2


@dataclass(frozen=True)
class MlpConfig:
    """Positional encoding -> depth x width trunk with one skip -> latent."""

    depth: int = 8
    """Linear layers of the trunk."""
    width: int = 256
    """Hidden width."""
    octaves: int = 10
    """Frequencies of the positional encoding."""
    bf16: bool = True
    """Multiply in bfloat16 where the processor does it natively; parameters stay float32."""
    frequencies: tuple[float, ...] = ()
    """Of the positional encoding, instead of octaves."""
    skip: int | None = None
    """The layer of the trunk after which the encoding enters again; the middle one by default."""
    trunk_out: int = 28
    """Width of the trunk's output: by default a drop-in for a 14 x 2 hash encoding, as in PVD."""
    hidden: tuple[int, ...] = (64,)
    """Widths of the hidden layers between the trunk and the latent."""
    bias: bool = False
    """Whether these layers have biases; those of the trunk do."""
    box: tuple[float, ...] = ()
    """Low and high corner of what the network spans in the unit cube; all of it when empty."""
    limits: tuple[float, ...] = ()
    """Least and greatest raw density, and those of the features, as PVD clamps them; or none."""
    decoder: DecoderConfig = PLAIN
    """From the latent to density and colour."""


class MlpBranch(Branch):
    """The encoding enters again after the first half of the trunk."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        self.config = config
        encoded = 3 * (2 * (len(config.frequencies) or config.octaves) + 1)
        self.skip = (config.depth - 1) // 2 if config.skip is None else config.skip
        fan_in = [encoded] + [
            config.width + (encoded if i == self.skip else 0) for i in range(config.depth - 1)
        ]
        fan_out = [config.width] * (config.depth - 1) + [config.trunk_out]
        self.trunk = nn.ModuleList(nn.Linear(i, o) for i, o in zip(fan_in, fan_out, strict=True))
        widths = (config.trunk_out, *config.hidden, 1 + config.decoder.features)
        self.density_net = Mlp(*widths, bias=config.bias)

    def forward(self, u: Tensor) -> Tensor:
        encoded = self._encoded(u)
        fast = self.config.bf16 and has_native_bf16(u.device)
        with torch.autocast(u.device.type, dtype=torch.bfloat16, enabled=fast):
            hidden = encoded
            for i, layer in enumerate(self.trunk):
                hidden = layer(hidden)
                if i < len(self.trunk) - 1:
                    hidden = F.relu(hidden)
                if i == self.skip:
                    hidden = torch.cat([hidden, encoded.to(hidden.dtype)], dim=1)
        return self.density_net(hidden.to(u.dtype))

    def _encoded(self, u: Tensor) -> Tensor:
        if not self.config.frequencies:
            return positional_encoding(u, self.config.octaves)
        return torch.cat([u, sines(u, self.config.frequencies)], dim=1)

    def param_groups(self) -> list[ParamGroup]:
        wide = [p for p in self.trunk.parameters() if p.ndim == 2]
        rest = [p for p in self.trunk.parameters() if p.ndim == 1]
        rest += self.density_net.parameters()
        return [ParamGroup(wide, TRUNK_LR, "muon"), ParamGroup(rest, 1e-3)]
