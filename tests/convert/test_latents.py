"""Teacher latents in the students' 16 channels, and the colour head that reads them."""

from __future__ import annotations

import pytest
import torch
from scenes import AnalyticField
from torch import Tensor

from geodistill.convert import latents
from geodistill.convert.latents import RAW_MAX, RAW_MIN, Translator, node_latents, translator
from geodistill.geometry.fields import Field, build_field
from geodistill.geometry.fields.heads import LATENT, LatentField, shade
from geodistill.geometry.fields.plenoxels import CHANNELS, DENSITY_UNIT, PlenoxelsConfig
from geodistill.geometry.fields.tensorf import TensorfConfig

SAMPLES = 600


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "HEAD_STEPS", 150)
    monkeypatch.setattr(latents, "HEAD_BATCH", 256)


@pytest.fixture
def voxels() -> Field:
    """Which field it is does not matter to a translator: only how it decodes."""
    return build_field("plenoxels", PlenoxelsConfig(resolution=8))


@pytest.fixture
def network() -> LatentField:
    field = build_field(
        "tensorf", TensorfConfig(resolution=8, density_rank=1, color_rank=2, floor=1.0)
    )
    assert isinstance(field, LatentField)
    return field


def directions(count: int = SAMPLES) -> Tensor:
    raw = torch.randn(count, 3, generator=torch.Generator().manual_seed(7))
    return torch.nn.functional.normalize(raw, dim=1)


def voxel_latents(rank: int, seed: int = 0) -> Tensor:
    """[S, 28] with density first and harmonics from a space of the given dimension."""
    draw = torch.Generator().manual_seed(seed)
    spread = torch.linspace(0.3, 0.1, rank)
    mixed = (torch.randn(SAMPLES, rank, generator=draw) * spread) @ torch.linalg.qr(
        torch.randn(CHANNELS - 1, rank, generator=draw)
    )[0].t()
    density = torch.exp(torch.randn(SAMPLES, 1, generator=draw) * 2) / DENSITY_UNIT
    return torch.cat([density, mixed + 0.05], dim=1)


def of_voxels(voxels: Field, latent: Tensor, w: Tensor | None = None) -> Translator:
    d = directions(len(latent))
    weights = torch.rand(len(latent)) * 0.5 + 0.1 if w is None else w
    return translator(voxels, latent, voxels.rgb_of(latent, d), d, weights)


def test_a_latent_field_is_passed_on_as_it_is(network: LatentField) -> None:
    u = torch.rand(200, 3) * 2 - 1
    latent = network.latent(u).detach()
    translate = translator(network, latent, torch.rand(200, 3), directions(200), torch.ones(200))
    torch.testing.assert_close(translate(latent), latent, rtol=1e-4, atol=1e-4)
    assert translate.color_head is network.color_head


def test_log_density_is_clamped_to_what_can_be_told_apart(network: LatentField) -> None:
    latent = torch.zeros(3, LATENT)
    latent[:, 0] = torch.tensor([-30.0, 1.5, 10.5])
    translate = translator(network, latent, latent[:, :3], directions(3), torch.ones(3))
    torch.testing.assert_close(translate(latent)[:, 0], torch.tensor([RAW_MIN, 1.5, RAW_MAX]))


def test_voxel_density_becomes_its_logarithm(voxels: Field) -> None:
    latent = voxel_latents(10)
    latent[:3, 0] = torch.tensor([-5.0, 0.0, 1e9])  # relu, empty, opaque
    raw = of_voxels(voxels, latent)(latent)[:, 0]
    torch.testing.assert_close(raw[:3], torch.tensor([RAW_MIN, RAW_MIN, RAW_MAX]))
    expected = (latent[3:, 0] * DENSITY_UNIT).log().clamp(RAW_MIN, RAW_MAX)
    torch.testing.assert_close(raw[3:], expected, rtol=1e-5, atol=1e-5)


def test_fifteen_dimensions_of_colour_are_kept_whole(voxels: Field) -> None:
    latent = voxel_latents(15)
    translate = of_voxels(voxels, latent)
    g = translate(latent)[:, 1:]
    assert g.shape == (SAMPLES, LATENT - 1)
    back = g @ torch.linalg.pinv(translate.projection) + translate.mean
    torch.testing.assert_close(back, latent[:, 1:], rtol=1e-3, atol=1e-4)


def test_more_dimensions_lose_the_weakest(voxels: Field) -> None:
    latent = voxel_latents(CHANNELS - 1)
    translate = of_voxels(voxels, latent)
    g = translate(latent)[:, 1:]
    centred = latent[:, 1:] - latent[:, 1:].mean(dim=0)
    strengths = torch.linalg.svdvals(centred)
    left = centred - g @ torch.linalg.pinv(translate.projection)
    torch.testing.assert_close(left.norm(), strengths[15:].norm(), rtol=1e-3, atol=1e-4)
    assert g.std(dim=0).max() == pytest.approx(1.0, abs=0.01)  # the strongest has unit variance


def test_the_head_learns_to_decode_the_teacher_s_colours(voxels: Field) -> None:
    latent, d = voxel_latents(6), directions()
    translate = of_voxels(voxels, latent)
    target = voxels.rgb_of(latent, d).clamp(0, 1)
    with torch.no_grad():
        decoded = shade(translate.color_head, translate(latent)[:, 1:], d)
    constant = (target - target.mean(dim=0)).square().mean()
    assert (decoded - target).square().mean() < 0.1 * constant


def test_a_translator_is_a_function_of_its_samples(voxels: Field) -> None:
    latent, w = voxel_latents(9), torch.rand(SAMPLES)
    state = torch.random.get_rng_state()
    first = of_voxels(voxels, latent, w)
    assert torch.equal(torch.random.get_rng_state(), state)
    second = of_voxels(voxels, latent, w)
    for a, b in zip(first.color_head.parameters(), second.color_head.parameters(), strict=True):
        assert torch.equal(a, b)


def finite(translate: Translator, latent: Tensor) -> bool:
    head = all(bool(p.isfinite().all()) for p in translate.color_head.parameters())
    return head and bool(translate(latent).isfinite().all())


def test_a_scene_of_thin_smoke_has_a_translator(voxels: Field) -> None:
    """No sample of it contributes much to its ray."""
    latent = voxel_latents(12)
    assert finite(of_voxels(voxels, latent, torch.full((SAMPLES,), 3e-3)), latent)


def test_a_scene_of_one_colour_has_a_translator(voxels: Field) -> None:
    latent = voxel_latents(12)
    latent[:, 1:] = 0.1
    assert finite(of_voxels(voxels, latent), latent)


def test_a_teacher_with_few_channels_fills_the_rest_with_zeros() -> None:
    teacher = AnalyticField()
    latent = teacher.latent(torch.rand(SAMPLES, 3) * 2 - 1)
    d = directions()
    translate = translator(teacher, latent, teacher.rgb_of(latent, d), d, torch.ones(SAMPLES))
    out = translate(latent)
    assert out.shape == (SAMPLES, LATENT) and finite(translate, latent)
    assert out[:, 1:4].std(dim=0).min() > 0 and not out[:, 4:].any()


def test_node_latents_are_the_teacher_s_at_the_nodes(network: LatentField) -> None:
    index = torch.randint(5, (40, 3), generator=torch.Generator().manual_seed(1))
    spacing = torch.linspace(-0.9, 0.7, 5)
    translate = Translator(network, torch.zeros(15), torch.eye(15), network.color_head)
    with torch.no_grad():
        latents = node_latents(network, translate, index, spacing)
        expected = network.latent(spacing[index])
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-4)
    assert node_latents(network, translate, index[:0], spacing).shape == (0, LATENT)
