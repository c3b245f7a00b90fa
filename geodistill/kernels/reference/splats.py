"""Screen-space Gaussians composited front to back, one tile of the image after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 16
"""Side of a tile in pixels."""
MAX_ALPHA = 0.99
"""What a Gaussian covers at most: 1 - alpha must never be zero, since gradients divide by it."""
MIN_ALPHA = 1 / 255
"""Less than this an 8-bit image does not show; it bounds the region that a Gaussian reaches."""
STOP = 1e-4
"""A pixel ends in front of the Gaussian that would let less light than this pass."""

_FLAT = 1e-6
_MARGIN = 0.01


@dataclass(frozen=True, eq=False)
class SplatPlan:
    """Which Gaussians each tile of an image sees, front to back; tiles go row by row."""

    size: tuple[int, int]  # (H, W)
    extents: Tensor  # float32 [N, 2] half width and height in pixels where drawn; < 0: nowhere
    offsets: Tensor  # int64 [tiles + 1], where the Gaussians of each tile begin
    elements: Tensor  # int32 [offsets[-1]]


class Splatted(NamedTuple):
    """An image, row by row."""

    pixels: Tensor  # [H * W, C] weighted sums of the features
    opacity: Tensor  # [H * W] sum of the weights


class TileWeights(NamedTuple):
    """The footprint of a tile: P pixels, K Gaussians, front to back."""

    pixels: Tensor  # int64 [P] in the image
    elements: Tensor  # int64 [K]
    weights: Tensor  # [P, K]


def splat_plan(
    means_px: Tensor, conics: Tensor, opacities: Tensor, depths: Tensor, size: tuple[int, int]
) -> SplatPlan:
    wide = torch.float32 if means_px.device.type == "mps" else torch.float64
    mean, conic, opacity = (v.detach().to(wide) for v in (means_px, conics, opacities))
    reach = torch.log(opacity / MIN_ALPHA)
    extents = _extents(conic, reach)
    tiles = torch.tensor([-(-side // TILE) for side in size[::-1]], device=mean.device)
    first = ((mean - extents - 0.5) / TILE).floor().clamp(min=0).minimum(tiles.to(wide)).long()
    last = ((mean + extents - 0.5) / TILE).floor().clamp(min=-1).minimum(tiles.to(wide) - 1).long()
    spans = (last - first + 1).clamp(min=0).masked_fill((extents < 0).any(1)[:, None], 0)
    order = torch.sort(depths.detach(), stable=True).indices
    counts = spans.prod(1)[order]
    element = torch.repeat_interleave(order, counts)
    within = torch.arange(len(element), device=mean.device)
    within = within - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    width = spans[element, 0]
    tile_xy = first[element] + torch.stack([within % width, within // width], 1)
    keep = _reaches(tile_xy, mean[element], conic[element], reach[element])
    tile, element = (tile_xy[:, 1] * tiles[0] + tile_xy[:, 0])[keep], element[keep]
    tile, by_tile = torch.sort(tile, stable=True)
    offsets = F.pad(torch.bincount(tile, minlength=int(tiles.prod())).cumsum(0), (1, 0))
    return SplatPlan(size, extents.float(), offsets, element[by_tile].int())


def _extents(conic: Tensor, reach: Tensor) -> Tensor:
    """Half width and height [N, 2] of the ellipse where alpha is MIN_ALPHA."""
    a, b, c = conic.unbind(1)
    det = a * c - b * b
    known = det > _FLAT * a * c
    squares = 2 * reach[:, None] * torch.stack([c, a], 1) / torch.where(known, det, 1.0)[:, None]
    extents = (squares.clamp(min=0).sqrt() + _MARGIN).clamp(max=1e9)
    return torch.where(known[:, None], extents, 1e9).masked_fill((reach < 0)[:, None], -1.0)


def _reaches(tile_xy: Tensor, mean: Tensor, conic: Tensor, reach: Tensor) -> Tensor:
    """Whether alpha reaches MIN_ALPHA on a tile's rectangle of pixel centres. [M]

    The form is convex and zero at the mean: seen from there, its minimum over the rectangle lies on
    an edge that faces the mean.
    """
    a, b, c = conic.unbind(1)
    low = tile_xy * TILE + 0.5 - mean
    high = low + (TILE - 1)
    nearest = torch.where(low > 0, low, high).where((low > 0) | (high < 0), 0.0)
    x, y = nearest.unbind(1)
    y_on = (-b * x / c).nan_to_num(0.0, 0.0, 0.0).clamp(low[:, 1], high[:, 1])
    x_on = (-b * y / a).nan_to_num(0.0, 0.0, 0.0).clamp(low[:, 0], high[:, 0])

    def shortfall(dx: Tensor, dy: Tensor) -> Tensor:
        squares = a * dx * dx + c * dy * dy
        return 0.5 * squares + b * dx * dy - _FLAT * squares

    over_x = shortfall(x, y_on).where(x != 0, torch.inf)
    over_y = shortfall(x_on, y).where(y != 0, torch.inf)
    inside = (x == 0) & (y == 0)
    return inside | (torch.minimum(over_x, over_y) <= reach + _MARGIN)


def splat_tiles(
    means_px: Tensor, conics: Tensor, opacities: Tensor, plan: SplatPlan
) -> Iterator[TileWeights]:
    """The weights of every tile that sees anything."""
    height, width = plan.size
    columns = -(-width // TILE)
    bounds = plan.offsets.tolist()
    side = torch.arange(TILE, device=means_px.device)
    for tile, (begin, end) in enumerate(pairwise(bounds)):
        if begin == end:
            continue
        y = (side + tile // columns * TILE)[:, None].expand(TILE, TILE).reshape(-1)
        x = (side + tile % columns * TILE).expand(TILE, TILE).reshape(-1)
        inside = (x < width) & (y < height)
        x, y = x[inside], y[inside]
        element = plan.elements[begin:end].long()
        mean = means_px[element]
        dx = x.to(mean)[:, None] + 0.5 - mean[:, 0]
        dy = y.to(mean)[:, None] + 0.5 - mean[:, 1]
        yield TileWeights(
            y * width + x, element, _weights(dx, dy, conics[element], opacities[element])
        )


def _weights(dx: Tensor, dy: Tensor, conic: Tensor, opacity: Tensor) -> Tensor:
    """Weights [P, K] of Gaussians that lie front to back. (Kerbl et al. 2023, eq. 3)"""
    a, b, c = conic.unbind(-1)
    # Rounding can make the form of a needle negative; it is not brighter than at its mean.
    form = (0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy).clamp(min=0)
    alpha = (opacity * torch.exp(-form)).clamp(max=MAX_ALPHA)
    alpha = alpha.where(alpha >= MIN_ALPHA, 0.0)
    after = (1 - alpha).cumprod(dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    return (before * alpha).where(after >= STOP, 0.0)


def splat(
    means_px: Tensor, conics: Tensor, opacities: Tensor, features: Tensor, plan: SplatPlan
) -> Splatted:
    height, width = plan.size
    pixels = features.new_zeros(height * width, features.shape[1])
    opacity = features.new_zeros(height * width)
    index, sums, totals = [], [], []
    for tile in splat_tiles(means_px, conics, opacities, plan):
        index.append(tile.pixels)
        sums.append(tile.weights @ features[tile.elements])
        totals.append(tile.weights.sum(dim=1))
    if not index:
        # The result of nothing is still a function of its inputs.
        nothing = sum(v.sum() * 0.0 for v in (means_px, conics, opacities, features))
        return Splatted(pixels + nothing, opacity + nothing)
    where = torch.cat(index)
    pixels = pixels.index_copy(0, where, torch.cat(sums))
    return Splatted(pixels, opacity.index_copy(0, where, torch.cat(totals)))


def splat_adjoint(
    means_px: Tensor, conics: Tensor, opacities: Tensor, pixels: Tensor, plan: SplatPlan
) -> Tensor:
    out = pixels.new_zeros(len(means_px), pixels.shape[1])
    for tile in splat_tiles(means_px, conics, opacities, plan):
        out.index_add_(0, tile.elements, tile.weights.T @ pixels[tile.pixels])
    return out
