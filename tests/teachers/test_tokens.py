"""Token grids: where tokens stand, and how pixels look them up."""

from __future__ import annotations

import pytest
import torch

from geodistill.checks import ShapeError, UsageError
from geodistill.teachers import TokenGrid, token_bilinear, token_index


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
