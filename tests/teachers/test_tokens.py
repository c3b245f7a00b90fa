"""Token grids: where tokens stand, and how pixels look them up."""

from __future__ import annotations

import pytest
import torch

from geodistill.checks import ShapeError, UsageError
from geodistill.teachers import TokenGrid, token_bilinear, token_index, token_surface


def centres(grid: TokenGrid) -> torch.Tensor:
    """(x, y) of every token, [h * w, 2], through the affine map."""
    rows, columns = grid.size
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    homogeneous = torch.stack([column, row, torch.ones_like(row)], dim=-1).double()
    return (homogeneous @ grid.pixel_from_token.T).reshape(-1, 2)


def pixel_centres(size: tuple[int, int]) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2).double() + 0.5


GRIDS = [
    ((3, 5), (4.0, 6.0), (2.0, 3.0)),
    ((1, 2), (9.0, 3.5), (1.0, 5.0)),
    ((4, 1), (2.5, 7), (0, 0)),
]


@pytest.mark.parametrize("shape, stride, first", GRIDS)
def test_the_nearest_token_is_found(
    shape: tuple[int, int], stride: tuple[float, float], first: tuple[float, float]
) -> None:
    grid = TokenGrid(torch.zeros(1, *shape, 2), stride, first)
    size = (11, 29)
    index = token_index(grid, size)
    assert index.dtype == torch.int32 and index.shape == (11 * 29,)
    distance = torch.cdist(pixel_centres(size), centres(grid))
    chosen = distance.gather(1, index.long()[:, None])[:, 0]
    torch.testing.assert_close(chosen, distance.min(dim=1).values)


@pytest.mark.parametrize("shape, stride, first", GRIDS)
def test_bilinear_weights_reproduce_linear_functions(
    shape: tuple[int, int], stride: tuple[float, float], first: tuple[float, float]
) -> None:
    grid = TokenGrid(torch.zeros(1, *shape, 2), stride, first)
    size = (11, 29)
    index, weights = token_bilinear(grid, size)
    assert index.dtype == torch.int32 and index.shape == weights.shape == (11 * 29, 4)
    assert weights.dtype == torch.float32 and weights.min() >= 0
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(11 * 29))
    places = centres(grid)
    found = (places[index.long()] * weights[..., None]).sum(dim=1)
    inside = pixel_centres(size)
    inside = torch.minimum(torch.maximum(inside, places.amin(0)), places.amax(0))
    torch.testing.assert_close(found, inside, rtol=0, atol=1e-5)


def test_at_token_centres_one_token_has_all_the_weight() -> None:
    grid = TokenGrid(torch.zeros(1, 3, 3, 1), (2.0, 2.0), (0.5, 0.5))
    index, weights = token_bilinear(grid, (5, 5))
    weight, place = weights.reshape(5, 5, 4)[::2, ::2].max(dim=-1)
    assert torch.equal(weight, torch.ones(3, 3))
    chosen = index.reshape(5, 5, 4)[::2, ::2].gather(-1, place[..., None])[..., 0]
    assert torch.equal(chosen, torch.arange(9, dtype=torch.int32).reshape(3, 3))


def test_bad_requests() -> None:
    with pytest.raises(ShapeError, match=r"tokens must have shape \[_, _, _, _\], got \[3, 3, 1\]"):
        TokenGrid(torch.zeros(3, 3, 1), (1.0, 1.0), (0.0, 0.0))
    grid = TokenGrid(torch.zeros(1, 3, 3, 1), (1.0, 1.0), (0.0, 0.0))
    for look_up in (token_index, token_bilinear):
        with pytest.raises(UsageError, match=r"an image's size must be .*, got \(0, 4\)"):
            look_up(grid, (0, 4))


EDGE = 36
"""Column, in the middle of a patch, where the two sheets meet."""


def two_sheets() -> tuple[TokenGrid, torch.Tensor, torch.Tensor]:
    """A picture whose left half shows something near and its right half something far behind."""
    tokens = torch.arange(32.0).view(1, 4, 8, 1)
    grid = TokenGrid(tokens, (8.0, 8.0), (4.0, 4.0))
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(64.0), indexing="ij")
    points = torch.stack([x, y, torch.where(x < EDGE, 0.0, 500.0)], dim=-1)
    return grid, points, torch.ones(32, 64)


def test_surface_shares_are_shares() -> None:
    grid, points, trust = two_sheets()
    trust[:, :5] = 0
    index, mix = token_surface(grid, points, trust, 8.0)
    assert index.dtype == torch.int32 and index.shape == mix.shape == (32 * 64, 16)
    shown = trust.reshape(-1) > 0
    torch.testing.assert_close(mix[shown].sum(1), torch.ones(int(shown.sum())))
    assert bool((mix >= 0).all()) and bool((index[~shown] == -1).all())
    assert not mix[~shown].any() and bool((index[shown] >= 0).all())


def test_nothing_passes_from_one_surface_to_another() -> None:
    grid, points, trust = two_sheets()
    index, mix = token_surface(grid, points, trust, 8.0)
    column = torch.arange(32 * 64) % 64
    for near in (True, False):
        side = (column < EDGE) == near
        # Patches that lie on the other sheet alone.
        other = index[side] % 8 > 4 if near else index[side] % 8 < 4
        assert float((mix[side] * other).max()) < 1e-6


def test_on_a_plane_it_is_smooth_and_follows_the_tokens() -> None:
    grid, points, trust = two_sheets()
    points[..., 2] = 0
    ramp = torch.arange(8.0).repeat(4)
    index, mix = token_surface(grid, points, trust, 8.0)
    shown = (ramp[index.long()] * mix).sum(1).view(32, 64)
    steps = shown[:, 1:] - shown[:, :-1]
    assert float(steps.min()) > -1e-4 and float(steps.max()) < 0.25
    inner = torch.arange(16, 48)
    torch.testing.assert_close(shown[16, inner], (inner + 0.5 - 4) / 8, rtol=0, atol=0.12)


def test_patches_that_show_nothing_are_not_looked_up() -> None:
    grid, points, trust = two_sheets()
    trust[:, 16:] = 0
    index, mix = token_surface(grid, points, trust, 1e-3)
    used = index[mix > 0].unique()
    assert bool((used % 8 < 2).all())
    assert bool(torch.isfinite(mix).all())
