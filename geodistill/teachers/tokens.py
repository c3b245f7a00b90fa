"""Grids of patch features, and how pixels look them up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.checks import UsageError, check


@dataclass(frozen=True, eq=False)
class TokenGrid:
    """Features of the patches of B images.

    Attributes:
        tokens: float32 [B, h, w, C].
        stride_px: (down, across), pixels of the given image from one token to the next.
        first_px: (down, across), the centre of token (0, 0), with pixel centres at +0.5. Row i and
            column j stand at `first_px + (i, j) * stride_px`.
    """

    tokens: Tensor
    stride_px: tuple[float, float]
    first_px: tuple[float, float]

    def __post_init__(self) -> None:
        check(tokens=(self.tokens, "_ _ _ _"))

    @property
    def size(self) -> tuple[int, int]:
        """(h, w), tokens down and across."""
        return self.tokens.shape[1], self.tokens.shape[2]

    @property
    def pixel_from_token(self) -> Tensor:
        """float64 [2, 3], the affine map (x, y) = A @ (column, row, 1)."""
        (down, across), (top, left) = self.stride_px, self.first_px
        return torch.tensor([[across, 0.0, left], [0.0, down, top]], dtype=torch.float64)


def token_index(grid: TokenGrid, size: tuple[int, int]) -> Tensor:
    """The nearest token of every pixel of an image. int32 [H * W], into the h * w tokens of one.

    Raises UsageError for an empty size.
    """
    rows, columns = (_positions(grid, size, axis).round().long() for axis in (0, 1))
    return _flat(grid, rows, columns).reshape(-1)


def token_bilinear(grid: TokenGrid, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The four tokens around every pixel, and their bilinear weights.

    Returns int32 [H * W, 4] into the h * w tokens of one image, and float32 [H * W, 4] >= 0 that
    sum to 1. Pixels outside of the outermost token centres take what stands at the border.

    Raises UsageError for an empty size.
    """
    rows, columns = (_positions(grid, size, axis) for axis in (0, 1))
    (top, bottom, down), (left, right, across) = _around(rows), _around(columns)
    index = torch.stack(
        [_flat(grid, row, column) for row in (top, bottom) for column in (left, right)]
    )
    weights = torch.stack(
        [torch.outer(a, b) for a in (1 - down, down) for b in (1 - across, across)]
    )
    return index.reshape(4, -1).T.contiguous(), weights.reshape(4, -1).T.float().contiguous()


def token_surface(
    grid: TokenGrid, points: Tensor, trust: Tensor, reach: Tensor | float
) -> tuple[Tensor, Tensor]:
    """The sixteen tokens around every pixel, weighted by how near they are on the surface.

    Weights are a tent of two tokens' width in the image, times a Gaussian of the distance between
    the pixel's point and the mean point of what is trusted of the token's patch, times how much of
    the patch that is. So little passes from one surface to another that is beside it only in the
    picture.
    Source: Kopf et al., "Joint Bilateral Upsampling", 2007, with points in place of colours.

    Args:
        grid: of the one image.
        points: [H, W, 3], the surface point under each pixel.
        trust: [H, W] >= 0; pixels of zero show nothing.
        reach: the Gaussian's standard deviation, in units of the points; [H, W], or of all pixels.

    Returns int32 [H * W, 16] into the tokens, negative for pixels that show nothing, and float32
    [H * W, 16] >= 0, which sum to 1 for the others.
    """
    check(points=(points, "H W 3"), trust=(trust, "H W"))
    size = (trust.shape[0], trust.shape[1])
    shown = (trust.reshape(-1) > 0).nonzero()[:, 0]
    place = points.reshape(-1, 3)[shown].float()
    if isinstance(reach, Tensor):
        check(reach=(reach, f"{size[0]} {size[1]}"))
        reach = reach.reshape(-1, 1)[shown]
    home = token_index(grid, size)[shown].long()
    filled = torch.bincount(home, minlength=grid.size[0] * grid.size[1]).float()
    centre = place.new_zeros(len(filled), 3).index_add_(0, home, place)
    centre = centre / filled.clamp_min(1)[:, None]
    rows, columns = (_positions(grid, size, axis).float() for axis in (0, 1))
    tents = [_tent(at, count) for at, count in zip((rows, columns), grid.size, strict=True)]
    (row, down), (column, across) = tents
    y, x = shown // size[1], shown % size[1]
    index = (row[y][:, :, None] * grid.size[1] + column[x][:, None]).reshape(-1, 16)
    weights = (down[y][:, :, None] * across[x][:, None]).reshape(-1, 16)
    weights = weights * filled[index]
    squared = (centre[index] - place[:, None]).square().sum(dim=-1)
    squared = torch.where(weights > 0, squared, torch.inf)
    # The nearest patch has weight whatever the distance, so that no pixel is left without.
    nearest = squared.amin(dim=1, keepdim=True)
    weights = weights * torch.exp(0.5 * (nearest - squared) / reach**2)
    full = torch.full((size[0] * size[1], 16), -1, dtype=torch.int32, device=index.device)
    mix = weights.new_zeros(full.shape)
    full[shown] = index.int()
    mix[shown] = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-30)
    return full, mix


def _tent(positions: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The four tokens about each place of an axis, [P, 4], and weights that fall to 0 two away."""
    index = positions.floor().long()[:, None] + torch.arange(-1, 3, device=positions.device)
    weights = (1 - 0.5 * (positions[:, None] - index).abs()).clamp_min(0)
    inside = (index >= 0) & (index < count)
    return index.clamp(0, count - 1), weights * inside


def _positions(grid: TokenGrid, size: tuple[int, int], axis: int) -> Tensor:
    """Where the pixel centres of an axis stand in the grid, in tokens, kept inside of it."""
    if min(size) < 1:
        raise UsageError(f"an image's size must be (height, width) of at least 1, got {size}")
    centers = torch.arange(size[axis], device=grid.tokens.device, dtype=torch.float64) + 0.5
    positions = (centers - grid.first_px[axis]) / grid.stride_px[axis]
    return positions.clamp(0, grid.size[axis] - 1)


def _around(positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low = positions.floor()
    return low.long(), positions.ceil().long(), positions - low


def _flat(grid: TokenGrid, rows: Tensor, columns: Tensor) -> Tensor:
    return (rows[:, None] * grid.size[1] + columns[None]).int()
