"""Sums of Gaussians: the library, the reference, and a loop over all of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geodistill import kernels
from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.kernels import reference


def scene(count: int = 40, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    axes = torch.randn(count, 3, 3, generator=draw) * 0.08
    means = torch.rand(count, 3, generator=draw) * 2.4 - 1.2
    return means, axes @ axes.mT + 1e-4 * torch.eye(3), torch.rand(count, generator=draw)


def in_a_loop(x: Tensor, means: Tensor, spread: Tensor, peaks: Tensor, f: Tensor) -> Tensor:
    out = torch.zeros(len(x), 1 + f.shape[1], dtype=torch.float64)
    for i in range(len(means)):
        d = (x - means[i]).double()
        q = (d @ torch.linalg.inv(spread[i].double()) * d).sum(1)
        w = torch.where(q < 9.0, peaks[i] * torch.exp(-0.5 * q), 0.0)
        out += w[:, None] * torch.cat([torch.ones(1), f[i]]).double()
    return out


@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize("side", [1, 5, 32])
def test_both_implementations_are_the_sum_over_all(channels: int, side: int) -> None:
    means, spread, peaks = scene()
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(3000, 3, generator=draw) * 2 - 1
    features = torch.randn(40, channels, generator=draw)
    grid = kernels.gather_gaussians(means, spread, peaks, side)
    expected = in_a_loop(x, means, spread, peaks, features)
    assert expected[:, 0].count_nonzero() > 500
    for module in (kernels, reference):
        found = module.gaussian_sums(x, grid, features).double()
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_gaussian_outside_the_cube_is_in_no_cell() -> None:
    means = torch.tensor([[3.0, 0, 0], [0.0, 0, 0]])
    grid = kernels.gather_gaussians(means, 0.01 * torch.eye(3).expand(2, 3, 3), torch.ones(2), 4)
    assert set(grid.members.tolist()) == {1} and int(grid.starts[-1]) == len(grid.members)


def test_the_grid_is_made_coarser_where_its_lists_would_not_fit(monkeypatch) -> None:
    monkeypatch.setattr("geodistill.kernels.gaussians.MOST_PAIRS", 100)
    grid = kernels.gather_gaussians(*scene(), 32)
    assert grid.side < 32 and len(grid.members) <= 100


def test_what_cannot_be_gathered() -> None:
    means, spread, peaks = scene()
    with pytest.raises(InputError, match="covariances must be positive definite"):
        kernels.gather_gaussians(means, torch.zeros_like(spread), peaks, 4)
    with pytest.raises(InputError, match="peaks"):
        kernels.gather_gaussians(means, spread, peaks * torch.nan, 4)
    with pytest.raises(UsageError, match="side must be at least 1"):
        kernels.gather_gaussians(means, spread, peaks, 0)
    with pytest.raises(ShapeError, match="features"):
        grid = kernels.gather_gaussians(means, spread, peaks, 4)
        kernels.gaussian_sums(means, grid, torch.zeros(3, 2))
