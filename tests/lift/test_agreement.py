"""How far views agree: the scatter, what whitening does with it, and views that count alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geodistill.checks import ShapeError
from geodistill.lift.agreement import RIDGE, view_scatter, whitening
from geodistill.lift.files import FeatureSet
from geodistill.lift.solve import weighted_mean
from geodistill.lift.views import Equations, PixelFeatures, View, equalised
from geodistill.render.indexed import IndexedFootprint


def view(index: list[int], values: torch.Tensor, elements: int) -> View:
    """One whose pixels each show one element."""
    pixels = torch.tensor(index, dtype=torch.int32)[:, None]
    footprint = IndexedFootprint(pixels, torch.ones(len(index), 1), elements)
    own = torch.arange(len(index), dtype=torch.int32)[:, None]
    features = PixelFeatures(values, own, torch.ones(len(index), 1))
    return View(lambda: footprint, lambda: features, torch.ones(len(index)))


def test_every_view_counts_alike_however_large_it_shows_an_element() -> None:
    near = view([0] * 9 + [1], torch.tensor([[1.0]] * 9 + [[5.0]]), 2)
    far = view([0, 1, 1, 1], torch.tensor([[4.0], [2.0], [2.0], [2.0]]), 2)
    assert weighted_mean([near, far]).features[0, 0] == pytest.approx(1.3)
    even = weighted_mean([equalised(near), equalised(far)])
    torch.testing.assert_close(even.features, torch.tensor([[2.5], [3.5]]))
    torch.testing.assert_close(even.mass, torch.tensor([2.0, 2.0]))


def test_what_is_not_trusted_stays_so() -> None:
    some = view([0, 0, 1], torch.tensor([[1.0], [9.0], [2.0]]), 2)
    assert torch.equal(equalised(some).trust, torch.tensor([0.5, 0.5, 1.0]))
    some = equalised(replace(some, trust=torch.tensor([1.0, 0.0, 0.0])))
    assert torch.equal(some.trust, torch.tensor([1.0, 0.0, 0.0]))
    assert not bool(Equations(some).mass()[1])


def test_the_scatter_is_the_covariance_between_views() -> None:
    draw = torch.Generator().manual_seed(0)
    truth, spread = torch.randn(4000, 3, generator=draw), torch.tensor([2.0, 0.5, 0.1])
    noise = torch.randn(3, 4000, 3, generator=draw) * spread
    views = [view(list(range(4000)), truth + one, 4000) for one in noise]
    found = view_scatter(views, 3)
    torch.testing.assert_close(found.diagonal(), spread**2, rtol=0.08, atol=0)
    correlation = found / found.diagonal().outer(found.diagonal()).sqrt()
    assert float((correlation - torch.eye(3)).abs().max()) < 0.05
    # An element in one view says nothing of how far views agree.
    lone = view([0], torch.full((1, 3), 50.0), 4000)
    torch.testing.assert_close(view_scatter([*views[:1], lone], 3)[0, 0] > 100, torch.tensor(True))
    assert not view_scatter(
        [view([0], torch.ones(1, 3), 4), view([1], torch.ones(1, 3), 4)], 3
    ).any()
    assert not view_scatter(views[:1], 3).any()


def test_many_channels_go_in_blocks() -> None:
    draw = torch.Generator().manual_seed(2)
    values = torch.randn(2, 300, 70, generator=draw)
    found = view_scatter([view(list(range(300)), one, 300) for one in values], 70)
    apart = (values[0] - values[1]).double()
    torch.testing.assert_close(found, (apart.T @ apart / 600).float(), rtol=1e-4, atol=1e-5)


def test_whitening_is_the_ridged_inverse_root() -> None:
    spread = torch.tensor([4.0, 1.0, 0.1])
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    found = whitening(turn @ torch.diag(spread) @ turn.T)
    gains = (spread / spread.mean() + RIDGE).rsqrt()
    torch.testing.assert_close(found, turn @ torch.diag(gains) @ turn.T)
    assert torch.equal(whitening(torch.zeros(3, 3)), torch.eye(3))


def test_places_are_told_apart_by_what_views_agree_on() -> None:
    """Two kinds of places that differ little, in a direction without noise."""
    draw = torch.Generator().manual_seed(1)
    kind = torch.arange(400) % 2
    features = torch.randn(400, 2, generator=draw) * torch.tensor([1.0, 0.02])
    features[:, 1] += 0.2 * kind
    plain = FeatureSet(features, torch.ones(400).bool(), "mesh", "d", "t", "f")
    known = replace(plain, scatter=torch.diag(torch.tensor([1.0, 0.0004])))
    assert torch.equal(plain.whitened(), plain.directions())

    def found(vectors: torch.Tensor) -> float:
        vectors = vectors - vectors.mean(0)
        like = vectors @ vectors.T
        like.fill_diagonal_(-torch.inf)
        return float((kind[like.argmax(1)] == kind).float().mean())

    assert found(known.whitened()) > found(plain.directions())
    with pytest.raises(ShapeError, match="scatter"):
        replace(plain, scatter=torch.eye(3))
