"""Closed-form tensor factors, evaluated by the very kernels that the fields use."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from geodistill import kernels
from geodistill.convert import factors
from geodistill.convert.cache import survey
from geodistill.convert.cp import refine_cp
from geodistill.convert.factors import (
    cp_from_vm,
    vm_scalar,
    vm_vector,
)
from geodistill.convert.initial import initialise
from geodistill.convert.latents import translator
from geodistill.geometry.fields import Field, build_field
from geodistill.geometry.fields.composite import CompositeConfig
from geodistill.geometry.fields.heads import LatentField
from geodistill.geometry.fields.mlp import MlpConfig
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.fields.tensorf import TensorfConfig, TensorfCpConfig
from geodistill.geometry.grids import resize_lines, resize_planes

Factors = tuple[list[Tensor], list[Tensor]]


def node_points(size: int) -> Tensor:
    axis = torch.linspace(-1.0, 1.0, size)
    return torch.cartesian_prod(axis, axis, axis)


def vm_values(u: Tensor, planes: list[Tensor], lines: list[Tensor], bases: list[Tensor]) -> Tensor:
    """The VM field [F, N] at points, as TensoRF evaluates it."""
    parts = kernels.plane_line(u, tuple(planes), tuple(lines))
    return torch.einsum("nmk,mfk->fn", parts, torch.stack(bases))


def vm_grid(planes: list[Tensor], lines: list[Tensor], bases: list[Tensor] | None = None) -> Tensor:
    """The grid [R, R, R], or [F, R, R, R], that the factors stand for."""
    size = planes[0].shape[0]
    ones = [torch.ones(1, line.shape[1]) for line in lines]
    values = vm_values(node_points(size), planes, lines, bases or ones)
    grid = values.reshape(-1, size, size, size)
    return grid if bases is not None else grid[0]


def random_factors(size: int, rank: int, seed: int = 0) -> Factors:
    draw = torch.Generator().manual_seed(seed)
    planes = [torch.randn(size, size, rank, generator=draw) for _ in range(3)]
    return planes, [torch.randn(size, rank, generator=draw) for _ in range(3)]


def smooth(size: int, channels: int) -> Tensor:
    """Channels [F, R, R, R] of decaying strength that mix all three axes, differently."""
    x, y, z = node_points(size).unbind(1)
    waves = [0.6**f * torch.sin((1 + f % 3) * x * y + 2 * z + f * x * z) for f in range(channels)]
    return torch.stack(waves).reshape(channels, size, size, size)


def error(approximation: Tensor, grid: Tensor) -> float:
    return float((approximation - grid).norm() / grid.norm())


# -- vector-matrix ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_a_product_of_one_plane_and_one_line_is_found(mode: int) -> None:
    """Exactly if the plane's mode comes first, else as the sweeps converge."""
    planes, lines = random_factors(9, 1)
    for other in {0, 1, 2} - {mode}:
        lines[other].zero_()
    grid = vm_grid(planes, lines)
    assert error(vm_grid(*vm_scalar(grid, 1)), grid) < (1e-5 if mode == 0 else 0.1)


def test_separable_grids_are_exact_whatever_the_axes_hold() -> None:
    x, y, z = node_points(10).unbind(1)
    grid = (torch.exp(x) * torch.cos(2 * y) * (z**3 + 0.2)).reshape(10, 10, 10)
    assert error(vm_grid(*vm_scalar(grid, 1)), grid) < 1e-5


@pytest.mark.parametrize(("size", "rank"), [(8, 1), (12, 2), (16, 2)])
def test_an_exact_decomposition_is_approached_sweep_by_sweep(
    size: int, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block is a least-squares solution, so no sweep can make it worse."""
    grid = vm_grid(*random_factors(size, rank))
    errors = []
    for sweeps in (1, 2, 3, 8, 25, 70):
        monkeypatch.setattr(factors, "SWEEPS", sweeps)
        errors.append(error(vm_grid(*vm_scalar(grid, rank)), grid))
    assert all(later < earlier + 1e-6 for earlier, later in pairwise(errors))
    assert errors[2] < 0.15 and errors[-1] < 1e-3


def test_more_components_are_better_and_a_smooth_grid_needs_few() -> None:
    x, y, z = node_points(16).unbind(1)
    grid = torch.sin(3 * x * y + 2 * z + x * z).reshape(16, 16, 16)
    errors = [error(vm_grid(*vm_scalar(grid, rank)), grid) for rank in range(1, 6)]
    assert all(more < 0.2 * fewer for fewer, more in pairwise(errors[:4]))
    assert errors[-1] < 1e-5


def test_a_factorisation_scales_with_its_grid() -> None:
    grid = smooth(10, 1)[0]
    torch.testing.assert_close(
        vm_grid(*vm_scalar(300 * grid, 2)),
        300 * vm_grid(*vm_scalar(grid, 2)),
        rtol=1e-5,
        atol=300 * 1e-6,
    )


def test_planes_and_lines_share_the_size_of_a_component() -> None:
    planes, lines = vm_scalar(50 * smooth(12, 1)[0], 3)
    for plane, line in zip(planes, lines, strict=True):
        rms = plane.square().mean(dim=(0, 1)).sqrt()
        torch.testing.assert_close(rms, line.square().mean(dim=0).sqrt(), rtol=1e-3, atol=1e-6)


def test_nothing_factors_into_finite_nothing() -> None:
    planes, lines, bases = vm_vector(torch.zeros(3, 6, 6, 6), 2)
    assert all(f.isfinite().all() for f in (*planes, *lines, *bases))
    assert not vm_grid(planes, lines, bases).any()


@pytest.mark.parametrize("rank", [7, 20])
def test_a_rank_above_the_resolution_is_allowed_and_exact(rank: int) -> None:
    grid = torch.randn(6, 6, 6, generator=torch.Generator().manual_seed(0))
    planes, lines = vm_scalar(grid, rank)
    assert [p.shape for p in planes] == [(6, 6, rank)] * 3
    assert [v.shape for v in lines] == [(6, rank)] * 3
    assert error(vm_grid(planes, lines), grid) < 1e-5


def test_a_vector_of_one_channel_is_a_scalar() -> None:
    grid = smooth(10, 1)
    torch.testing.assert_close(vm_grid(*vm_vector(grid, 3))[0], vm_grid(*vm_scalar(grid[0], 3)))


def test_channels_share_their_factors() -> None:
    """Proportional channels need the rank of one."""
    one = smooth(10, 1)[0]
    gains = torch.tensor([2.0, -1.0, 0.5, 0.0])
    grid = gains[:, None, None, None] * one
    assert error(vm_grid(*vm_vector(grid, 4)), grid) < 1e-4


def test_a_vector_grid_is_approached_and_beats_the_truncation_of_a_larger_one() -> None:
    grid = smooth(14, 5)
    ranks = (1, 2, 4, 8, 16)
    errors = [error(vm_grid(*vm_vector(grid, rank)), grid) for rank in ranks]
    assert all(more < 0.8 * fewer for fewer, more in pairwise(errors))
    assert errors[-1] < 2e-3
    planes, lines, bases = vm_vector(grid, 24)
    for rank, own in zip(ranks, errors, strict=True):
        strongest = [strongest_terms(*f, rank) for f in zip(planes, lines, bases, strict=True)]
        assert own < error(vm_grid(*map(list, zip(*strongest, strict=True))), grid)


def test_unknown_nodes_are_left_to_the_factors() -> None:
    """Factors fit what is known better where they need not be zero elsewhere."""
    grid = smooth(14, 5)
    known = (node_points(14).norm(dim=1) > 0.7).reshape(14, 14, 14)
    holed = grid * known
    blind, seeing = (vm_grid(*vm_vector(holed, 8, k)) for k in (None, known))
    at = known.expand_as(grid)
    assert error(seeing[at], grid[at]) < 0.8 * error(blind[at], grid[at])
    everywhere = vm_grid(*vm_vector(grid, 8, torch.ones_like(known)))
    torch.testing.assert_close(everywhere, vm_grid(*vm_vector(grid, 8)))


def strongest_terms(plane: Tensor, line: Tensor, basis: Tensor, rank: int) -> tuple[Tensor, ...]:
    strength = plane.norm(dim=(0, 1)) * line.norm(dim=0) * basis.norm(dim=0)
    kept = strength.topk(rank).indices
    return plane[..., kept], line[:, kept], basis[:, kept]


# -- CP --------------------------------------------------------------------------------------


def low_rank_planes(size: int, components: int, terms: int) -> Factors:
    planes, lines = random_factors(size, components, seed=4)
    for m in range(3):
        a, b = random_factors(size, components, seed=5 + m)[0][:2]
        planes[m] = torch.einsum("rtk,ctk->rck", a[:, :terms], b[:, :terms])
    return planes, lines


def cp_grid(lines: list[Tensor], basis: Tensor | None) -> Tensor:
    size = lines[0].shape[0]
    parts = kernels.line_product(node_points(size), tuple(lines))
    values = parts.sum(dim=1) if basis is None else basis @ parts.t()
    return values.reshape(*values.shape[:-1], size, size, size)


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_cp_contains_vm_with_planes_of_low_rank(terms: int) -> None:
    planes, lines = low_rank_planes(9, 2, terms)
    cp, _ = cp_from_vm(planes, lines, None, 3 * 2 * terms)
    assert [line.shape for line in cp] == [(9, 6 * terms)] * 3
    torch.testing.assert_close(cp_grid(cp, None), vm_grid(planes, lines), rtol=1e-3, atol=1e-3)


def test_cp_contains_vector_vm_and_keeps_its_basis() -> None:
    planes, lines = low_rank_planes(8, 3, 2)
    bases = [torch.randn(5, 3, generator=torch.Generator().manual_seed(m)) for m in range(3)]
    cp, basis = cp_from_vm(planes, lines, bases, 18)
    assert basis.shape == (5, 18)
    torch.testing.assert_close(
        cp_grid(cp, basis), vm_grid(planes, lines, bases), rtol=1e-3, atol=2e-3
    )


def test_the_strongest_cp_terms_are_kept_first() -> None:
    planes, lines = low_rank_planes(8, 2, 2)
    lines = [line * gain for line, gain in zip(lines, (1.0, 100.0, 0.01), strict=True)]
    grid = vm_grid(planes, lines)
    first_four, _ = cp_from_vm(planes, lines, None, 4)  # those of the loud second mode
    quiet = [line * gain for line, gain in zip(lines, (0.0, 1.0, 0.0), strict=True)]
    torch.testing.assert_close(
        cp_grid(first_four, None), vm_grid(planes, quiet), rtol=1e-3, atol=0.1
    )
    errors = [error(cp_grid(cp_from_vm(planes, lines, None, r)[0], None), grid) for r in (4, 8, 12)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-5


def cp_values(nodes: Tensor, lines: list[Tensor], basis: Tensor) -> Tensor:
    """The CP field [M, F] at the nodes of a bool grid, as TensoRF evaluates it."""
    size = nodes.shape[0]
    u = nodes.nonzero() * (2.0 / (size - 1)) - 1.0
    return kernels.line_product(u, tuple(lines)) @ basis.t()


def exact_cp(size: int, rank: int, channels: int) -> tuple[list[Tensor], Tensor]:
    draw = torch.Generator().manual_seed(rank)
    lines = [torch.randn(size, rank, generator=draw) for _ in range(3)]
    basis = torch.ones(1, rank) if channels == 1 else torch.randn(channels, rank, generator=draw)
    return lines, basis


def some_nodes(size: int, share: float) -> Tensor:
    return torch.rand(size, size, size, generator=torch.Generator().manual_seed(5)) < share


def cp_factors(
    values: Tensor, nodes: Tensor, rank: int, sweeps: int
) -> tuple[list[Tensor], Tensor]:
    """Refined from a random start."""
    lines, basis = exact_cp(nodes.shape[0], rank, values.shape[1])
    return refine_cp([0.5 * line for line in lines], basis, values, nodes, sweeps)


@pytest.mark.parametrize("channels", [1, 4])
def test_cp_is_found_from_a_third_of_its_nodes(channels: int) -> None:
    nodes = some_nodes(12, 0.35)
    truth = exact_cp(12, 3, channels)
    values = cp_values(nodes, *truth)
    lines, basis = cp_factors(values, nodes, rank=6, sweeps=60)
    assert [line.shape for line in lines] == [(12, 6)] * 3 and basis.shape == (channels, 6)
    assert error(cp_values(nodes, lines, basis), values) < 0.02
    unseen = cp_values(~nodes, *truth)
    assert error(cp_values(~nodes, lines, basis), unseen) < 0.15


def test_every_sweep_of_cp_helps() -> None:
    nodes = some_nodes(14, 0.5)
    values = torch.stack([smooth(14, 3)[f][nodes] for f in range(3)], dim=1)
    errors = [
        error(cp_values(nodes, *cp_factors(values, nodes, 8, sweeps)), values)
        for sweeps in (1, 2, 4, 8, 16)
    ]
    assert all(later < earlier for earlier, later in pairwise(errors)) and errors[-1] < 0.1


def test_cp_of_nothing_is_finite() -> None:
    nodes = some_nodes(8, 0.2)
    for values in (torch.zeros(int(nodes.sum()), 1), torch.zeros(int(nodes.sum()), 3)):
        lines, basis = cp_factors(values, nodes, 4, 2)
        assert all(bool(t.isfinite().all()) for t in (*lines, basis))
    lines, basis = cp_factors(torch.zeros(0, 2), torch.zeros_like(nodes), 4, 2)
    assert all(bool(t.isfinite().all()) for t in (*lines, basis))


# -- resampling ------------------------------------------------------------------------------


def test_resampling_to_nested_nodes_keeps_the_function_between_them() -> None:
    planes, lines = random_factors(6, 2)
    ones = [torch.ones(1, 2)] * 3
    u = torch.rand(200, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    torch.testing.assert_close(
        vm_values(u, resize_planes(planes, 11), resize_lines(lines, 11), ones),
        vm_values(u, planes, lines, ones),
        rtol=1e-4,
        atol=1e-4,
    )


def test_resampling_interpolates_at_any_size() -> None:
    planes, lines = random_factors(6, 2)
    ones = [torch.ones(1, 2)] * 3
    u = node_points(9)
    torch.testing.assert_close(
        vm_values(u, resize_planes(planes, 9), resize_lines(lines, 9), ones),
        vm_values(u, planes, lines, ones),
        rtol=1e-4,
        atol=1e-4,
    )


# -- whole fields ----------------------------------------------------------------------------

NGP = NgpConfig(levels=2, log2_size=6, base_resolution=4, max_resolution=8)
STUDENTS = {
    "tensorf": TensorfConfig(resolution=12, density_rank=4, color_rank=20),
    "tensorf-cp": TensorfCpConfig(resolution=23, density_rank=24, color_rank=160),
    "composite": CompositeConfig(NGP, TensorfConfig(resolution=23, density_rank=4, color_rank=20)),
    "ngp": NGP,
    "mlp": MlpConfig(depth=3, width=16, octaves=2),
}


@pytest.fixture(scope="module")
def teacher() -> Field:
    """A VM field with smooth factors on 12 nodes, dense enough to be seen."""
    config = TensorfConfig(resolution=12, density_rank=2, color_rank=2, floor=2.0)
    field = build_field("tensorf", config, seed=3)
    wave = torch.linspace(0, 2.5, 12)
    for i, (name, p) in enumerate(field.named_parameters()):
        if "lines" in name:
            p.data = torch.stack([torch.cos(wave + i + k) for k in range(2)], dim=1)
        elif "planes" in name:
            axes = wave[:, None] * (1 + 0.3 * i) - wave
            p.data = torch.stack([torch.sin(axes + i + k) for k in range(2)], dim=2)
    return field.requires_grad_(False)


@pytest.mark.parametrize("architecture", ["tensorf", "tensorf-cp", "composite"])
def test_a_factored_student_starts_as_its_teacher(
    architecture: str, teacher: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geodistill.convert.cache.CHUNK", 256)
    cache = survey(teacher, 200, seed=0, step=0.05)
    lit = cache.lit
    rgb, d, weights = cache.rgb[lit], cache.samples.d[lit], cache.weights[lit]
    translate = translator(teacher, cache.latent, rgb, d, weights)
    everywhere = copy.copy(cache)
    object.__setattr__(everywhere, "occupancy", torch.ones_like(cache.occupancy))
    student = build_field(architecture, STUDENTS[architecture])
    initialise(student, teacher, everywhere, translate)
    u = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ours, theirs = student.latent(u), teacher.latent(u)
    raw = (ours[:, 0] - theirs[:, 0].clamp(-8.0, 7.5)).square().mean().sqrt() / theirs[:, 0].std()
    rest = (ours[:, 1:] - theirs[:, 1:]).square().mean().sqrt() / theirs[:, 1:].std()
    assert raw < 0.06 and rest < 0.12
    d = torch.nn.functional.normalize(torch.randn(2000, 3), dim=1)
    torch.testing.assert_close(student.rgb_of(theirs, d), teacher.rgb_of(theirs, d))


@pytest.mark.parametrize("architecture", ["ngp", "mlp"])
def test_students_without_a_closed_form_take_over_the_colour_head_alone(
    architecture: str, teacher: Field
) -> None:
    student = build_field(architecture, STUDENTS[architecture])
    assert isinstance(student, LatentField) and isinstance(teacher, LatentField)
    before = {name: p.detach().clone() for name, p in student.branch.named_parameters()}
    latent = teacher.latent(torch.zeros(5, 3))
    translate = translator(teacher, latent, torch.ones(5, 3), torch.ones(5, 3), torch.ones(5))
    initialise(student, teacher, None, translate)  # pyright: ignore[reportArgumentType]
    heads = zip(student.color_head.parameters(), teacher.color_head.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in heads)
    assert all(torch.equal(p, before[name]) for name, p in student.branch.named_parameters())
