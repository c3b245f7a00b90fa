"""The field protocol, for every architecture at once: identities of density, colour and frame."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from geodistill.cameras import Similarity
from geodistill.checks import ShapeError, UsageError
from geodistill.geometry.fields import ARCHITECTURES, Field, build_field
from geodistill.geometry.fields.activations import (
    LOG_DENSITY_MAX,
    positional_encoding,
    spherical_harmonics,
    truncated_exp,
)
from geodistill.geometry.fields.composite import CompositeConfig
from geodistill.geometry.fields.heads import LATENT, LatentField
from geodistill.geometry.fields.mlp import MlpConfig
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.fields.plenoxels import CHANNELS, Plenoxels, PlenoxelsConfig
from geodistill.geometry.fields.tensorf import TensorfConfig, TensorfCpConfig

NGP = NgpConfig(levels=4, log2_size=8, base_resolution=4, max_resolution=32, hidden=16)
VM = TensorfConfig(resolution=9, density_rank=2, color_rank=3)
TINY = {
    "ngp": NGP,
    "tensorf": VM,
    "tensorf-cp": TensorfCpConfig(resolution=9, density_rank=4, color_rank=5),
    "plenoxels": PlenoxelsConfig(resolution=8),
    "mlp": MlpConfig(depth=4, width=32, octaves=3),
    "composite": CompositeConfig(NGP, VM),
}
HEAD = 31 * 64 + 64 * 64 + 64 * 3


def lively(architecture: str) -> Field:
    """A tiny field whose density and colour vary all over its cube."""
    field = build_field(architecture, TINY[architecture], seed=1)
    draw = torch.Generator().manual_seed(2)
    if isinstance(field, Plenoxels):
        values = torch.rand(8**3, CHANNELS, generator=draw) - torch.eye(CHANNELS)[0] * 0.2
        field.allocate(torch.ones(8, 8, 8, dtype=torch.bool), values)
    for name, p in field.named_parameters():
        if "table" in name or "lines" in name or "planes" in name:
            p.data = torch.randn(p.shape, generator=draw)
    return field


def points(count: int, seed: int = 0, reach: float = 1.0) -> Tensor:
    return (torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1) * reach


def directions(count: int, seed: int = 0) -> Tensor:
    raw = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(raw, dim=1)


def a_similarity(scale: float = 2.5) -> Similarity:
    skew = torch.tensor([[0.0, -0.7, 0.3], [0.7, 0.0, -1.1], [-0.3, 1.1, 0.0]], dtype=torch.float64)
    return Similarity(torch.linalg.matrix_exp(skew), torch.tensor([4.0, -2.0, 7.0]).double(), scale)


@pytest.fixture(params=list(TINY))
def field(request: pytest.FixtureRequest) -> Field:
    return lively(request.param)


def test_every_architecture_is_tested() -> None:
    assert set(TINY) == set(ARCHITECTURES)


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        ("ngp", 10_616_496),
        ("tensorf", 17_346_032),
        ("tensorf-cp", 356_192),
        ("mlp", 443_548),
        ("composite", 10_616_496 + 17_346_032 - HEAD),  # the two share one colour head
    ],
)
def test_reference_sizes(architecture: str, count: int) -> None:
    built = build_field(architecture, ARCHITECTURES[architecture].config())
    assert built.parameter_count() == count


def test_small_presets_are_of_their_config_class_and_smaller() -> None:
    for name, entry in ARCHITECTURES.items():
        assert type(entry.small) is entry.config
        if name != "plenoxels":  # whose size is that of the scene
            small, full = build_field(name, entry.small), build_field(name, entry.config())
            assert small.parameter_count() < full.parameter_count()


def test_building_is_a_function_of_the_seed_and_leaves_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (build_field("composite", TINY["composite"], s) for s in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    pairs = list(zip(first.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_an_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'tensorf'"):
        build_field("tensorff", None)


def test_sigma_is_the_decoded_latent(field: Field) -> None:
    u = points(257)
    latent = field.latent(u)
    torch.testing.assert_close(field.sigma(u), field.sigma_of(latent), rtol=1e-6, atol=1e-6)
    assert latent.shape[1] == (LATENT if isinstance(field, LatentField) else CHANNELS)
    assert (field.sigma(u) >= 0).all()
    assert field.sigma(u).std() > 0


def test_density_and_colour_are_the_unit_cube_s_when_the_frame_is_the_identity(
    field: Field,
) -> None:
    u, d = points(100, reach=0.999), directions(100)
    torch.testing.assert_close(field.density(u), field.sigma(u))
    torch.testing.assert_close(field.color(u, d), field.rgb_of(field.latent(u), d))


def test_colours_are_displayable_and_depend_on_the_direction(field: Field) -> None:
    u = points(64)
    there, back = field.color(u, directions(64)), field.color(u, -directions(64))
    assert (there >= 0).all()
    assert isinstance(field, Plenoxels) or (there <= 1).all()
    assert (there - back).abs().max() > 1e-3


def test_no_points_give_empty_results(field: Field) -> None:
    nothing = torch.zeros(0, 3)
    assert field.density(nothing).shape == (0,)
    assert field.color(nothing, nothing).shape == (0, 3)


def test_outside_the_cube_there_is_nothing(field: Field) -> None:
    outside = points(200, seed=1)
    outside[torch.arange(200), torch.arange(200) % 3] = torch.tensor(
        [1.001, -1.001, 40.0, -9.0] * 50
    )
    assert torch.equal(field.density(outside), torch.zeros(200))


def test_density_is_zero_exactly_where_the_occupancy_grid_is_false(field: Field) -> None:
    occupancy = torch.zeros(4, 4, 4, dtype=torch.bool)
    occupancy[3, 0, 1] = True  # x in [1/2, 1), y in [-1, -1/2), z in [-1/2, 0)
    field.occupancy = occupancy
    inside = points(50) * 0.24 + torch.tensor([0.75, -0.75, -0.25])
    permuted = inside[:, [1, 2, 0]]
    assert field.occupied(inside).all() and not field.occupied(permuted).any()
    torch.testing.assert_close(field.density(inside), field.sigma(inside))
    assert torch.equal(field.density(permuted), torch.zeros(50))


def test_density_scales_with_the_world_and_colour_turns_with_it(field: Field) -> None:
    u, d = points(100, reach=0.99), directions(100)
    frame = a_similarity(2.5)
    field.world_from_field = frame.matrix()
    x = frame.apply(u.double())
    torch.testing.assert_close(field.density(x), field.sigma(u) / 2.5, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        field.color(x, frame.rotate(d.double())),
        field.rgb_of(field.latent(u), d),
        rtol=1e-3,
        atol=1e-4,
    )


def test_autograd_reaches_every_parameter(field: Field) -> None:
    latent = field.latent(points(4000))
    loss = field.sigma_of(latent).sum() + field.rgb_of(latent, directions(4000)).square().sum()
    loss.backward()
    unreached = [n for n, p in field.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []


def test_density_first_and_the_rest_where_asked_is_the_same_field(field: Field) -> None:
    """And has the same gradients, though density is evaluated once."""
    u, d, index = points(300), directions(120), torch.arange(60, 180)
    grads = []
    for first in (True, False):
        if first:
            sigma, latent_at = field.sigma_first(u)
            latent = latent_at(index)
        else:
            whole = field.latent(u)
            sigma, latent = field.sigma_of(whole), whole[index]
        rgb = field.rgb_of(latent, d)
        grads.append(
            (sigma, rgb, torch.autograd.grad(loss_of(sigma, rgb), list(field.parameters())))
        )
    (sigma, rgb, got), (full_sigma, full_rgb, expected) = grads
    torch.testing.assert_close(sigma, full_sigma, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rgb, full_rgb, rtol=1e-5, atol=1e-6)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


def loss_of(sigma: Tensor, rgb: Tensor) -> Tensor:
    return (-sigma.log1p()).exp().sum() + rgb.square().sum()


def test_every_parameter_is_trained_by_exactly_one_group(field: Field) -> None:
    trained = [id(p) for group in field.param_groups() for p in group.params]
    assert sorted(trained) == sorted(id(p) for p in field.parameters())
    assert all(group.lr > 0 for group in field.param_groups())


def test_points_must_be_a_list_of_triples(field: Field) -> None:
    with pytest.raises(ShapeError, match="x must have shape"):
        field.density(torch.zeros(3))
    with pytest.raises(ShapeError, match="d must have shape"):
        field.color(torch.zeros(5, 3), torch.zeros(4, 3))


def test_the_scene_of_another_field_is_copied_not_shared(field: Field) -> None:
    other = build_field("tensorf", VM)
    other.world_from_field = a_similarity().matrix()
    other.occupancy = torch.zeros(4, 4, 4, dtype=torch.bool)
    other.color_space = "linear"
    field.copy_scene_from(other)
    other.occupancy[0, 0, 0] = True
    other.world_from_field[0, 3] = 99.0
    assert not field.occupancy.any()
    assert torch.equal(field.world_from_field, a_similarity().matrix())
    assert field.color_space == "linear"


@pytest.mark.parametrize("architecture", ["tensorf", "tensorf-cp"])
def test_zero_factors_are_transparent(architecture: str) -> None:
    field = lively(architecture)
    for name, p in field.named_parameters():
        if "density" in name:
            p.data.zero_()
    sigma = field.sigma(points(50))
    torch.testing.assert_close(sigma, torch.full((50,), math.exp(-8.0)))
    across = 1 - math.exp(-float(sigma[0].detach()) * 2 * math.sqrt(3))
    assert across < 1 / 255


def test_the_composite_adds_its_branches() -> None:
    field = lively("composite")
    assert isinstance(field, LatentField)
    parts = dict(field.branch.named_children())
    u = points(50)
    torch.testing.assert_close(field.latent(u), parts["hash"](u) + parts["vm"](u))


def test_voxels_without_nodes_are_empty_and_nodes_hold_their_values() -> None:
    field = build_field("plenoxels", TINY["plenoxels"])
    assert isinstance(field, Plenoxels)
    assert torch.equal(field.sigma(points(20)), torch.zeros(20))
    nodes = torch.rand(8, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.3
    values = torch.rand(int(nodes.sum()), CHANNELS)
    field.allocate(nodes, values)
    at_nodes = field.latent(field.node_positions(nodes.nonzero()))
    torch.testing.assert_close(at_nodes, values, rtol=1e-5, atol=1e-5)
    empty = field.latent(field.node_positions((~nodes).nonzero()))
    torch.testing.assert_close(empty, torch.zeros_like(empty), rtol=0, atol=1e-5)


def test_harmonics_are_orthonormal_by_gauss_legendre_quadrature() -> None:
    z, weight = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(8))
    phi = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    ring = (1 - z * z).sqrt()[:, None]
    d = torch.stack([ring * phi.cos(), ring * phi.sin(), z[:, None].expand(-1, 16)], dim=-1)
    basis = spherical_harmonics(d.reshape(-1, 3), 3)
    area = (weight[:, None] * (2 * math.pi / 16)).expand(-1, 16).reshape(-1)
    torch.testing.assert_close(
        (basis * area[:, None]).t() @ basis, torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_harmonics_of_a_band_are_nested_and_have_its_parity() -> None:
    d = directions(40).double()
    full = spherical_harmonics(d, 3)
    for degree in range(4):
        band = slice(degree**2, (degree + 1) ** 2)
        torch.testing.assert_close(
            spherical_harmonics(-d, 3)[:, band], (-1.0) ** degree * full[:, band]
        )
        assert torch.equal(spherical_harmonics(d, degree), full[:, : band.stop])
    # The order and signs that 3DGS and svox2 store: band 1 is (-y, z, -x).
    torch.testing.assert_close(
        full[:, 1:4], 0.4886025119029199 * d[:, [1, 2, 0]] * d.new_tensor([-1, 1, -1])
    )


def test_positional_encoding_against_its_definition() -> None:
    u = points(5).double()
    got = positional_encoding(u, 3)
    for row, expected in zip(got, u.tolist(), strict=True):
        waves = [f(2.0**k * x) for k in range(3) for f in (math.sin, math.cos) for x in expected]
        torch.testing.assert_close(row, torch.tensor(expected + waves, dtype=torch.float64))


def test_truncated_exp_is_exp_below_its_bound_and_keeps_a_gradient_above() -> None:
    low = torch.linspace(-9, 10, 20, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(truncated_exp(low), low.exp())
    assert torch.autograd.gradcheck(truncated_exp, (low,))
    high = torch.tensor([12.0, 1e4], requires_grad=True)
    truncated_exp(high).sum().backward()
    assert torch.equal(truncated_exp(high), torch.full((2,), math.exp(LOG_DENSITY_MAX)))
    assert high.grad is not None and (high.grad > 0).all() and high.grad.isfinite().all()
