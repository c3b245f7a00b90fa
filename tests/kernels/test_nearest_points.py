"""The points that pixels see against every point and every pixel."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from kernel_cases import CAMERA, SIZE
from torch import Tensor

from geodistill import kernels
from geodistill.checks import UsageError
from geodistill.kernels import reference

NEAR, RADIUS = 0.3, 0.2


@pytest.fixture(params=["kernels", "reference"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    return {"kernels": kernels, "reference": reference}[request.param]


def cloud(count: int, seed: int = 0) -> Tensor:
    """Around the camera; some points have the same depth."""
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) * 1.5
    points[:, 2] = (points[:, 2] + 2).mul(8).round().div(8)
    return points


def every_pair(points: Tensor, most: int) -> Tensor:
    """int32 [H, W, most] from all distances between rays and points."""
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    pixels = torch.stack([x + 0.5, y + 0.5, torch.ones_like(x)], -1).double()
    rays = pixels @ torch.linalg.inv(CAMERA.double()).T
    p = points.double()
    across = (rays[..., None, :2] * p[:, 2:] - p[:, :2]).norm(dim=-1)
    covers = (across <= RADIUS) & (p[:, 2] >= NEAR)
    depth, index = torch.where(covers, p[:, 2], torch.inf).sort(dim=-1, stable=True)
    seen = depth.isfinite() & (depth <= depth[..., :1] + RADIUS)
    return torch.where(seen, index, -1)[..., :most].int()


@pytest.mark.parametrize("most", [1, 3, 4])
def test_pixels_see_the_nearest_points(module: ModuleType, most: int) -> None:
    points = cloud(2500)
    found = module.nearest_points(points, RADIUS, CAMERA, SIZE, NEAR, most)
    expected = every_pair(points, most)
    assert torch.equal(found, expected)
    assert (expected[..., -1] >= 0).any() and (most == 1 or (expected < 0).any())


def test_both_agree_on_many_points() -> None:
    points = cloud(20_000, seed=1)
    for size in (SIZE, (1, 1), (9, 70)):
        a, b = (m.nearest_points(points, 0.05, CAMERA, size, NEAR, 4) for m in (kernels, reference))
        assert torch.equal(a, b)


def test_parts_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodistill.kernels.reference.points._PAIRS", 1000)
    found = reference.nearest_points(cloud(300), RADIUS, CAMERA, SIZE, NEAR, 4)
    assert torch.equal(found, every_pair(cloud(300), 4))


def test_what_is_not_finite_or_not_there_is_not_seen(module: ModuleType) -> None:
    points = torch.full((4, 3), torch.nan)
    points[1], points[2] = torch.inf, torch.tensor([0.0, 0.0, -1.0])
    for some in (points, points[:0]):
        assert (module.nearest_points(some, RADIUS, CAMERA, SIZE, NEAR, 2) == -1).all()
    points[3] = torch.tensor([0.0, 0.0, 2.0])
    seen = module.nearest_points(points, RADIUS, CAMERA, SIZE, NEAR, 2)
    assert seen.max() == 3 and set(seen.unique().tolist()) == {-1, 3}


def test_more_threads_see_the_same_points() -> None:
    points, before = cloud(30_000), torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(kernels.nearest_points(points, 0.1, CAMERA, SIZE, NEAR, 3))
    torch.set_num_threads(before)
    assert torch.equal(*results)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="radius must be positive and finite, got 0"):
        kernels.nearest_points(cloud(3), 0.0, CAMERA, SIZE, NEAR, 1)
    with pytest.raises(UsageError, match="most must be at least 1, got 0"):
        kernels.nearest_points(cloud(3), 1.0, CAMERA, SIZE, NEAR, 0)
