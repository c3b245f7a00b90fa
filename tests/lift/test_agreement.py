"""How far views agree: the scatter, what whitening does with it, and views that count alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geodistill.checks import ShapeError
from geodistill.lift.agreement import scatter, whitening
from geodistill.lift.files import FeatureSet
from geodistill.lift.solve import weighted_mean
from geodistill.lift.views import Equations, PixelFeatures, View, alike
from geodistill.render.indexed import IndexedFootprint


def view(index: list[int], values: torch.Tensor, elements: int) -> View:
    """One whose pixels each show one element."""
    pixels = torch.tensor(index, dtype=torch.int32)[:, None]
    footprint = IndexedFootprint(pixels, torch.ones(len(index), 1), elements)
    own = torch.arange(len(index), dtype=torch.int32)[:, None]
    features = PixelFeatures(values, own, torch.ones(len(index), 1))
    return View(lambda: footprint, features, torch.ones(len(index)))


def test_every_view_counts_alike_however_large_it_shows_an_element() -> None:
    near = view([0] * 9 + [1], torch.tensor([[1.0]] * 9 + [[5.0]]), 2)
    far = view([0, 1, 1, 1], torch.tensor([[4.0], [2.0], [2.0], [2.0]]), 2)
    assert weighted_mean([near, far]).features[0, 0] == pytest.approx(1.3)
    even = weighted_mean([alike(near), alike(far)])
    torch.testing.assert_close(even.features, torch.tensor([[2.5], [3.5]]))
    torch.testing.assert_close(even.mass, torch.tensor([2.0, 2.0]))


def test_what_is_not_trusted_stays_so() -> None:
    some = view([0, 0, 1], torch.tensor([[1.0], [9.0], [2.0]]), 2)
    some = alike(replace(some, trust=torch.tensor([1.0, 0.0, 0.0])))
    assert torch.equal(some.trust > 0, torch.tensor([True, False, False]))
    assert not bool(Equations(some).mass()[1])


def test_the_scatter_is_the_covariance_between_views() -> None:
    draw = torch.Generator().manual_seed(0)
    truth, spread = torch.randn(500, 3, generator=draw), torch.tensor([2.0, 0.5, 0.1])
    noise = torch.randn(8, 500, 3, generator=draw) * spread
    views = [view(list(range(500)), truth + one, 500) for one in noise]
    found = scatter(views, truth, torch.ones(500).bool())
    torch.testing.assert_close(found, torch.diag(spread**2), rtol=0.1, atol=0.06)
    assert not scatter(views, truth, torch.zeros(500).bool()).any()
    white = whitening(found)
    torch.testing.assert_close(white, white.T)
    gains = torch.linalg.eigvalsh(white).flip(0) * spread.flip(0)
    # The floor keeps the direction that views hardly differ in from taking all.
    assert gains[0] < gains[2] and float(gains[2] / gains[1]) < 1.5


def test_whitening_of_nothing_changes_nothing() -> None:
    assert torch.equal(whitening(torch.zeros(3, 3)), torch.eye(3))
    same = whitening(torch.eye(3))
    torch.testing.assert_close(same / same[0, 0], torch.eye(3))


def test_places_are_told_apart_by_what_views_agree_on() -> None:
    """Two kinds of places that differ little, in a direction without noise."""
    draw = torch.Generator().manual_seed(1)
    kind = torch.arange(400) % 2
    features = torch.randn(400, 2, generator=draw) * torch.tensor([1.0, 0.02])
    features[:, 1] += 0.2 * kind
    plain = FeatureSet(features, torch.ones(400).bool(), "mesh", "d", "t", "f")
    known = replace(plain, scatter=torch.diag(torch.tensor([1.0, 0.0004])))
    assert torch.equal(plain.agreed(), plain.directions())

    def found(vectors: torch.Tensor) -> float:
        vectors = vectors - vectors.mean(0)
        like = vectors @ vectors.T
        like.fill_diagonal_(-torch.inf)
        return float((kind[like.argmax(1)] == kind).float().mean())

    assert found(known.agreed()) > found(plain.directions())
    with pytest.raises(ShapeError, match="scatter"):
        replace(plain, scatter=torch.eye(3))
