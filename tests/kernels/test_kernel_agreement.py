"""The C++ library against the references, forward and every gradient, in float32."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import (
    CASES,
    Case,
    assert_close,
    composite_case,
    draw,
    hash_case,
    hash_spec,
    line_product_case,
    mlp_case,
    plane_line_case,
    ray_weights_case,
    segment_sum_case,
    voxel_case,
)

from geodistill import kernels
from geodistill.kernels import library, reference

pytestmark = pytest.mark.skipif(library.LIBRARY is None, reason=kernels.library_status())

FLOAT = torch.float32


def assert_agrees(case: Case, tolerance: float = 2e-5) -> None:
    found = case.outputs_and_gradients(kernels)
    assert_close(found, case.outputs_and_gradients(reference), tolerance)


@pytest.mark.parametrize("size", [0, 1, 7, 1000, 5000])
@pytest.mark.parametrize("name", CASES)
def test_every_kernel_agrees(name: str, size: int) -> None:
    assert_agrees(CASES[name](size, FLOAT))


@pytest.mark.parametrize("features", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("convention", ["tcnn", "torch-ngp", "nerfstudio"])
def test_hash_encode_agrees_in_every_layout(convention: str, features: int) -> None:
    assert_agrees(hash_case(2000, FLOAT, hash_spec(convention, features)))


@pytest.mark.parametrize("channels", [1, 3, 4, 16, 28, 48])
def test_grids_agree_for_every_channel_count(channels: int) -> None:
    assert_agrees(plane_line_case(3000, FLOAT, channels))
    assert_agrees(line_product_case(3000, FLOAT, channels))
    assert_agrees(voxel_case(3000, FLOAT, channels))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 16, 70])
def test_segment_sum_agrees_for_every_channel_count(channels: int) -> None:
    assert_agrees(segment_sum_case(300, FLOAT, channels))


def test_rays_longer_than_any_block_agree() -> None:
    assert_agrees(ray_weights_case(20, FLOAT, longest=3000))
    assert_agrees(composite_case(20, FLOAT, longest=6000))


@pytest.mark.parametrize("widths", [(3, 1), (32, 64, 16), (31, 64, 64, 3), (128, 128), (5,) * 17])
def test_mlps_agree_for_every_shape(widths: tuple[int, ...]) -> None:
    assert_agrees(mlp_case(1000, FLOAT, widths))


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_agree(name: str) -> None:
    """Gradients of the squared length of the gradients, through kernels that feed one another."""
    case = CASES[name](40, FLOAT)
    results = []
    for module in (kernels, reference):
        inputs = [v.clone().requires_grad_() for v in case.inputs]
        # The second factor makes the outputs nonlinear, so that nothing is constant.
        loss = torch.stack([o.pow(3).sum() for o in case.run(module, *inputs)]).sum()
        slopes = torch.autograd.grad(loss, inputs, create_graph=True)
        length = torch.stack([slope.pow(2).sum() for slope in slopes]).sum()
        results.append(list(torch.autograd.grad(length, inputs)))
    assert_close(results[0], results[1], tolerance=1e-4)


def border_points() -> torch.Tensor:
    """Corners, edges and the middle of the unit cube, and points outside of it."""
    ticks = torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5])
    return torch.cartesian_prod(ticks, ticks, ticks)


def test_borders_and_the_outside_are_clamped_alike() -> None:
    x = border_points()
    spec = hash_spec()
    table = draw(0, FLOAT)(spec.entries, spec.features)
    code = kernels.hash_encode(x, table, spec)
    torch.testing.assert_close(code, reference.hash_encode(x, table, spec), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(code, kernels.hash_encode(x.clamp(0, 1), table, spec))
    for case in (plane_line_case(1, FLOAT), line_product_case(1, FLOAT)):
        inputs = (x * 2 - 1, *case.inputs[1:])
        assert_close(
            list(case.run(kernels, *inputs)), list(case.run(reference, *inputs)), tolerance=1e-6
        )
    case = voxel_case(1, FLOAT)
    inputs = (x * torch.tensor([3.0, 4.0, 5.0]), case.inputs[1])
    assert_close(list(case.run(kernels, *inputs)), list(case.run(reference, *inputs)), 1e-6)


@pytest.mark.parametrize("name", ["hash_encode", "plane_line", "line_product", "voxel_interp"])
def test_outside_points_get_no_gradient(name: str) -> None:
    case = CASES[name](1, FLOAT)
    x = torch.tensor([[9.5, 0.3, -7.2], [0.4, 0.3, 0.2], [-4.0, 8.0, 0.6]])
    outside = (x < -1) | (x > 7)
    moved = Case(case.run, (x, *case.inputs[1:]))
    assert_agrees(moved)
    grad = moved.outputs_and_gradients(kernels)[1]
    assert not grad[outside].any() and grad[~outside].any()


def test_links_past_the_table_are_empty() -> None:
    links = torch.full((2, 2, 2), 7, dtype=torch.int32)
    # There is more memory behind the table, which must not be read.
    values = torch.ones(20, 1)[:7].requires_grad_()
    out = kernels.voxel_interp(torch.rand(5, 3), links, values)
    (grad,) = torch.autograd.grad(out.sum(), values)
    assert not out.any() and not grad.any()


def test_axes_of_one_node_agree() -> None:
    normal = draw(0, FLOAT)
    planes, lines = [normal(1, 1, 4) for _ in range(3)], [normal(1, 4) for _ in range(3)]
    x = torch.tanh(normal(9, 3))
    links = torch.zeros(1, 1, 1, dtype=torch.int32)
    torch.testing.assert_close(
        kernels.plane_line(x, planes, lines), reference.plane_line(x, planes, lines)
    )
    torch.testing.assert_close(kernels.line_product(x, lines), reference.line_product(x, lines))
    torch.testing.assert_close(
        kernels.voxel_interp(x, links, lines[0]), lines[0].expand(9, 4), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", CASES)
def test_layout_in_memory_does_not_matter(name: str) -> None:
    case = CASES[name](200, FLOAT)
    spread = tuple(torch.stack([v, v], dim=-1)[..., 0] for v in case.inputs)
    assert not any(v.is_contiguous() for v in spread if v.numel() > 1)
    for a, b in zip(case.run(kernels, *spread), case.run(kernels, *case.inputs), strict=True):
        assert torch.equal(a, b)


def test_some_channels_of_a_voxel_table_are_read_in_place() -> None:
    case = voxel_case(300, FLOAT, channels=28)
    x, values = case.inputs
    (some,) = case.run(kernels, x, values[:, :1])
    (every,) = case.run(kernels, x, values)
    assert torch.equal(some, every[:, :1])


def test_nan_comes_out_and_nothing_breaks() -> None:
    x = torch.tensor([[torch.nan, 0.5, 0.5], [0.5, 0.5, 0.5]])
    spec = hash_spec()
    code = kernels.hash_encode(x, torch.ones(spec.entries, spec.features), spec)
    assert code[0].isnan().all() and code[1].isfinite().all()
    mlp = kernels.fused_mlp(x, [torch.ones(4, 3), torch.ones(1, 4)])
    assert mlp[0].isnan().all() and mlp[1].isfinite().all()
    sigma = torch.tensor([torch.nan, 1.0])
    weights = kernels.ray_weights(sigma, torch.ones(2), torch.tensor([0, 1, 2]))
    assert weights[0].isnan() and weights[1].isfinite()


def test_opaque_and_infinite_samples_agree() -> None:
    offsets = torch.tensor([0, 4, 5])
    sigma = torch.tensor([1e-9, 1e4, torch.inf, 3.0, 0.5])
    found = kernels.ray_weights(sigma, torch.ones(5), offsets)
    torch.testing.assert_close(found, reference.ray_weights(sigma, torch.ones(5), offsets))


def test_thin_samples_keep_their_relative_precision() -> None:
    sigma = torch.logspace(-12, -2, 64)
    weights = kernels.ray_weights(sigma, torch.ones(64), torch.arange(65))
    torch.testing.assert_close(weights, -torch.expm1(-sigma), rtol=2e-7, atol=0)
