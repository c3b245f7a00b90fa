"""Neighbours in clouds of points against plain loops over all pairs."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

from geodistill import kernels
from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.kernels import reference


@pytest.fixture(params=["kernels", "reference"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    return {"kernels": kernels, "reference": reference}[request.param]


def clouds(count: int, seed: int = 0, grid: bool = False) -> Tensor:
    """Two of them; on a grid there are many equal distances and equal points."""
    generator = torch.Generator().manual_seed(seed)
    if grid:
        return torch.randint(0, 5, (2, count, 3), generator=generator).float()
    return torch.randn(2, count, 3, generator=generator)


def squares(points: Tensor, x: Tensor) -> list[float]:
    return [float(((p - x) ** 2).sum()) for p in points.double()]


@pytest.mark.parametrize("grid", [False, True])
def test_the_farthest_point_is_taken_each_time(module: ModuleType, grid: bool) -> None:
    given = clouds(150, grid=grid)
    found = module.farthest_points(given, 40)
    assert found.shape == (2, 40) and found.dtype == torch.int32
    for cloud, own in zip(given, found.tolist(), strict=True):
        taken = [0]
        while len(taken) < 40:
            nearest = [
                min(column)
                for column in zip(*(squares(cloud, cloud[k].double()) for k in taken), strict=True)
            ]
            taken.append(nearest.index(max(nearest)))
        assert own == taken


def test_more_than_there_are_repeat_the_first(module: ModuleType) -> None:
    found = module.farthest_points(clouds(5), 9)
    for own in found.tolist():
        assert sorted(own[:5]) == [0, 1, 2, 3, 4] and own[5:] == [0] * 4


@pytest.mark.parametrize("most", [1, 7, 400])
def test_a_ball_holds_its_first_points(module: ModuleType, most: int) -> None:
    given, centers = clouds(300, seed=1), clouds(50, seed=2) * 1.5
    found = module.ball_query(given, centers, 0.8, most)
    sizes = set()
    for cloud, balls, own in zip(given, centers, found, strict=True):
        for center, row in zip(balls, own.tolist(), strict=True):
            inside = [k for k, d in enumerate(squares(cloud, center.double())) if d < 0.64][:most]
            sizes.add(len(inside))
            filled = inside + [inside[0] if inside else 0] * (most - len(inside))
            assert row == filled
    assert 0 in sizes and (most == 1 or max(sizes) > 1)


def test_what_lies_on_a_ball_is_outside(module: ModuleType) -> None:
    points = torch.tensor([[[1.0, 0, 0], [0.0, 0.5, 0], [0.0, 0, -1]]])
    assert module.ball_query(points, torch.zeros(1, 1, 3), 1.0, 2).tolist() == [[[1, 1]]]


@pytest.mark.parametrize("grid", [False, True])
def test_the_nearest_points_come_first(module: ModuleType, grid: bool) -> None:
    given, queries = clouds(200, 3, grid), clouds(60, 4, grid)
    found, distances = module.nearest_neighbors(given, queries, 3)
    for k in range(2):
        for row, own, query in zip(found[k].tolist(), distances[k], queries[k], strict=True):
            every = squares(given[k], query.double())
            wanted = sorted(range(200), key=lambda i: (every[i], i))[:3]
            assert row == wanted
            assert own.tolist() == pytest.approx([every[i] for i in wanted], rel=1e-5, abs=1e-6)


def test_both_agree_to_the_last_bit() -> None:
    points, centers = clouds(3001, 5), clouds(700, 6)
    assert torch.equal(kernels.farthest_points(points, 500), reference.farthest_points(points, 500))
    for radius in (0.05, 0.3, 2.0):
        one, two = (m.ball_query(points, centers, radius, 16) for m in (kernels, reference))
        assert torch.equal(one, two)
    for a, b in zip(
        kernels.nearest_neighbors(points, centers, 5),
        reference.nearest_neighbors(points, centers, 5),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_parts_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    points, centers = clouds(90, 7), clouds(41, 8)
    whole = reference.ball_query(points, centers, 0.7, 4)
    nearest = reference.nearest_neighbors(points, centers, 3)
    monkeypatch.setattr("geodistill.kernels.reference.clouds._PAIRS", 1000)
    assert torch.equal(reference.ball_query(points, centers, 0.7, 4), whole)
    assert torch.equal(reference.nearest_neighbors(points, centers, 3)[0], nearest[0])


def test_more_threads_find_the_same() -> None:
    points, before = clouds(2000, 9), torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(
            [
                kernels.farthest_points(points, 200),
                kernels.ball_query(points, points, 0.2, 8),
                *kernels.nearest_neighbors(points, points, 3),
            ]
        )
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_wrong_numbers_are_refused() -> None:
    points = clouds(4)
    with pytest.raises(UsageError, match="count must be at least 1, got 0"):
        kernels.farthest_points(points, 0)
    with pytest.raises(UsageError, match="at least one point"):
        kernels.farthest_points(points[:, :0], 3)
    with pytest.raises(UsageError, match="radius must be positive and finite, got -1"):
        kernels.ball_query(points, points, -1.0, 2)
    with pytest.raises(UsageError, match="at most the number of points 4, got 5"):
        kernels.nearest_neighbors(points, points, 5)
    broken = points.clone()
    broken[1, 2, 0] = torch.nan
    with pytest.raises(InputError, match="points holds 1 NaN"):
        kernels.farthest_points(broken, 2)
    with pytest.raises(ShapeError, match="centers"):
        kernels.ball_query(points, points[:1], 1.0, 2)
