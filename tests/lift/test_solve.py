"""Lifting on plain matrices: what each solver promises, against dense linear algebra."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geodistill.checks import GeodistillError
from geodistill.footprint import Footprint
from geodistill.lift.solve import exact, held_out_steps, refined, ridge, weighted_mean
from geodistill.lift.views import Equations, PixelFeatures, View

ELEMENTS, PIXELS, CHANNELS = 30, 60, 4


class Matrix(Footprint):
    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.pixels, self.elements = matrix.shape

    def render(self, features: Tensor) -> Tensor:
        return self.matrix @ features

    def to_csr(self) -> Tensor:
        return self.matrix.to_sparse_csr()


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixing(seed: int, opacity: float = 0.9) -> Tensor:
    """A picture of four elements a pixel. [PIXELS, ELEMENTS]"""
    matrix = torch.zeros(PIXELS, ELEMENTS)
    for pixel in range(PIXELS):
        shown = torch.randperm(ELEMENTS, generator=draw(100 * seed + pixel))[:4]
        weights = torch.rand(4, generator=draw(1000 * seed + pixel)) + 0.05
        matrix[pixel, shown] = opacity * weights / weights.sum()
    return matrix


def view(matrix: Tensor, features: Tensor, trust: Tensor | None = None) -> View:
    """A view whose pixels have these features, one token each."""
    index = torch.arange(len(matrix), dtype=torch.int32)[:, None]
    pixels = PixelFeatures(features, index, torch.ones(len(matrix), 1))
    footprint = Matrix(matrix)
    return View(
        lambda: footprint, lambda: pixels, torch.ones(len(matrix)) if trust is None else trust
    )


def true_features() -> Tensor:
    return torch.randn(ELEMENTS, CHANNELS, generator=draw(7))


def views(count: int = 6, noise: float = 0.0) -> list[View]:
    made = []
    for i in range(count):
        matrix = mixing(i)
        rows = matrix / matrix.sum(dim=1, keepdim=True)
        noisy = noise * torch.randn(PIXELS, CHANNELS, generator=draw(50 + i))
        made.append(view(matrix, rows @ true_features() + noisy))
    return made


@pytest.mark.parametrize("solver", [weighted_mean, refined, exact, lambda v: ridge(v, 0.1)])
def test_a_constant_comes_back_exactly(solver: object) -> None:
    constant = torch.tensor([0.25, -3.0])
    made = [view(mixing(i), constant.expand(PIXELS, 2).clone()) for i in range(4)]
    lifted = solver(made)  # type: ignore[operator]
    torch.testing.assert_close(lifted.features, constant.expand(ELEMENTS, 2))


def test_the_mean_is_the_weighted_mean_written_out() -> None:
    made, total, mass = views(3, noise=0.3), torch.zeros(ELEMENTS, CHANNELS), torch.zeros(ELEMENTS)
    for one in made:
        rows = one.footprint().to_csr().to_dense()
        rows = rows / rows.sum(dim=1, keepdim=True)
        total += rows.t() @ one.features()(slice(None))
        mass += rows.sum(dim=0)
    lifted = weighted_mean(made)
    torch.testing.assert_close(lifted.mass, mass)
    torch.testing.assert_close(lifted.features, total / mass[:, None])


def test_the_exact_solve_finds_what_made_the_pixels() -> None:
    torch.testing.assert_close(exact(views()).features, true_features(), rtol=1e-3, atol=1e-3)


def test_refinement_goes_from_the_mean_towards_least_squares() -> None:
    made = views()
    errors = [
        float((refined(made, steps).features - true_features()).norm()) for steps in (0, 1, 5, 200)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05 * errors[0]
    torch.testing.assert_close(refined(made, 0).features, weighted_mean(made).features)


def test_held_out_views_stop_refinement_earlier_the_noisier_they_are() -> None:
    clean, noisy = held_out_steps(views()), held_out_steps(views(noise=2.0))
    assert clean > noisy
    assert refined(views(noise=2.0)).steps == noisy


def test_too_few_views_to_hold_any_out_are_not_refined() -> None:
    assert refined(views(2)).steps == 0


def test_ridge_is_the_dense_solution_of_its_normal_equations() -> None:
    made, weight = views(noise=0.5), 0.3
    start = weighted_mean(made)
    left, right = torch.zeros(ELEMENTS, ELEMENTS).double(), torch.zeros(ELEMENTS, CHANNELS).double()
    for one in made:
        rows = one.footprint().to_csr().to_dense().double()
        rows = rows / rows.sum(dim=1, keepdim=True)
        left += rows.t() @ rows
        right += rows.t() @ one.features()(slice(None)).double()
    prior = weight * start.mass.double().diag()
    expected = torch.linalg.solve(left + prior, right + prior @ start.features.double())
    torch.testing.assert_close(ridge(made, weight).features, expected.float(), rtol=1e-3, atol=1e-4)


def test_pixels_without_trust_or_mostly_background_change_nothing() -> None:
    matrix, features = mixing(0), torch.randn(PIXELS, CHANNELS, generator=draw(1))
    trust = (torch.arange(PIXELS) % 3 > 0).float()
    expected = weighted_mean([view(matrix[trust > 0], features[trust > 0])])
    features = torch.where(trust[:, None] > 0, features, 99.0)
    torch.testing.assert_close(
        weighted_mean([view(matrix, features, trust)]).features, expected.features
    )
    faint = torch.where(trust[:, None] > 0, matrix, 0.3 * matrix)
    torch.testing.assert_close(weighted_mean([view(faint, features)]).features, expected.features)


def test_elements_that_no_view_shows_are_zero_and_marked() -> None:
    matrix = mixing(0)
    matrix[:, 5] = 0.0
    matrix = 0.9 * matrix / matrix.sum(dim=1, keepdim=True)
    lifted = refined([view(matrix, torch.randn(PIXELS, CHANNELS))] * 4)
    assert not lifted.seen[5] and int((~lifted.seen).sum()) == 1
    assert torch.equal(lifted.features[5], torch.zeros(CHANNELS))


def test_blocks_of_channels_are_the_columns_of_the_whole() -> None:
    made = views(noise=0.3)
    whole = refined(made, 3).features
    parts = [refined(made, 3, slice(at, at + 2)).features for at in (0, 2)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_tokens_are_looked_up_as_mixtures() -> None:
    tokens = torch.randn(5, CHANNELS)
    index = torch.randint(5, (PIXELS, 4), dtype=torch.int32)
    mix = torch.rand(PIXELS, 4)
    mix = mix / mix.sum(dim=1, keepdim=True)
    found = PixelFeatures(tokens, index, mix)(slice(1, 3))
    torch.testing.assert_close(found, (mix[..., None] * tokens[index.long(), 1:3]).sum(dim=1))


def test_the_adjoint_of_the_equations_is_the_transpose_of_their_rows() -> None:
    equations = Equations(view(mixing(3), torch.randn(PIXELS, CHANNELS), torch.rand(PIXELS)))
    x, y = torch.randn(ELEMENTS, 2), torch.randn(PIXELS, 2)
    left = (equations.trust[:, None] * equations.apply(x) * y).sum()
    torch.testing.assert_close(left, (x * equations.adjoint(y)).sum(), rtol=1e-4, atol=1e-4)


def test_views_that_show_nothing_are_refused() -> None:
    empty = view(torch.zeros(PIXELS, ELEMENTS), torch.randn(PIXELS, CHANNELS))
    with pytest.raises(GeodistillError, match="no view shows the geometry"):
        weighted_mean([empty])


def test_ridge_needs_a_weight() -> None:
    with pytest.raises(GeodistillError, match="positive weight, got 0"):
        ridge(views(), 0.0)
