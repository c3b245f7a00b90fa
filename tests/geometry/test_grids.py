"""Which nodes a cell's points are interpolated from, against the hat functions themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geodistill.geometry.grids import nodes_near


def hat_oracle(occupancy: Tensor, resolution: int, centred: bool) -> Tensor:
    """Nodes whose hat function is positive at one of many sample points of an occupied cell."""
    size = occupancy.shape[0]
    inner = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    x = ((torch.arange(size)[:, None] + inner) / size).double()  # [G, 64] in [0, 1]
    position = x * resolution - 0.5 if centred else x * (resolution - 1)
    position = position.clamp(0, resolution - 1)
    node = torch.arange(resolution, dtype=torch.float64)
    touched = ((position[..., None] - node).abs() < 1 - 1e-9).any(dim=1).double()  # [G, R]
    reached = torch.einsum("xyz,xi,yj,zk->ijk", occupancy.double(), touched, touched, touched)
    return reached > 0


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(("size", "resolution"), [(8, 8), (8, 5), (4, 13), (9, 7), (6, 24)])
def test_nodes_are_those_whose_hat_reaches_an_occupied_cell(
    size: int, resolution: int, centred: bool
) -> None:
    occupancy = torch.rand(size, size, size, generator=torch.Generator().manual_seed(0)) < 0.02
    occupancy[-1, 0, size // 2] = True
    assert torch.equal(
        nodes_near(occupancy, resolution, centred), hat_oracle(occupancy, resolution, centred)
    )


@pytest.mark.parametrize("centred", [True, False])
def test_nothing_needs_no_node_and_everything_needs_all(centred: bool) -> None:
    empty = torch.zeros(6, 6, 6, dtype=torch.bool)
    assert not nodes_near(empty, 11, centred).any()
    assert nodes_near(~empty, 11, centred).all()
