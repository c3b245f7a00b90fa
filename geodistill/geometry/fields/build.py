"""The table of architectures and how one is made from a name and a configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch

from geodistill.checks import UsageError, choose
from geodistill.geometry.fields.base import Field
from geodistill.geometry.fields.composite import CompositeConfig, SumBranch
from geodistill.geometry.fields.decoder import (
    DecodedField,
    DecoderConfig,
    check_box,
    check_decoder,
    check_limits,
    is_plain,
)
from geodistill.geometry.fields.heads import Branch, LatentField
from geodistill.geometry.fields.mlp import MlpBranch, MlpConfig
from geodistill.geometry.fields.ngp import HashBranch, NgpConfig
from geodistill.geometry.fields.plenoxels import Plenoxels, PlenoxelsConfig
from geodistill.geometry.fields.tensorf import CpBranch, TensorfConfig, TensorfCpConfig, VmBranch


@dataclass(frozen=True)
class Architecture:
    """How to build one kind of field.

    `branch` is None for fields without a latent network. The default config is the reference size.
    """

    config: type
    branch: Callable[[Any], Branch] | None
    small: Any


_SMALL_NGP = NgpConfig(log2_size=16, max_resolution=1024)
_SMALL_VM = TensorfConfig(resolution=160)

ARCHITECTURES: Mapping[str, Architecture] = {
    "ngp": Architecture(NgpConfig, HashBranch, _SMALL_NGP),
    "tensorf": Architecture(TensorfConfig, VmBranch, _SMALL_VM),
    "tensorf-cp": Architecture(TensorfCpConfig, CpBranch, TensorfCpConfig(resolution=160)),
    "plenoxels": Architecture(PlenoxelsConfig, None, PlenoxelsConfig(resolution=128)),
    "mlp": Architecture(MlpConfig, MlpBranch, MlpConfig(depth=4, width=128, octaves=9)),
    "composite": Architecture(
        CompositeConfig,
        SumBranch,
        CompositeConfig(ngp=_SMALL_NGP, tensorf=TensorfConfig(128, 8, 24)),
    ),
}


SMALLEST = {"resolution": 8, "depth": 2, "skip": 0, "sh_degree": 0}
"""Least values of sizes; that of every other size is 1."""


LARGEST = 1e6
"""Greatest magnitude of a setting that is no size."""


def check_config(config: Any, prefix: str = "") -> None:
    """Raise UsageError for a size that is too small and for a number that is not finite or huge."""
    for field in fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        least = SMALLEST.get(field.name, 1)
        if is_dataclass(value):
            check_config(value, f"{name}.")
        elif isinstance(value, int) and not isinstance(value, bool) and value < least:
            raise UsageError(f"'{name}' must be at least {least}, got {value}")
        elif isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"'{name}' must be finite, got {value}")
        elif isinstance(value, float) and abs(value) > LARGEST:
            raise UsageError(f"'{name}' must be from -{LARGEST:g} to {LARGEST:g}, got {value}")
        elif isinstance(value, tuple):
            _check_tuple(name, field.name, value)
    if isinstance(config, DecoderConfig):
        check_decoder(config, prefix)
    if isinstance(config, PlenoxelsConfig) and config.sh_degree > 3:
        raise UsageError(f"'{prefix}sh_degree' must be from 0 to 3, got {config.sh_degree}")


def _check_tuple(name: str, key: str, value: tuple[Any, ...]) -> None:
    """The same for several numbers; "box" and "grid" have six and three or none."""
    least = {"grid": 2, "resolutions": 2, "hidden": 1}.get(key)
    for number in value:
        if least is not None and number < least:
            raise UsageError(f"every number of '{name}' must be at least {least}, got {number}")
        if not math.isfinite(number) or abs(number) > LARGEST:
            raise UsageError(f"'{name}' must hold finite numbers to {LARGEST:g}, got {number}")
    if key == "box":
        check_box(value)
    if key == "limits":
        check_limits(value)
    if key == "grid" and len(value) not in (0, 3):
        raise UsageError(f"'{name}' must have three numbers of nodes, got {len(value)}")


def expect_trainable(config: Any) -> None:
    """Raise UsageError for a grid of a form that only files of other programs have."""
    for name in ("grid", "box", "resolutions", "level_scale"):
        if getattr(config, name, None):
            raise UsageError(f"'{name}' is of fields that are read from files: leave it out")


def build_field(architecture: str, config: Any, seed: int = 0) -> Field:
    """A freshly initialised field.

    Args:
        architecture: a key of `ARCHITECTURES`.
        config: an instance of that architecture's config class.
        seed: of the initial parameters.

    Raises:
        UsageError: unknown architecture, or a size that is too small.
    """
    branch = choose("field architecture", architecture, ARCHITECTURES).branch
    check_config(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if branch is None:
            return Plenoxels(config)
        made = LatentField if is_plain(config) else DecodedField
        return made(architecture, config, branch(config))
