"""Results do not depend on the number of threads, to the bit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from kernel_cases import (
    CASES,
    line_product_case,
    mlp_case,
    plane_line_case,
    splat_case,
    splat_geometry,
)

from geodistill import kernels
from geodistill.kernels import library

pytestmark = pytest.mark.skipif(library.LIBRARY is None, reason=kernels.library_status())

FLOAT = torch.float32


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


BIG = {
    **{name: build(10_000, FLOAT) for name, build in CASES.items() if "ray" not in name},
    "ray_weights": CASES["ray_weights"](1_000, FLOAT),
    "segment_sum": CASES["segment_sum"](1_000, FLOAT),
    "composite": CASES["composite"](1_000, FLOAT),
    "plane_line 16": plane_line_case(10_000, FLOAT, 16),
    "line_product 48": line_product_case(10_000, FLOAT, 48),
    "fused_mlp 32-64-16": mlp_case(10_000, FLOAT, (32, 64, 16)),
    "splat 70": splat_case(10_000, FLOAT, 70, (75, 130)),
}


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("name", BIG)
def test_more_threads_give_the_same_bits(name: str, threads: int) -> None:
    torch.set_num_threads(1)
    expected = BIG[name].outputs_and_gradients(kernels)
    torch.set_num_threads(threads)
    for index, (a, b) in enumerate(
        zip(BIG[name].outputs_and_gradients(kernels), expected, strict=True)
    ):
        assert torch.equal(a, b), f"tensor {index} differs with {threads} threads"


def test_marching_gives_the_same_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    origins = torch.randn(500, 3, generator=generator) * 2
    directions = torch.randn(500, 3, generator=generator) * 0.3 - origins
    bounds = torch.zeros(500), torch.ones(500) * 2
    occupancy = torch.rand(20, 20, 20, generator=generator) < 0.3
    torch.set_num_threads(1)
    one = kernels.march(origins, directions, *bounds, 0.01, occupancy)
    torch.set_num_threads(4)
    many = kernels.march(origins, directions, *bounds, 0.01, occupancy)
    assert torch.equal(one.offsets, many.offsets) and torch.equal(one.t, many.t)


def test_splats_give_the_same_plan_and_sums() -> None:
    size = (75, 130)
    *geometry, depths = splat_geometry(10_000, FLOAT, size)
    pixels = torch.randn(75 * 130, 200, generator=torch.Generator().manual_seed(0))
    plans, sums = [], []
    for threads in (1, 2, 7):
        torch.set_num_threads(threads)
        plans.append(kernels.splat_plan(*geometry, depths, size))
        sums.append(kernels.splat_adjoint(*geometry, pixels, plans[-1]))
    for plan, found in zip(plans[1:], sums[1:], strict=True):
        assert torch.equal(plan.offsets, plans[0].offsets)
        assert torch.equal(plan.elements, plans[0].elements)
        assert torch.equal(found, sums[0])


def test_adam_gives_the_same_parameters() -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.rand(50_000, 2, generator=generator) for _ in range(4)]
    start[1] *= torch.rand(50_000, 1, generator=generator) < 0.3
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        tensors = [v.clone() for v in start]
        kernels.sparse_adam_step(*tensors, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, step=2)
        results.append(tensors)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_repeats_give_the_same_bits() -> None:
    first = BIG["composite"].outputs_and_gradients(kernels)
    second = BIG["composite"].outputs_and_gradients(kernels)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
