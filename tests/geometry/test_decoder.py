"""Fields with the conventions of other programs, against slow evaluations from the definitions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import InputError, UsageError
from geodistill.geometry.contraction import contract, expand
from geodistill.geometry.fields import build_field, load_field, save_field
from geodistill.geometry.fields.activations import spherical_harmonics
from geodistill.geometry.fields.decoder import DecodedField, DecoderConfig
from geodistill.geometry.fields.foreign import arrays_from_field, field_from_arrays, seen_cells
from geodistill.geometry.fields.heads import LatentField
from geodistill.geometry.fields.mlp import MlpConfig
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.fields.plenoxels import Plenoxels, PlenoxelsConfig
from geodistill.geometry.fields.tensorf import TensorfConfig, TensorfCpConfig

TENSORF_HEAD = DecoderConfig(
    density="softplus",
    density_shift=-10.0,
    density_scale=25.0,
    features=5,
    head="frequencies",
    width=16,
    layers=2,
    bias=True,
    view_frequencies=(1.0, 2.0),
    feature_frequencies=(1.0, 2.0, 4.0),
)
NGP = NgpConfig(levels=3, log2_size=8, base_resolution=4, max_resolution=16, hidden=8)
BOX = (-1.0, -0.5, -0.25, 0.5, 1.0, 0.75)


def points(count: int = 300, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    u = torch.rand(count, 3, generator=draw) * 2 - 1
    return u, F.normalize(torch.randn(count, 3, generator=draw), dim=1)


def decoded(architecture: str, config: object, seed: int = 1) -> DecodedField:
    field = build_field(architecture, config, seed)
    assert isinstance(field, DecodedField)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.5)
    return field


def mlp(x: Tensor, field: DecodedField) -> Tensor:
    assert field.color_head is not None
    weights, biases = list(field.color_head.weights), list(field.color_head.biases)
    for i, weight in enumerate(weights):
        x = x @ weight.t() + (biases[i] if biases else 0.0)
        x = x if i == len(weights) - 1 else x.clamp_min(0.0)
    return torch.sigmoid(x)


@torch.no_grad()
def test_a_scaled_decoder_is_the_plain_field_with_another_unit_of_density() -> None:
    plain = build_field("ngp", NGP, 3)
    scaled = build_field("ngp", replace(NGP, decoder=DecoderConfig(density_scale=2.5)), 4)
    assert isinstance(plain, LatentField) and isinstance(scaled, DecodedField)
    scaled.load_state_dict(plain.state_dict())
    u, d = points()
    assert torch.allclose(scaled.sigma(u), 2.5 * plain.sigma(u))
    assert torch.equal(scaled.rgb_of(scaled.latent(u), d), plain.rgb_of(plain.latent(u), d))


@torch.no_grad()
@pytest.mark.parametrize("act", ["exp", "softplus", "relu"])
def test_density_is_the_scaled_activation_of_the_shifted_raw_value(act: str) -> None:
    decoder = replace(TENSORF_HEAD, density=act, density_shift=0.3)
    field = decoded("tensorf", TensorfConfig(8, 2, 3, floor=0.1, decoder=decoder))
    u, _ = points()
    raw = field.branch.raw(u).double() + 0.3
    function = {"exp": raw.exp(), "softplus": (1 + raw.exp()).log(), "relu": raw.clamp_min(0.0)}
    assert torch.allclose(field.sigma(u).double(), 25 * function[act], rtol=1e-4)
    assert torch.equal(field.sigma(u), field.sigma_of(field.latent(u)))
    sigma, latent_at = field.sigma_first(u)
    assert torch.equal(sigma, field.sigma(u))
    assert torch.equal(latent_at(torch.tensor([5, 2])), field.latent(u)[[5, 2]])


@torch.no_grad()
@pytest.mark.parametrize("positions", [False, True])
def test_the_network_on_sines_sees_features_direction_and_position(positions: bool) -> None:
    frequencies = (3.0, 5.0) if positions else ()
    decoder = replace(TENSORF_HEAD, position_frequencies=frequencies)
    field = decoded("tensorf", TensorfConfig(8, 2, 3, decoder=decoder))
    u, d = points()
    features = field.branch(u)[:, 1:]
    given = [features, d]
    if positions:
        given += [u, torch.sin(3 * u), torch.cos(3 * u), torch.sin(5 * u), torch.cos(5 * u)]
    for f in (1.0, 2.0, 4.0):
        given += [torch.sin(f * features), torch.cos(f * features)]
    for f in (1.0, 2.0):
        given += [torch.sin(f * d), torch.cos(f * d)]
    assert torch.allclose(field.rgb_of(field.latent(u), d), mlp(torch.cat(given, 1), field))


@torch.no_grad()
def test_features_that_are_harmonics_are_colours_without_a_network() -> None:
    decoder = DecoderConfig(density="relu", features=12, head="sh")
    field = decoded("tensorf-cp", TensorfCpConfig(8, 2, 3, decoder=decoder))
    u, d = points()
    k = field.branch(u)[:, 1:].view(-1, 3, 4)
    basis = spherical_harmonics(d, 1)
    expected = torch.stack([(k[:, c] * basis).sum(1) for c in range(3)], 1) + 0.5
    assert torch.allclose(field.rgb_of(field.latent(u), d), expected.clamp_min(0.0))


@torch.no_grad()
def test_biases_and_more_layers_of_a_density_network() -> None:
    config = replace(NGP, layers=2, bias=True, decoder=DecoderConfig(features=4, bias=True))
    field = decoded("ngp", config)
    u, d = points()
    net = field.branch.density_net
    assert [tuple(w.shape) for w in net.weights] == [(8, 6), (8, 8), (5, 8)]
    x = torch.cat([spherical_harmonics(d, 3), field.latent(u)[:, 1:]], 1)
    assert torch.allclose(field.rgb_of(field.latent(u), d), mlp(x, field))
    before = field.latent(u)
    net.biases[-1] += 1.0
    assert torch.allclose(field.latent(u), before + 1.0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["ngp", "tensorf", "plenoxels"])
def test_a_box_holds_the_grid_and_nothing_is_outside(architecture: str) -> None:
    config = {
        "ngp": NGP,
        "tensorf": TensorfConfig(8, 2, 3, floor=0.0),
        "plenoxels": PlenoxelsConfig(8),
    }[architecture]
    boxed = build_field(architecture, replace(config, box=BOX), 5)
    whole = build_field(architecture, config, 5)
    if isinstance(boxed, Plenoxels) and isinstance(whole, Plenoxels):
        draw = torch.Generator().manual_seed(1)
        values = torch.rand(8**3, boxed.channels, generator=draw)
        for field in (boxed, whole):
            field.allocate(torch.ones(8, 8, 8, dtype=torch.bool), values)
    else:
        boxed.load_state_dict(whole.state_dict())
    inner, d = points()
    low, high = torch.tensor(BOX).view(2, 3)
    u = low + (inner + 1) / 2 * (high - low)
    assert torch.allclose(boxed.sigma(u), whole.sigma(inner), rtol=1e-4)
    rgb = boxed.rgb_of(boxed.latent(u), d)
    assert torch.allclose(rgb, whole.rgb_of(whole.latent(inner), d), atol=1e-4)
    outside = inner[((inner < low) | (inner > high)).any(1)]
    assert len(outside) > 50 and not boxed.sigma(outside).any()
    assert not boxed.sigma_of(boxed.latent(outside)).any()


@torch.no_grad()
def test_grids_of_other_sides_and_degrees() -> None:
    field = build_field("tensorf", TensorfConfig(8, 2, 3, grid=(4, 5, 6)))
    shapes = [tuple(p.shape) for p in field.branch.density_planes]
    assert shapes == [(5, 4, 2), (6, 4, 2), (6, 5, 2)]
    assert [len(p) for p in field.branch.color_lines] == [6, 5, 4]
    voxels = build_field("plenoxels", PlenoxelsConfig(8, grid=(4, 5, 6), sh_degree=1))
    assert isinstance(voxels, Plenoxels)
    nodes = torch.zeros(4, 5, 6, dtype=torch.bool)
    nodes[1, 2, 3] = True
    voxels.allocate(nodes, torch.tensor([[0.5] + [0.0] * 12]))
    centre = (torch.tensor([[1.0, 2.0, 3.0]]) + 0.5) / torch.tensor([4.0, 5.0, 6.0]) * 2 - 1
    assert float(voxels.sigma(centre)) == pytest.approx(500.0)
    assert torch.allclose(voxels.rgb_of(voxels.latent(centre), centre), torch.tensor(0.5))


@torch.no_grad()
def test_an_mlp_of_given_frequencies_skip_and_widths() -> None:
    config = MlpConfig(
        4, 6, bf16=False, frequencies=(2.0, 9.0), skip=2, trunk_out=7, hidden=(), bias=True
    )
    field = build_field("mlp", replace(config, decoder=DecoderConfig(features=3, bias=True)))
    u, _ = points(20)
    e = torch.cat([u, torch.sin(2 * u), torch.cos(2 * u), torch.sin(9 * u), torch.cos(9 * u)], 1)
    x = e
    for i, layer in enumerate(field.branch.trunk):
        x = x @ layer.weight.t() + layer.bias
        if i < 3:
            x = x.clamp_min(0)
        if i == 2:
            x = torch.cat([x, e], 1)
    net = field.branch.density_net
    assert x.shape == (20, 7) and len(net.weights) == 1
    assert torch.allclose(field.latent(u), x @ net.weights[0].t() + net.biases[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["linf", "l2"])
def test_contraction_keeps_the_middle_and_holds_all_of_space(kind) -> None:
    draw = torch.Generator().manual_seed(0)
    v = torch.randn(500, 3, generator=draw, dtype=torch.float64) * 3
    u = contract(v, kind)
    length = v.abs().amax(1) if kind == "linf" else v.norm(dim=1)
    near = length <= 1
    assert near.any() and torch.equal(u[near], v[near] / 2)
    far = v[~near] * ((2 - 1 / length[~near]) / length[~near])[:, None] / 2
    assert torch.allclose(u[~near], far) and bool((u.abs() < 1).all())
    assert torch.allclose(expand(u, kind), v, rtol=1e-6)


@torch.no_grad()
def test_density_of_a_contracted_field_far_from_the_middle() -> None:
    field = build_field("ngp", NGP, 2)
    field.contraction = "linf"
    field.world_from_field = torch.diag(torch.tensor([4.0, 4, 4, 1], dtype=torch.float64))
    x = torch.tensor([[8.0, 2.0, 0.0], [400.0, 0.0, -100.0]])
    v = x / 4
    length = v.abs().amax(1, keepdim=True)
    u = v / length * (2 - 1 / length) / 2
    assert torch.allclose(field.density(x), field.sigma(u) / 4, rtol=1e-4)


FOREIGN = {
    "ngp": (replace(NGP, box=BOX, decoder=DecoderConfig(density_scale=3.0)), "linf"),
    "tensorf": (TensorfConfig(8, 2, 3, grid=(4, 5, 6), box=BOX, decoder=TENSORF_HEAD), "none"),
    "plenoxels": (PlenoxelsConfig(8, grid=(4, 5, 6), sh_degree=1, box=BOX), "none"),
}


@torch.no_grad()
@pytest.mark.parametrize("architecture", FOREIGN)
def test_foreign_fields_survive_arrays_and_our_own_files(architecture: str, tmp_path: Path) -> None:
    config, contraction = FOREIGN[architecture]
    field = build_field(architecture, config, 6)
    field.contraction = contraction
    if isinstance(field, Plenoxels):
        nodes = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0)) > 0.5
        field.allocate(nodes, torch.rand(int(nodes.sum()), field.channels))
    save_field(field, tmp_path / "f.safetensors")
    u, d = points()
    for again in (
        load_field(tmp_path / "f.safetensors"),
        field_from_arrays(arrays_from_field(field), "f"),
    ):
        assert again.contraction == contraction and type(again) is type(field)
        assert torch.equal(again.sigma(u), field.sigma(u))
        assert torch.equal(again.rgb_of(again.latent(u), d), field.rgb_of(field.latent(u), d))


def test_cells_that_hold_something_are_found() -> None:
    field = build_field("plenoxels", PlenoxelsConfig(16))
    assert isinstance(field, Plenoxels)
    nodes = torch.zeros(16, 16, 16, dtype=torch.bool)
    nodes[5, 6, 7] = True
    field.allocate(nodes, torch.ones(1, field.channels))
    found = seen_cells(field, 32).nonzero()
    # The node's hat reaches one spacing, two cells, to each side, and neighbours are kept.
    assert found.amin(0).tolist() == [8, 10, 12] and found.amax(0).tolist() == [13, 15, 17]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"box": (0.0, 0, 0, 1, 1)}, "'box' must be a low and a high corner"),
        ({"box": (0.0, 0, 0, 1, 1, 2)}, "'box' must lie in the unit cube"),
        ({"box": (0.0, 0, 0, 1, 0, 1)}, "'box' must be a low and a high corner"),
        ({"grid": (8, 8)}, "'grid' must have three numbers"),
        ({"grid": (8, 8, 1)}, "every number of 'grid' must be at least 2"),
        ({"decoder": DecoderConfig(head="sh")}, "'decoder.features' must be 3, 12, 27 or 48"),
        ({"decoder": DecoderConfig(density_scale=0.0)}, "'decoder.density_scale' must be positive"),
        (
            {"decoder": DecoderConfig(view_frequencies=(float("nan"),))},
            "'decoder.view_frequencies' must hold finite numbers",
        ),
    ],
)
def test_what_no_field_can_be(change: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_field("tensorf", replace(TensorfConfig(8, 2, 3), **change))


def test_arrays_that_are_not_what_they_say() -> None:
    arrays = arrays_from_field(build_field("ngp", NGP))
    missing = {**arrays, "parameters": {"branch.table": arrays["parameters"]["branch.table"]}}
    with pytest.raises(InputError, match=r"it\.ingp does not hold what its description says"):
        field_from_arrays(missing, "it.ingp")  # pyright: ignore[reportArgumentType]
    other = {**arrays, "config": {**arrays["config"], "levels": 2}}
    with pytest.raises(InputError, match=r"it.ingp: branch.table has shape"):
        field_from_arrays(other, "it.ingp")  # pyright: ignore[reportArgumentType]


# Limits, and voxels as PVD has them


@pytest.mark.parametrize("box", [(), BOX])
def test_limits_of_raw_density_and_features(box: tuple[float, ...]) -> None:
    limits = (-0.5, 0.25, -0.1, 0.2)
    free = decoded("ngp", replace(NGP, box=box, decoder=DecoderConfig(density_scale=2.0)))
    field = decoded(
        "ngp", replace(NGP, box=box, decoder=DecoderConfig(density_scale=2.0), limits=limits)
    )
    u, d = points()
    with torch.no_grad():
        latent, bounded = free.latent(u), field.latent(u)
        inside = latent[:, 0] > -100
        expected = torch.cat([latent[:, :1].clamp(-0.5, 0.25), latent[:, 1:].clamp(-0.1, 0.2)], 1)
        torch.testing.assert_close(bounded[inside], expected[inside])
        assert (bounded[inside] != latent[inside]).any()
        sigma, latent_at = field.sigma_first(u)
        torch.testing.assert_close(sigma, field.sigma(u))
        torch.testing.assert_close(sigma, field.sigma_of(bounded))
        assert not sigma[~inside].any()
        rgb = field.rgb_of(latent_at(torch.arange(len(u))), d)
        torch.testing.assert_close(rgb, field.rgb_of(bounded, d))


def test_limits_leave_the_shared_latent_shared() -> None:
    field = build_field("ngp", replace(NGP, limits=(-1e-9, 1e-9)))
    assert isinstance(field, LatentField)
    u, _ = points()
    with torch.no_grad():
        torch.testing.assert_close(field.sigma(u), torch.ones(len(u)))
        torch.testing.assert_close(field.sigma_first(u)[0], torch.ones(len(u)))
        assert field.latent(u)[:, 1:].abs().max() > 1e-8


@pytest.mark.parametrize("limits", [(1.0,), (2.0, 1.0), (0.0, 1.0, 5.0, 4.0), (0.0,) * 6])
def test_limits_that_cannot_be(limits: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="limits"):
        build_field("ngp", replace(NGP, limits=limits))


@pytest.mark.parametrize("box", [(), BOX])
def test_voxels_from_border_to_border(box: tuple[float, ...]) -> None:
    """exp(raw) within limits and sigmoid(SH . k), as torch interpolates from border to border."""
    config = PlenoxelsConfig(
        8, (8, 9, 10), 1, box, nodes="borders", density="exp", limits=(-1.0, 1.0), color="sigmoid"
    )
    field = Plenoxels(config)
    values = torch.randn(8 * 9 * 10, 13, generator=torch.Generator().manual_seed(0)) * 2
    field.allocate(torch.ones(8, 9, 10, dtype=torch.bool), values)
    u, d = points()
    low, high = torch.tensor(box or (-1.0, -1, -1, 1, 1, 1)).view(2, 3)
    inside = ((u >= low) & (u <= high)).all(1)
    volume = values.view(8, 9, 10, 13).permute(3, 2, 1, 0)[None]
    place = (2 * (u - low) / (high - low) - 1).view(1, 1, -1, 1, 3)
    found = F.grid_sample(volume, place, align_corners=True).view(13, -1).T
    k = found[:, 1:].unflatten(1, (3, 4))
    rgb = torch.sigmoid((k * spherical_harmonics(d, 1)[:, None]).sum(2))
    with torch.no_grad():
        expected = found[:, 0].clamp(-1, 1).exp() * inside
        torch.testing.assert_close(field.sigma(u), expected, rtol=1e-4, atol=1e-5)
        latent = field.latent(u)
        torch.testing.assert_close(field.sigma_of(latent), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            field.rgb_of(latent, d)[inside], rgb[inside], rtol=1e-4, atol=1e-5
        )
