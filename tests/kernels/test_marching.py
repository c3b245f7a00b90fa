"""Ray marching against a loop that looks at every lattice point of every ray."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill import kernels
from geodistill.kernels import library, reference

needs_library = pytest.mark.skipif(library.LIBRARY is None, reason=kernels.library_status())
both = pytest.mark.parametrize(
    "module", [reference, pytest.param(kernels, marks=needs_library)], ids=["reference", "fastest"]
)


def rays_at_cube(count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Origins inside and outside, some rays that miss, directions of any length."""
    generator = torch.Generator().manual_seed(0)
    origins = torch.randn(count, 3, generator=generator) * 1.5
    directions = torch.randn(count, 3, generator=generator) * 0.8 - origins
    near = torch.rand(count, generator=generator) * 0.3
    return origins, directions, near, near + torch.rand(count, generator=generator) * 3


def every_lattice_point(
    rays: tuple[Tensor, Tensor, Tensor, Tensor],
    step: float,
    occupancy: Tensor,
    jitter: Tensor,
    max_samples: int,
) -> list[list[float]]:
    samples = []
    size = torch.tensor(occupancy.shape)
    for o, d, near, far, shift in zip(*(v.double() for v in (*rays, jitter)), strict=True):
        kept: list[float] = []
        k = 0
        while (t := float(near + (k + shift) * step)) < float(far) and len(kept) < max_samples:
            point = o + t * d
            cell = torch.minimum(((point + 1) * 0.5 * size).floor().long(), size - 1)
            inside = bool((point.abs() <= 1).all())
            if inside and bool(occupancy[cell[0], cell[1], cell[2]]):
                kept.append(t)
            k += 1
        samples.append(kept)
    return samples


@both
@pytest.mark.parametrize(
    ("shape", "density", "max_samples"),
    [((8, 8, 8), 0.5, 1000), ((40, 40, 40), 0.06, 1000), ((9, 20, 13), 0.3, 7), ((1, 1, 1), 1, 50)],
)
def test_samples_are_the_occupied_lattice_points(
    module: ModuleType, shape: tuple[int, int, int], density: float, max_samples: int
) -> None:
    rays = rays_at_cube(60)
    generator = torch.Generator().manual_seed(1)
    occupancy = torch.rand(shape, generator=generator) < density
    jitter = torch.rand(60, generator=generator)
    found = module.march(*rays, 0.013, occupancy, jitter, max_samples)
    expected = every_lattice_point(rays, 0.013, occupancy, jitter, max_samples)
    assert found.offsets.diff().tolist() == [len(kept) for kept in expected]
    assert len(found.t) > 50
    torch.testing.assert_close(found.t, torch.tensor([t for kept in expected for t in kept]))
    assert (found.dt == torch.tensor(0.013)).all()


@needs_library
def test_implementations_agree_on_many_rays() -> None:
    rays = rays_at_cube(5000)
    generator = torch.Generator().manual_seed(2)
    for density in (0.001, 0.1, 0.9):
        occupancy = torch.rand(33, 48, 20, generator=generator) < density
        for jitter in (None, torch.rand(5000, generator=generator)):
            fast = kernels.march(*rays, 0.01, occupancy, jitter)
            slow = reference.march(*rays, 0.01, occupancy, jitter, 1024)
            assert torch.equal(fast.offsets, slow.offsets)
            torch.testing.assert_close(fast.t, slow.t, rtol=1e-6, atol=0)


@both
def test_axis_aligned_rays_on_cell_borders(module: ModuleType) -> None:
    origins = torch.tensor([[-2.0, 0.0, 0.5], [0.25, 2.0, -1.0], [0.25, 2.0, -1.0001]])
    directions = torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, -1.0, 0.0]])
    occupancy = torch.ones(8, 8, 8, dtype=torch.bool)
    found = module.march(
        origins, directions, torch.zeros(3), torch.full((3,), 9.0), 0.25, occupancy, None, 100
    )
    # The cube is 2 long; the last ray passes beside it.
    assert found.offsets.diff().tolist() == [8, 8, 0]
    torch.testing.assert_close(found.t[:8], 1.125 + 0.25 * torch.arange(8))


@both
def test_near_is_sampled_and_far_is_not(module: ModuleType) -> None:
    zeros, along = torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 0.0]])
    bounds = torch.tensor([0.25]), torch.tensor([0.75])
    occupancy = torch.ones(2, 2, 2, dtype=torch.bool)
    found = module.march(zeros, along, *bounds, 0.125, occupancy, torch.zeros(1), 100)
    assert found.t.tolist() == [0.25, 0.375, 0.5, 0.625]


@both
def test_what_gives_no_samples(module: ModuleType) -> None:
    bad = torch.tensor([torch.nan, torch.inf, 0.0])
    origins = torch.cat([torch.zeros(3, 3), bad[:, None].expand(3, 3)])
    directions = torch.cat([torch.eye(3), torch.zeros(3, 3)])
    directions[2] = 0.0
    near = torch.tensor([0.5, 0.0, 0.0, 0.0, 0.0, 0.0])
    far = torch.tensor([0.5, torch.nan, torch.inf, 1.0, 1.0, -1.0])
    occupancy = torch.ones(4, 4, 4, dtype=torch.bool)
    found = module.march(origins, directions, near, far, 0.1, occupancy, None, 10)
    assert found.offsets.tolist() == [0] * 7
    none, rows = torch.zeros(0), torch.zeros(0, 3)
    empty = module.march(rows, rows, none, none, 0.1, occupancy, None, 10)
    assert empty.offsets.tolist() == [0] and len(empty.t) == len(empty.dt) == 0


@both
def test_an_endless_ray_ends_with_the_cube(module: ModuleType) -> None:
    occupancy = torch.ones(4, 4, 4, dtype=torch.uint8)
    found = module.march(
        torch.zeros(1, 3),
        torch.tensor([[0.0, 0.0, 2.0]]),
        torch.zeros(1),
        torch.full((1,), torch.inf),
        0.01,
        occupancy,
        None,
        1000,
    )
    assert found.offsets.tolist() == [0, 50]
    assert kernels.ray_index(found.offsets).tolist() == [0] * 50


def test_marching_runs_on_every_device(device: torch.device) -> None:
    rays = rays_at_cube(200)
    occupancy = torch.rand(8, 8, 8, generator=torch.Generator().manual_seed(3)) < 0.5
    expected = reference.march(*rays, 0.02, occupancy, None, 100)
    origins, directions, near, far = (v.to(device) for v in rays)
    found = kernels.march(origins, directions, near, far, 0.02, occupancy.to(device))
    assert torch.equal(found.offsets.cpu(), F.pad(expected.offsets.diff().cumsum(0), (1, 0)))
