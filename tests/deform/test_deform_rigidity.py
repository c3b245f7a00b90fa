"""The as-rigid-as-possible polish."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from geodistill.cameras import rotations
from geodistill.checks import UsageError
from geodistill.deform.rigidity import polish
from geodistill.deform.surface import Surface, surface_of
from tests.deform.shapes import blob, grid, joined, sphere


def bent(surface: Surface) -> tuple[Tensor, Tensor]:
    """One end held, the other lifted, a hard step between."""
    x = surface.positions
    high = x[:, 0] > 0.9 * float(x[:, 0].max())
    posed = x.clone()
    posed[high] += torch.tensor([0.0, 0.0, 0.5])
    return posed, high | (x[:, 0] < 0.1)


def test_energy_never_rises_and_held_positions_stay() -> None:
    surface = surface_of(grid(25, 13, (2.0, 1.0)))
    posed, held = bent(surface)
    relaxed, energies = polish(surface, posed, held, 15)
    assert len(energies) == 16
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(energies))
    assert energies[-1] < 0.05 * energies[0]
    assert torch.equal(relaxed[held], posed[held])
    assert (relaxed[~held] - posed[~held]).norm(dim=1).max() > 0.05


def test_what_is_larger_than_the_reach_stays_as_posed() -> None:
    surface = surface_of(grid(41, 21, (2.0, 1.0)))
    x = surface.positions
    noise = torch.randn(len(x), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bump = torch.zeros_like(x)
    bump[:, 2] = 0.4 * torch.sin(torch.pi * x[:, 0] / 2)
    posed = x + bump
    posed[:, 2] += 0.02 * noise
    held = torch.zeros(len(x), dtype=torch.bool)
    held[0] = True
    near, energies = polish(surface, posed, held, 20, 0.1)
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(energies))
    left, before = (near - x - bump)[1:], (posed - x - bump)[1:]
    assert left.norm(dim=1).mean() < 0.5 * before.norm(dim=1).mean()
    free, _ = polish(surface, posed, held, 20)
    assert (free - x - bump).norm(dim=1).mean() > 2 * left.norm(dim=1).mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_rigid_motion_is_left_alone_and_found_again(seed: int) -> None:
    surface = surface_of(blob(seed))
    x = surface.positions
    draw = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    target = x @ rotations(draw[0]).T + draw[1]
    held = torch.zeros(len(x), dtype=torch.bool)
    held[::40] = True
    same, energies = polish(surface, target, held, 2)
    torch.testing.assert_close(same, target, atol=1e-9, rtol=0)
    assert max(energies) < 1e-12
    noisy = target + 0.02 * torch.randn(len(x), 3, generator=torch.Generator().manual_seed(9))
    noisy[held] = target[held]
    found, _ = polish(surface, noisy, held, 40)
    assert (found - target).norm(dim=1).max() < 0.1 * (noisy - target).norm(dim=1).max()


def test_a_component_without_a_held_position_stays() -> None:
    surface = surface_of(joined(grid(9, 9), sphere(9)))
    posed = surface.positions * 1.1
    held = torch.zeros(len(posed), dtype=torch.bool)
    held[:5] = True
    relaxed, _ = polish(surface, posed, held, 3)
    assert torch.equal(relaxed[81:], posed[81:]) and not torch.equal(relaxed[:81], posed[:81])
    held[:] = False
    assert torch.equal(polish(surface, posed, held, 3)[0], posed)


def test_slivers_do_no_harm() -> None:
    mesh = grid(15, 15)
    mesh.vertices[112] = mesh.vertices[113] + 1e-12
    surface = surface_of(mesh)
    posed, held = bent(surface)
    relaxed, energies = polish(surface, posed, held, 5)
    assert relaxed.isfinite().all() and energies[-1] < energies[0]


def test_no_iterations() -> None:
    surface = surface_of(grid(3, 3))
    with pytest.raises(UsageError, match="at least one iteration"):
        polish(surface, surface.positions, torch.ones(9, dtype=torch.bool), 0)
    with pytest.raises(UsageError, match="positive reach"):
        polish(surface, surface.positions, torch.ones(9, dtype=torch.bool), 1, 0.0)
