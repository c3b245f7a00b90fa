"""The pure-torch twins: derivatives by finite differences, values by other formulations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import (
    CASES,
    Case,
    composite_case,
    draw,
    hash_case,
    ray_weights_case,
    segment_sum_case,
    splat_case,
)

from geodistill.kernels import HashSpec, reference

DOUBLE = torch.float64
TINY = HashSpec(levels=2, log2_size=4, base_resolution=2, max_resolution=5)

SMALL: dict[str, Callable[[], Case]] = {
    **{name: lambda build=build: build(3, DOUBLE) for name, build in CASES.items()},
    "hash_encode": lambda: hash_case(3, DOUBLE, TINY),
    "ray_weights": lambda: ray_weights_case(6, DOUBLE, longest=4),
    "segment_sum": lambda: segment_sum_case(6, DOUBLE, longest=4),
    "composite": lambda: composite_case(6, DOUBLE, longest=4),
    "splat": lambda: splat_case(6, DOUBLE, channels=2, size=(18, 9)),
}


@pytest.mark.parametrize("name", SMALL)
def test_gradients_match_finite_differences(name: str) -> None:
    case = SMALL[name]()
    inputs = tuple(v.clone().requires_grad_() for v in case.inputs)
    assert torch.autograd.gradcheck(lambda *v: case.run(reference, *v), inputs)


@pytest.mark.parametrize(
    "name", ["hash_encode", "plane_line", "line_product", "fused_mlp", "splat"]
)
def test_references_run_on_every_device(name: str, device: torch.device) -> None:
    case = CASES[name](50, torch.float32)
    expected = case.run(reference, *case.inputs)
    found = case.run(reference, *(v.to(device) for v in case.inputs))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-4)


def test_plane_line_is_grid_sample_of_images_and_columns() -> None:
    normal = draw(0, DOUBLE)
    planes = [normal(4 + k, 6 - k, 3) for k in range(3)]
    lines = [normal(3 + k, 3) for k in range(3)]
    x = torch.tanh(normal(40, 3)) * 1.2
    parts = []
    for k, (columns, rows, along) in enumerate(((0, 1, 2), (0, 2, 1), (1, 2, 0))):
        at = x[:, [columns, rows]].view(1, -1, 1, 2)
        image = F.grid_sample(
            planes[k].permute(2, 0, 1)[None], at, padding_mode="border", align_corners=True
        )
        at = torch.stack([torch.zeros(len(x)), x[:, along]], 1).view(1, -1, 1, 2)
        column = F.grid_sample(
            lines[k].t()[None, :, :, None], at, padding_mode="border", align_corners=True
        )
        parts.append((image * column).view(3, -1).t())
    torch.testing.assert_close(reference.plane_line(x, planes, lines), torch.stack(parts, 1))


def test_line_product_is_a_sum_of_rank_one_tensors() -> None:
    normal = draw(0, DOUBLE)
    lines = [normal(5, 4) for _ in range(3)]
    nodes = torch.linspace(-1, 1, 5, dtype=DOUBLE)
    x = torch.cartesian_prod(nodes, nodes, nodes)
    dense = torch.einsum("zc,yc,xc->xyzc", *lines).reshape(-1, 4)
    torch.testing.assert_close(reference.line_product(x, lines), dense)


def test_voxel_interp_is_grid_sample_of_the_dense_grid() -> None:
    normal = draw(0, DOUBLE)
    values = normal(20, 3)
    generator = torch.Generator().manual_seed(0)
    links = torch.randint(-30, 20, (4, 5, 6), generator=generator, dtype=torch.int32)
    dense = torch.where((links >= 0)[..., None], values[links.clamp(min=0).long()], 0.0)
    x = torch.rand(50, 3, generator=generator, dtype=DOUBLE) * torch.tensor([5.0, 6.0, 7.0]) - 1
    scaled = (x / torch.tensor([3.0, 4.0, 5.0]) * 2 - 1).flip(1)[None, None, None]
    expected = F.grid_sample(
        dense.permute(3, 0, 1, 2)[None], scaled, padding_mode="border", align_corners=True
    )
    torch.testing.assert_close(
        reference.voxel_interp(x, links, values), expected.view(3, -1).t(), rtol=1e-6, atol=1e-9
    )


def test_links_past_the_table_are_empty() -> None:
    links = torch.full((2, 2, 2), 7, dtype=torch.int32)
    assert not reference.voxel_interp(torch.rand(5, 3), links, torch.ones(7, 1)).any()


def test_ray_weights_are_the_compositing_loop() -> None:
    offsets = torch.tensor([0, 0, 3, 4, 4])
    sigma = torch.tensor([0.5, 3.0, 0.0, 7.0], dtype=DOUBLE)
    dt = torch.tensor([0.1, 0.4, 0.2, 0.05], dtype=DOUBLE)
    expected = []
    for ray in range(4):
        transmitted = 1.0
        for i in range(int(offsets[ray]), int(offsets[ray + 1])):
            kept = float(torch.exp(-sigma[i] * dt[i]))
            expected.append(transmitted * (1 - kept))
            transmitted *= kept
    found = reference.ray_weights(sigma, dt, offsets)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=DOUBLE))


def test_dense_and_infinite_samples_stay_finite() -> None:
    sigma = torch.tensor([1.0, torch.inf, 5.0, 2.0], requires_grad=True)
    weights = reference.ray_weights(sigma, torch.ones(4), torch.tensor([0, 3, 4]))
    torch.testing.assert_close(
        weights.detach(), torch.tensor([1 - 1 / torch.e, 1 / torch.e, 0.0, 1 - torch.e**-2])
    )
