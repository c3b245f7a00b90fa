"""The numbers of fitting splats to posed images, and the ranges that make sense."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from geodistill.checks import UsageError
from geodistill.fit.densify.adaptive import Adaptive
from geodistill.fit.densify.mcmc import Mcmc
from geodistill.fit.densify.strategy import Strategy
from geodistill.fit.starts import FEWEST

StrategyName = Literal["default", "mcmc"]
MOST_SPLATS = 10**7


@dataclass(frozen=True)
class SplatFitConfig:
    """How splats are fitted to posed images."""

    start: int = 20_000
    """Splats at the start, where the data set has no points; at most so many of its points."""
    degree: int = 3
    """Of the harmonics at the end."""
    resolution: int = 800
    """Pixels along the longer side of what is trained on, at most."""
    ssim: float = 0.2
    """Weight of the structural dissimilarity in the loss, beside the mean absolute error."""
    default: Adaptive = field(default_factory=Adaptive)
    """The strategy of that name."""
    mcmc: Mcmc = field(default_factory=Mcmc)
    """The strategy of that name."""

    def strategy(self, name: StrategyName) -> Strategy:
        return self.default if name == "default" else self.mcmc


SMALL = SplatFitConfig(start=5_000, degree=1, resolution=200)
"""For a first look."""

_SHARES = ("opacity", "ssim", "faint", "start", "stop", "every", "reset_every")
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(_SHARES, (0.0, 1.0)),
    **dict.fromkeys(("steps", "reset_steps"), (1, 10**9)),
    **dict.fromkeys(("opacity_weight", "scale_weight"), (0.0, 100.0)),
    **dict.fromkeys(("small", "large", "gradient"), (0.0, 10**6)),
    "opacity": (0.01, 0.99),
    "faint": (1e-4, 0.4),
    "width": (0.01, 10.0),
    "growth": (0.0, 10.0),
    "noise": (0.0, 1e9),
    "degree": (0, 3),
    "resolution": (16, 10**4),
}


def check_config(config: SplatFitConfig) -> None:
    """Raise UsageError, naming the setting, for what no splats can be fitted with."""
    _expect_in_range("start", config.start, (FEWEST, MOST_SPLATS))
    _check(config, "", skipped="start")


def check_count(name: str, count: int) -> None:
    """Raise UsageError for a number of splats that cannot be."""
    _expect_in_range(name, count, (FEWEST, MOST_SPLATS))


def _check(config: Any, prefix: str, skipped: str = "") -> None:
    for one in fields(config):
        value = getattr(config, one.name)
        if is_dataclass(value):
            _check(value, f"{prefix}{one.name}.")
        elif one.name != skipped:
            _expect_in_range(prefix + one.name, value, _RANGES[one.name])


def _expect_in_range(name: str, value: float, limits: tuple[float, float]) -> None:
    low, high = limits
    if not low <= value <= high:
        low, high = (f"{limit:,}" if isinstance(limit, int) else f"{limit:g}" for limit in limits)
        raise UsageError(f"'{name}' must be from {low} to {high}, got {value}")
