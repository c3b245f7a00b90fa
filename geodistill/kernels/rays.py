"""Samples along rays: marching and compositing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geodistill.checks import UsageError, check
from geodistill.kernels.arguments import check_offsets
from geodistill.kernels.reference import (
    Composite,
    Samples,
)
from geodistill.kernels.table import implementation


def march(
    origins: Tensor,
    directions: Tensor,
    near: Tensor,
    far: Tensor,
    step: float,
    occupancy: Tensor,
    jitter: Tensor | None = None,
    max_samples: int = 1024,
) -> Samples:
    """Sample rays at near + (k + jitter) * step, k = 0, 1, ..., before far, in occupied cells only.

    origins, directions: [N, 3] in the frame where the grid fills [-1, 1]^3; any length.
    near, far: [N] in units of the direction; near >= far gives no samples.  step: in these units.
    occupancy: bool or uint8 [X, Y, Z] over [-1, 1]^3; outside it is empty.
    jitter: [N] in [0, 1), the middle of each interval (0.5) where it is None.
    max_samples: per ray; the first ones are kept.
    Returns Samples(offsets int64 [N+1], t [S], dt [S]); no gradient.
    """
    check(
        origins=(origins, "N 3"),
        directions=(directions, "N 3"),
        near=(near, "N"),
        far=(far, "N"),
        occupancy=(occupancy, "_ _ _"),
        **({} if jitter is None else {"jitter": (jitter, "N")}),
    )
    if not step > 0:
        raise UsageError(f"step must be positive, got {step}")
    floats = (origins, directions, near, far, *(() if jitter is None else (jitter,)))
    run = implementation("march", *floats)
    with torch.no_grad():
        return run(origins, directions, near, far, step, occupancy, jitter, max_samples)


def ray_weights(sigma: Tensor, dt: Tensor, offsets: Tensor) -> Tensor:
    """Volume-rendering weights w_i = T_i (1 - exp(-sigma_i dt_i)). Gradients: sigma, dt.

    sigma, dt: [S];  offsets: int64 [N+1], the samples of ray n are offsets[n]:offsets[n+1].
    Returns [S].  Source: Max, "Optical models for direct volume rendering", 1995.
    """
    check(sigma=(sigma, "S"), dt=(dt, "S"))
    check_offsets(offsets, len(sigma))
    return implementation("ray_weights", sigma, dt)(sigma, dt, offsets)


def segment_sum(weights: Tensor, values: Tensor, offsets: Tensor) -> Tensor:
    """Weighted sum over the samples of each ray. Gradients: weights, values.

    weights: [S];  values: [S, C];  offsets: int64 [N+1].  Returns [N, C]; empty rays get zeros.
    """
    check(weights=(weights, "S"), values=(values, "S C"))
    check_offsets(offsets, len(weights))
    return implementation("segment_sum", weights, values)(weights, values, offsets)


def composite(sigma: Tensor, dt: Tensor, values: Sequence[Tensor], offsets: Tensor) -> Composite:
    """`ray_weights`, and `segment_sum` of every one of `values`, in one pass over the rays.

    sigma, dt: [S];  values: any number of [S, C];  offsets: int64 [N+1].
    Returns Composite(weights [S], opacity [N], sums: one [N, C] for each of `values`).
    Gradients: sigma, dt, values.
    """
    check(
        sigma=(sigma, "S"),
        dt=(dt, "S"),
        **{f"values[{i}]": (v, "S _") for i, v in enumerate(values)},
    )
    check_offsets(offsets, len(sigma))
    return implementation("composite", sigma, dt, *values)(sigma, dt, values, offsets)
