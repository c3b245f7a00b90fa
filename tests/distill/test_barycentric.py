"""Barycentric feature distillation: the field learns what pixels show, where they show it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.cameras import Similarity, rotations
from geodistill.checks import GeodistillError
from geodistill.distill import barycentric
from geodistill.distill.barycentric import (
    BarycentricSettings,
    FeatureField,
    SurfaceSamples,
    cube_of,
    distil,
    load_feature_field,
    save_feature_field,
)
from geodistill.lift.files import Basis
from geodistill.lift.views import PixelFeatures
from geodistill.nn.coordinate import CoordinateNetwork
from geodistill.runs import Run, save_tensors
from geodistill.train import Budget

TOKENS = torch.eye(3) * 4.0
SMALL = BarycentricSettings(batch=128, lr=3e-3)


def samples(count: int = 1000, scale: float = 1.0, trust: Tensor | None = None) -> SurfaceSamples:
    """A sphere in three bands of height, each with a token of its own."""
    draw = torch.Generator().manual_seed(0)
    points = F.normalize(torch.randn(count, 3, generator=draw, dtype=torch.float64), dim=1)
    band = (points[:, 2] * 1.5 + 1.5).long().clamp(max=2).int()[:, None]
    features = PixelFeatures(TOKENS, band, torch.ones(count, 1))
    return SurfaceSamples(points * scale, features, torch.ones(count) if trust is None else trust)


def test_the_field_says_what_the_pixels_showed() -> None:
    shown = samples()
    field = distil(shown, Budget(steps=100), SMALL)
    cosine = (field(shown.points) * F.normalize(shown.features(slice(None)), dim=1)).sum(dim=1)
    assert float(cosine.mean()) > 0.95
    torch.testing.assert_close(field(shown.points).norm(dim=1), torch.ones(1000))


def test_scale_and_place_of_the_world_do_not_matter() -> None:
    shown, large = samples(), samples(scale=1000.0)
    large = SurfaceSamples(large.points + 1e6, large.features, large.trust)
    small_field, large_field = (distil(s, Budget(steps=20), SMALL) for s in (shown, large))
    torch.testing.assert_close(
        large_field(large.points), small_field(shown.points), rtol=1e-3, atol=1e-3
    )


def test_pixels_without_trust_teach_nothing() -> None:
    shown = samples()
    upper = shown.points[:, 2] > 0
    trust = upper.float()
    wrong = shown.features.index.clone()
    wrong[~upper] = 0
    spoilt = SurfaceSamples(shown.points, PixelFeatures(TOKENS, wrong, shown.features.mix), trust)
    right = SurfaceSamples(shown.points, shown.features, trust)
    fields = [distil(s, Budget(steps=20), SMALL) for s in (spoilt, right)]
    assert torch.equal(fields[0](shown.points), fields[1](shown.points))


def test_pixels_are_drawn_in_proportion_to_their_trust() -> None:
    """Two features at one point: the field settles on their trust-weighted mean direction."""
    index = torch.tensor([[0], [1]], dtype=torch.int32).repeat(200, 1)
    points = torch.tensor([[0.3, 0.1, 0.2]], dtype=torch.float64).repeat(400, 1)
    trust = torch.tensor([3.0, 1.0]).repeat(200)
    shown = SurfaceSamples(points, PixelFeatures(TOKENS, index, torch.ones(400, 1)), trust)
    field = distil(shown, Budget(steps=100), BarycentricSettings(batch=512, lr=3e-3))
    expected = F.normalize(torch.tensor([[3.0, 1.0, 0.0]]), dim=1)
    torch.testing.assert_close(field(points[:1]), expected, rtol=0.0, atol=0.03)


def test_views_are_joined_with_their_tokens() -> None:
    first, second = samples(5), samples(7)
    joined = SurfaceSamples.concatenate([first, second])
    assert joined.features.tokens.shape == (6, 3) and joined.points.shape == (12, 3)
    whole = slice(None)
    expected = torch.cat([first.features(whole), second.features(whole)])
    torch.testing.assert_close(joined.features(whole), expected)


def test_an_interrupted_training_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, budget = samples(500), 12
    expected = distil(shown, Budget(steps=budget), SMALL)
    loss = barycentric._Job.loss

    def interrupted(job: barycentric._Job, step: int, progress: float) -> object:
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(job, step, progress)

    monkeypatch.setattr(barycentric._Job, "loss", interrupted)
    with Run.open(tmp_path / "run", "test", {}) as run, pytest.raises(KeyboardInterrupt):
        distil(shown, Budget(steps=budget), SMALL, run=run)
    monkeypatch.setattr(barycentric._Job, "loss", loss)
    with Run.open(tmp_path / "run", "test", {}) as run:
        found = distil(shown, Budget(steps=budget), SMALL, run=run)
    assert torch.equal(found(shown.points), expected(shown.points))


def field() -> FeatureField:
    frame = Similarity(
        rotations(torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)),
        torch.tensor([5.0, -2.0, 1.0], dtype=torch.float64),
        2.5,
    )
    return FeatureField(
        CoordinateNetwork(4, 16, 3), frame, Basis(torch.randn(9), torch.randn(9, 4))
    )


def test_a_field_comes_back_from_its_file(tmp_path: Path) -> None:
    wanted = field()
    save_feature_field(tmp_path / "f.safetensors", wanted)
    found = load_feature_field(tmp_path / "f.safetensors")
    points = torch.randn(20, 3, dtype=torch.float64)
    torch.testing.assert_close(found(points), wanted(points))
    assert found.basis is not None and wanted.basis is not None
    assert torch.equal(found.basis.axes, wanted.basis.axes)


def test_the_cube_of_points_has_their_middle_and_longest_side() -> None:
    points = torch.tensor([[0.0, 0.0, 0.0], [4.0, 2.0, 1.0]], dtype=torch.float64)
    local = cube_of(points).inverse().apply(points)
    torch.testing.assert_close(
        local, torch.tensor([[-1.0, -0.5, -0.25], [1.0, 0.5, 0.25]], dtype=torch.float64)
    )
    assert cube_of(points[:1]).s == 1.0


def test_what_cannot_be_learned_from_is_refused() -> None:
    with pytest.raises(GeodistillError, match="no pixel shows the surface"):
        distil(samples(9, trust=torch.zeros(9)), Budget(steps=1))
    nan = samples(9)
    nan.points[3] = torch.nan
    with pytest.raises(GeodistillError, match="NaN"):
        distil(nan, Budget(steps=1))


def test_other_files_are_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors", {"x": torch.ones(1)}, {"kind": "field"})
    with pytest.raises(GeodistillError, match="holds 'field', not a feature field"):
        load_feature_field(tmp_path / "a.safetensors")
    save_tensors(tmp_path / "b.safetensors", {"x": torch.ones(1)}, {"kind": "feature-field"})
    with pytest.raises(GeodistillError, match="does not hold what a feature field has"):
        load_feature_field(tmp_path / "b.safetensors")
