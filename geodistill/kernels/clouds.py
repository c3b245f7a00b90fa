"""Neighbours in clouds of points, as PointNet++ samples and groups them.

Source: Qi et al., "PointNet++" (NeurIPS 2017), section 3.2.
"""

from __future__ import annotations

from torch import Tensor

from geodistill.checks import UsageError, check, check_finite
from geodistill.kernels.table import implementation


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Points far from each other: the first, then always that farthest from all taken so far.

    points: [B, N, 3], N at least 1.  count: how many.  Returns int32 [B, count], indices; of
    equally far ones the first is taken, so the first point again when all others are. No gradient.
    """
    check(points=(points, "B N 3"))
    check_finite(points=points)
    _check_counts(points, count=count)
    return implementation("farthest_points", points)(points, count)


def ball_query(points: Tensor, centers: Tensor, radius: float, most: int) -> Tensor:
    """The first points that are nearer to each centre than a radius.

    points: [B, N, 3], N at least 1.  centers: [B, M, 3].  most: how many of them.  Returns int32
    [B, M, most], indices in rising order; where there are fewer, the first of them stands in the
    places that are left, and point 0 where there is none. No gradient.
    """
    check(points=(points, "B N 3"), centers=(centers, "B M 3"))
    check_finite(points=points, centers=centers)
    _check_counts(points, most=most)
    if not 0 < radius < float("inf"):
        raise UsageError(f"radius must be positive and finite, got {radius}")
    return implementation("ball_query", points, centers)(points, centers, radius, most)


def nearest_neighbors(points: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The points nearest to each query.

    points: [B, N, 3].  queries: [B, M, 3].  count: how many, at most N.  Returns int32
    [B, M, count], indices, nearest first and of equally near ones the first, and their squared
    distances [B, M, count]. No gradient.
    """
    check(points=(points, "B N 3"), queries=(queries, "B M 3"))
    check_finite(points=points, queries=queries)
    _check_counts(points, count=count)
    if count > points.shape[1]:
        raise UsageError(
            f"count must be at most the number of points {points.shape[1]}, got {count}"
        )
    return implementation("nearest_neighbors", points, queries)(points, queries, count)


def _check_counts(points: Tensor, **counts: int) -> None:
    if points.shape[1] < 1:
        raise UsageError("a cloud needs at least one point, got none")
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"{name} must be at least 1, got {count}")
