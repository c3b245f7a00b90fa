"""The numbers of the PVD recipe and the schedule they make."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from geodistill.distill.pvd.active import ActiveSettings


@dataclass(frozen=True)
class PvdSettings:
    """The recipe's numbers. Every term is the norm of the whole batch's differences, not a mean."""

    iterations: int = 30_000
    """Length of the published schedule; a budget of any length runs through all of it."""
    points_from: int = 2_000
    """Iteration at which colours and densities of points join the features."""
    rays_from: int = 5_000
    """Iteration at which composited rays join."""
    poses: int = 312
    """Viewpoints of an epoch. Each is one step's camera, then all are drawn anew; a budget that is
    short in steps needs fewer for active cameras to see several epochs."""
    resolution: int = 800
    """Pixels along a viewpoint's longer side."""
    rays: int = 4096
    """Pixels of a step."""
    step: float = 2.0 * math.sqrt(3.0) / 1024
    """March step in scene radii."""
    raw_min: float = -2.0
    """Log-density per scene radius below which fields count as equal."""
    raw_max: float = 7.0
    """Log-density above which fields count as equal."""
    feature_weight: float = 0.002
    """Of the latent difference, in the first iteration."""
    feature_decay: float = 0.995
    """Factor on the feature weight per iteration."""
    rgb_weight: float = 0.002
    """Of the colour difference at points."""
    log_density_weight: float = 0.002
    """Of the difference of clamped log-densities at points."""
    ray_weight: float = 1.0
    """Of the difference of composited colours."""
    factors_weight: float = 1e-4
    """Of the mean absolute value of a tensorf student's density factors."""
    lr: float = 1e-2
    """Initial learning rate."""
    lr_end: float = 7e-5
    """Where a cosine takes it; the other rates fall by the same factor."""
    mlp_lr: float = 1e-3
    """Initial learning rate of mlp students."""
    tensorf_head_lr: float = 1e-3
    """Initial learning rate of a tensorf student's colour head and basis."""
    weight_decay: float = 0.01
    """Decoupled, of every parameter."""
    active: ActiveSettings = field(default_factory=ActiveSettings)
    """What counts as hard at PVD-AL's levels."""


def loss_weights(settings: PvdSettings, progress: float, shared: bool) -> dict[str, float]:
    """The weight of every term at this fraction of the budget; a term that is off is absent.

    Args:
        settings: the schedule.
        progress: from 0 to 1.
        shared: whether latents can be compared. If not, there is no feature stage.
    """
    weights = {}
    if shared:
        iteration = progress * settings.iterations
        weights["feature"] = settings.feature_weight * settings.feature_decay**iteration
    if progress >= settings.points_from / settings.iterations or not shared:
        weights["rgb"] = settings.rgb_weight
        weights["log_density"] = settings.log_density_weight
    if progress >= settings.rays_from / settings.iterations:
        weights["ray"] = settings.ray_weight
        weights["factors"] = settings.factors_weight
    return weights


def stage_of(weights: Mapping[str, float]) -> int:
    """1 features, 2 points, 3 rays."""
    return 3 if "ray" in weights else 2 if "rgb" in weights else 1
