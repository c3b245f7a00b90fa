"""Gathered and scattered rows against the matrix that they are."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from kernel_cases import gather_case, scatter_case, some_index
from torch import Tensor

from geodistill import kernels
from geodistill.kernels import reference

ELEMENTS = 50


@pytest.fixture(params=["kernels", "reference"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    return {"kernels": kernels, "reference": reference}[request.param]


def problem(pixels: int = 300, channels: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(ELEMENTS, channels, generator=generator),
        some_index(pixels, ELEMENTS),
        torch.rand(pixels, 3, generator=generator),
        torch.randn(pixels, channels, generator=generator),
    )


def matrix(index: Tensor, weights: Tensor) -> Tensor:
    """The same as a dense matrix, entry by entry."""
    out = torch.zeros(len(index), ELEMENTS)
    for p, (row, values) in enumerate(zip(index.tolist(), weights.tolist(), strict=True)):
        for element, weight in zip(row, values, strict=True):
            if element >= 0:
                out[p, element] += weight
    return out


@pytest.mark.parametrize("channels", [0, 1, 2, 7, 8, 33, 64])
def test_rows_are_products_with_the_matrix(module: ModuleType, channels: int) -> None:
    features, index, weights, pixels = problem(channels=channels)
    dense = matrix(index, weights)
    torch.testing.assert_close(module.gather(features, index, weights), dense @ features)
    found = module.scatter(pixels, index, weights, ELEMENTS)
    torch.testing.assert_close(found, dense.T @ pixels, rtol=1e-5, atol=1e-5)


def test_scatter_is_the_adjoint(module: ModuleType) -> None:
    features, index, weights, pixels = problem()
    left = (module.gather(features, index, weights).double() * pixels).sum()
    right = (features.double() * module.scatter(pixels, index, weights, ELEMENTS)).sum()
    torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-4)


def test_a_negative_index_is_nothing_even_beside_nan(module: ModuleType) -> None:
    index = torch.tensor([[-1, 1, -7]], dtype=torch.int32)
    features = torch.tensor([[torch.nan], [2.0], [torch.nan]])
    weights = torch.tensor([[torch.nan, 0.5, torch.inf]])
    found = module.gather(features, index, torch.where(index < 0, 1.0, weights))
    assert found.tolist() == [[1.0]]
    spread = module.scatter(torch.tensor([[3.0]]), index, weights, 3)
    assert spread.tolist() == [[0.0], [1.5], [0.0]]


@pytest.mark.parametrize("width", [1, 4])
def test_nothing_to_do(module: ModuleType, width: int) -> None:
    none = torch.zeros(0, width, dtype=torch.int32)
    assert module.gather(torch.ones(3, 2), none, torch.ones(0, width)).shape == (0, 2)
    assert not module.scatter(torch.ones(0, 2), none, torch.ones(0, width), 3).any()
    outside = torch.full((2, width), -1, dtype=torch.int32)
    assert not module.gather(torch.ones(0, 2), outside, torch.ones(2, width)).any()
    assert module.scatter(torch.ones(2, 2), outside, torch.ones(2, width), 0).shape == (0, 2)


@pytest.mark.parametrize("channels", [1, 3, 8, 20, 64])
def test_every_channel_count_agrees_with_the_reference(channels: int) -> None:
    for build in (gather_case, scatter_case):
        case = build(3000, torch.float32, channels, 5000)
        pairs = zip(
            case.outputs_and_gradients(kernels), case.outputs_and_gradients(reference), strict=True
        )
        for found, expected in pairs:
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)


def test_more_threads_give_the_same_bits() -> None:
    case = scatter_case(20_000, torch.float32, 9, 7000)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(case.outputs_and_gradients(kernels))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
