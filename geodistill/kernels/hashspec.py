"""Layout of a multi-resolution hash table, in the conventions of three common implementations."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from geodistill.checks import InputError, UsageError, choose

Convention = Literal["tcnn", "torch-ngp", "nerfstudio"]

MOST_LEVELS = 64
MOST_UNSURE, MOST_MISROUNDED = 16, 3
"""Levels that `fitting` looks at, and how many of them it takes to be rounded otherwise."""
PRIMES = (1, 2654435761, 805459861)

_CONVENTIONS = {"tcnn": "tcnn", "torch-ngp": "torch-ngp", "nerfstudio": "nerfstudio"}


@dataclass(frozen=True)
class HashSpec:
    """Which table entry holds which grid node, level by level (Mueller et al., Instant-NGP, 2022).

    A point `x` in the unit cube sits at `x * scales[l] + shift` in level `l`, between the 8 nodes
    around it. With `strides[l] = s > 0` node (i, j, k) is entry `(i + s (j + s k)) mod sizes[l]`
    of the level, with `s = 0` it is the hash of (i, j, k). Level `l` starts at `offsets[l]`.

    * `tcnn`: tiny-cuda-nn, instant-ngp, ngp_pl, nerfacc; coarse levels are dense.
    * `torch-ngp`: as tcnn with one more node per axis and its own rounding of the sizes.
    * `nerfstudio`: its torch implementation; every level is hashed, no shift by half a cell, and
      resolutions are powers in single precision, cut to whole numbers: 2048 may become 2047.
    """

    levels: int = 16
    features: int = 2
    log2_size: int = 19
    base_resolution: int = 16
    max_resolution: int = 2048
    convention: Convention = "tcnn"
    resolutions: tuple[int, ...] | None = None
    """Nodes per axis of each level, where a file rounds otherwise than we do (see `fitting`)."""
    level_scale: float | None = None
    """Ratio of neighbouring levels, where a file states one that misses `max_resolution`."""

    def __post_init__(self) -> None:
        choose("hash convention", self.convention, _CONVENTIONS)
        for name in ("levels", "features", "base_resolution"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.levels > MOST_LEVELS:
            raise UsageError(f"levels is {self.levels}; it must be at most {MOST_LEVELS}")
        if not 3 <= self.log2_size <= 28:
            raise UsageError(f"log2_size is {self.log2_size}; it must be from 3 to 28")
        if not self.base_resolution <= self.max_resolution < 2**24:
            raise UsageError(
                f"max_resolution is {self.max_resolution}; it must be from "
                f"base_resolution ({self.base_resolution}) to 2^24"
            )
        if self.level_scale is not None and not (
            1.0 <= self.level_scale < math.inf
            and (self.levels - 1) * math.log2(self.level_scale)
            < 24 - math.log2(self.base_resolution)
        ):
            raise UsageError(
                f"level_scale is {self.level_scale}; it must be at least 1 and lead to resolutions "
                "below 2^24"
            )
        if self.resolutions is not None and len(self.resolutions) != self.levels:
            raise UsageError(
                f"resolutions has {len(self.resolutions)} values for {self.levels} levels"
            )

    @cached_property
    def growth(self) -> float:
        """Ratio of the resolutions of neighbouring levels."""
        if self.level_scale is not None:
            return self.level_scale
        if self.levels == 1:
            return 1.0
        return math.exp(math.log(self.max_resolution / self.base_resolution) / (self.levels - 1))

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """Cells per unit length of each level; every value is exact in float32."""
        if self.convention == "nerfstudio":
            powers = np.float64(np.float32(self.growth)) ** np.arange(self.levels)
            single = np.float32(self.base_resolution) * powers.astype(np.float32)
            return tuple(float(v) for v in np.floor(single))
        log2_growth = np.float32(math.log2(self.growth))
        powers = np.exp2(np.arange(self.levels, dtype=np.float32) * log2_growth)
        return tuple(float(v) for v in powers * np.float32(self.base_resolution) - np.float32(1))

    @property
    def shift(self) -> float:
        """Added to the scaled position, in cells."""
        return 0.0 if self.convention == "nerfstudio" else 0.5

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """Nodes per axis of a dense level, 0 for a hashed one."""
        if self.convention == "nerfstudio":
            return (0,) * self.levels
        return tuple(
            n if n**3 <= size else 0 for n, size in zip(self._nodes, self.sizes, strict=True)
        )

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each level."""
        cap = 2**self.log2_size
        if self.convention == "nerfstudio":
            return (cap,) * self.levels
        return tuple(min(-(-(n**3) // 8) * 8, cap) for n in self._nodes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First entry of each level, and the total: levels + 1 values."""
        return tuple(itertools.accumulate(self.sizes, initial=0))

    @property
    def entries(self) -> int:
        """Rows of the table."""
        return self.offsets[-1]

    @property
    def width(self) -> int:
        """Columns of the encoding: levels * features."""
        return self.levels * self.features

    def fitting(self, entries: int) -> HashSpec:
        """The spec whose table has `entries` rows, if rounding alone can explain the difference.

        Implementations disagree by one node per axis where `base * growth**level` is a whole
        number, because they round the same power differently. Raises InputError where that is not
        enough.
        """
        if entries == self.entries:
            return self
        own, cap = self._nodes, 2**self.log2_size
        unsure = [
            i
            for i, v in enumerate(self._continuous_resolutions)
            if abs(v - round(v)) < 1e-3 and (own[i] - 1) ** 3 < cap
        ][:MOST_UNSURE]
        for count in range(1, min(len(unsure), MOST_MISROUNDED) + 1):
            for chosen in itertools.combinations(unsure, count):
                for steps in itertools.product((1, -1), repeat=count):
                    change = dict(zip(chosen, steps, strict=True))
                    trial = tuple(n + change.get(i, 0) for i, n in enumerate(own))
                    spec = replace(self, resolutions=trial)
                    if spec.entries == entries:
                        return spec
        raise InputError(
            f"a {self.convention} hash table of {self.levels} levels from resolution "
            f"{self.base_resolution} to {self.max_resolution} with log2_size {self.log2_size} has "
            f"{self.entries} entries, not {entries}: check levels, resolutions and log2_size"
        )

    @cached_property
    def _continuous_resolutions(self) -> tuple[float, ...]:
        return tuple(self.base_resolution * self.growth**i for i in range(self.levels))

    @cached_property
    def _nodes(self) -> tuple[int, ...]:
        if self.resolutions is not None:
            return self.resolutions
        if self.convention == "nerfstudio":
            return (2**24,) * self.levels
        if self.convention == "tcnn":
            return tuple(math.ceil(s) + 1 for s in self.scales)
        growth = self.level_scale or 2.0 ** (
            math.log2(self.max_resolution / self.base_resolution) / max(self.levels - 1, 1)
        )
        return tuple(math.ceil(self.base_resolution * growth**i) + 1 for i in range(self.levels))
