"""Smoothing on a surface: constants, what it damps, and what it keeps apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from geodistill.checks import UsageError
from geodistill.lift.smooth import smoothed


def ball(count: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(count, 3, generator=draw, dtype=torch.float64), dim=1)


def test_a_constant_stays_itself() -> None:
    points, value = ball(500), torch.tensor([[2.0, -3.0]]).expand(500, 2)
    for normals in (None, points.float()):
        found = smoothed(value, torch.ones(500), points, 0.1, normals)
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-5)


def test_noise_goes_and_shape_stays() -> None:
    points = ball(20_000)
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(20_000, 1, generator=draw)
    found = smoothed(noise, torch.ones(20_000), points, 0.1, points.float())
    assert float(found.std()) < 0.15
    slow = points[:, :1].float()
    found = smoothed(slow, torch.ones(20_000), points, 0.05, points.float())
    assert float((found - slow).abs().max()) < 0.03


def test_its_width_is_the_standard_deviation() -> None:
    """A step across a plane becomes the Gaussian's integral, within what tents differ from it."""
    x = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    plane = torch.stack([x, torch.zeros_like(x), torch.zeros_like(x)], 1)
    found = smoothed((x > 0).float()[:, None], torch.ones(4001), plane, 0.1)[:, 0]
    wanted = 0.5 * (1 + torch.erf(x / (0.1 * math.sqrt(2))))
    # Where the step falls in a cell shifts it by up to half of one.
    assert float((found - wanted).abs().mean()) < 0.03
    spread = float(((found > 0.16) & (found < 0.84)).double().mean())
    assert 0.07 < spread < 0.14


def test_the_sides_of_a_thin_sheet_stay_apart() -> None:
    grid = torch.cartesian_prod(torch.linspace(0, 1, 30), torch.linspace(0, 1, 30)).double()
    top, bottom = (F.pad(grid, (0, 1), value=z) for z in (0.001, -0.001))
    points = torch.cat([top, bottom])
    normals = torch.cat([torch.tensor([[0.0, 0.0, s]]).expand(900, 3) for s in (1.0, -1.0)])
    side = torch.cat([torch.ones(900, 1), -torch.ones(900, 1)])
    kept = smoothed(side, torch.ones(1800), points, 0.1, normals)
    torch.testing.assert_close(kept, side)
    mixed = smoothed(side, torch.ones(1800), points, 0.1)
    assert float(mixed.abs().max()) < 0.1


def test_elements_without_mass_take_what_is_around_them() -> None:
    points, mass = ball(2000), torch.ones(2000)
    values = torch.ones(2000, 1)
    values[:100], mass[:100] = 99.0, 0.0
    found = smoothed(values, mass, points, 0.2, points.float())
    torch.testing.assert_close(found, torch.ones(2000, 1))
    alone = torch.cat([points, torch.tensor([[9.0, 9.0, 9.0]], dtype=torch.float64)])
    found = smoothed(torch.cat([values, torch.tensor([[7.0]])]), F.pad(mass, (0, 1)), alone, 0.2)
    assert float(found[-1]) == 7.0


def test_strays_change_nothing_elsewhere() -> None:
    points = ball(3000)
    far = torch.tensor([[1e6, 0.0, 0.0], [-1e6, 5.0, 1e5]], dtype=torch.float64)
    values, strays = points[:, 1:2].float(), torch.tensor([[9.0], [-9.0]])
    alone = smoothed(values, torch.ones(3000), points, 0.1)
    width = 2e6 / (1 << 20) / 3**0.5  # the least that a grid over all of them has
    found = smoothed(torch.cat([values, strays]), torch.ones(3002), torch.cat([points, far]), 0.1)
    assert width > 1 and torch.equal(found[3000:], strays)
    near = torch.cat([points, far / 1e4])
    found = smoothed(torch.cat([values, strays]), torch.ones(3002), near, 0.1)
    assert float((found[:3000] - alone).abs().max()) < 0.08
    assert float(found[:3000].std()) > 0.5


def test_a_width_must_be_positive() -> None:
    with pytest.raises(UsageError, match="must be positive, got 0"):
        smoothed(torch.ones(4, 1), torch.ones(4), ball(4), 0.0)
