"""PointNet++: features of points from those around them, at coarser and coarser levels and back.

What is near what depends on the coordinates alone, and is found first: networks that see the same
points share it. Features are rows, those of a batch's clouds one behind the other.

Source: Qi et al., "PointNet++" (NeurIPS 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geodistill import kernels
from geodistill.checks import check

MOMENTUM = 0.1
NEIGHBORS = 3


@dataclass(frozen=True)
class Grouping:
    """How one level is made of the one before.

    Attributes:
        count: points of the level in a cloud.
        radii: of the balls about them, in metres.
        samples: points of each ball.
    """

    count: int
    radii: tuple[float, ...]
    samples: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Level:
    """Of B clouds with N points at the level before and M at this one.

    Attributes:
        xyz: [B, M, 3].
        groups: for each radius int64 [B M, K], rows of the level before.
        near: int32 [B N, 3], the rows of this level that are nearest to each of the one before;
            none where features do not come back.
        weights: [B N, 3], how much of each, their sum 1.
    """

    xyz: Tensor
    groups: tuple[Tensor, ...]
    near: Tensor
    weights: Tensor


def levels_of(xyz: Tensor, groupings: Sequence[Grouping], back: bool = True) -> list[Level]:
    """Levels of clouds [B, N, 3], each from the one before, and the way back.

    Raises ShapeError for another shape, InputError where a coordinate is not finite.
    """
    check(xyz=(xyz, "B N 3"))
    found: list[Level] = []
    for one in groupings:
        taken = kernels.farthest_points(xyz, one.count).long()
        centers = xyz.gather(1, taken[..., None].expand(-1, -1, 3))
        groups = [
            _rows(kernels.ball_query(xyz, centers, *pair), xyz.shape[1])
            for pair in zip(one.radii, one.samples, strict=True)
        ]
        near, weights = interpolation(xyz if back else xyz[:, :0], centers)
        found.append(Level(centers, tuple(group.long() for group in groups), near, weights))
        xyz = centers
    return found


def interpolation(xyz: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """How points [B, N, 3] are interpolated between their three nearest centres [B, M, 3]: rows
    int32 [B N, 3] of the centres, and weights [B N, 3] by the inverse of the distances."""
    index, squares = kernels.nearest_neighbors(centers, xyz, min(NEIGHBORS, centers.shape[1]))
    inverse = 1 / (squares.sqrt() + 1e-8)
    weights = inverse / inverse.sum(2, keepdim=True)
    return _rows(index, centers.shape[1]).contiguous(), weights.flatten(0, 1)


def _rows(index: Tensor, count: int) -> Tensor:
    """Numbers of points [B, M, K] in clouds of `count` as those of rows, [B M, K]."""
    first = torch.arange(len(index), device=index.device, dtype=index.dtype) * count
    return (index + first[:, None, None]).flatten(0, 1)


def layers(
    channels: int, widths: Sequence[int], norm: bool = True, epsilon: float = 1e-5
) -> nn.Sequential:
    """Linear layers over rows, each with batch norm, if any, and ReLU."""
    parts: list[nn.Module] = []
    for width in widths:
        parts.append(nn.Linear(channels, width, bias=not norm))
        if norm:
            parts.append(nn.BatchNorm1d(width, eps=epsilon, momentum=MOMENTUM))
        parts.append(nn.ReLU())  # not in place: losses may compare what it is given
        channels = width
    return nn.Sequential(*parts)


class SetAbstraction(nn.Module):
    """Features of a level: for each radius, the greatest of what layers make of a ball's points, of
    which they know the way from the centre and the features.

    Args:
        channels: of the level before.
        widths: of the layers, for each radius.
        norm, epsilon: see `layers`.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[Sequence[int]],
        norm: bool = True,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        scales = (layers(channels + 3, own, norm, epsilon) for own in widths)
        self.scales = nn.ModuleList(scales)

    def forward(self, xyz: Tensor, features: Tensor, level: Level) -> Tensor:
        """Of points [B, N, 3] with features [B N, C]: [B M, D]."""
        rows, centers = xyz.flatten(0, 1), level.xyz.flatten(0, 1)
        found = []
        for scale, group in zip(self.scales, level.groups, strict=True):
            flat, (count, samples) = group.flatten(), group.shape
            away = rows[flat] - centers.repeat_interleave(samples, 0)
            made = scale(torch.cat([away, features.index_select(0, flat)], 1))
            found.append(made.view(count, samples, -1).amax(1))
        return torch.cat(found, 1)


class FeaturePropagation(nn.Module):
    """Features of a level from the coarser one after it, and from its own.

    Args:
        channels: of both together.
        widths: of the layers.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = layers(channels, widths)

    def forward(self, features: Tensor, coarse: Tensor, level: Level) -> Tensor:
        """Of rows [B N, C] and those of the level after [B M, D]: [B N, E]."""
        between = kernels.gather(coarse, level.near, level.weights)
        return self.layers(torch.cat([between, features], 1))
