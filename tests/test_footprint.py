"""The operator: what holds for every footprint, on rays of samples and on a plain matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geodistill.footprint import Footprint
from geodistill.render.samples import RayFootprint, RaySamples

# torch warns of what is new in its CSR tensors, which only tests and exact solves ask for.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse")

COUNTS = (4, 0, 7, 1, 0, 12, 0)


def samples(dtype: torch.dtype = torch.float32) -> RaySamples:
    """Rays with the sample counts of `COUNTS`, among them empty ones at both ends."""
    draw = torch.Generator().manual_seed(0)
    total = sum(COUNTS)
    offsets = torch.tensor([0, *COUNTS]).cumsum(0)
    return RaySamples(
        offsets=offsets,
        ray=torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS)),
        t=torch.rand(total, generator=draw, dtype=dtype),
        dt=torch.rand(total, generator=draw, dtype=dtype) * 0.2 + 0.01,
        u=torch.rand(total, 3, generator=draw, dtype=dtype),
        d=torch.rand(total, 3, generator=draw, dtype=dtype),
    )


def density(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(sum(COUNTS), generator=torch.Generator().manual_seed(1), dtype=dtype) * 9.0


class Matrix(Footprint):
    """A footprint that is nothing but its matrix: what a backend without an adjoint inherits."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.pixels, self.elements = matrix.shape

    def render(self, features: Tensor) -> Tensor:
        return self.matrix @ features

    def to_csr(self) -> Tensor:
        return self.matrix.to_sparse_csr()


def footprints() -> dict[str, Footprint]:
    matrix = torch.rand(6, 9, generator=torch.Generator().manual_seed(2))
    matrix = matrix * (matrix > 0.6)
    return {
        "rays": RayFootprint.from_density(density(), samples()),
        "matrix": Matrix(matrix / matrix.sum(dim=1, keepdim=True).clamp_min(1.0)),
    }


@pytest.fixture(params=["rays", "matrix"])
def footprint(request: pytest.FixtureRequest) -> Footprint:
    return footprints()[request.param]


def test_rendering_is_the_matrix(footprint: Footprint) -> None:
    dense = footprint.to_csr().to_dense()
    assert dense.shape == (footprint.pixels, footprint.elements)
    for channels in (1, 3, 65):
        features = torch.randn(footprint.elements, channels)
        torch.testing.assert_close(footprint.render(features), dense @ features)


def test_the_adjoint_is_the_transpose(footprint: Footprint) -> None:
    dense = footprint.to_csr().to_dense()
    for channels in (1, 5):
        image = torch.randn(footprint.pixels, channels)
        torch.testing.assert_close(footprint.adjoint(image), dense.t() @ image)


def test_the_adjoint_moves_across_the_inner_product(footprint: Footprint) -> None:
    f = torch.randn(footprint.elements, 4)
    p = torch.randn(footprint.pixels, 4)
    left, right = (footprint.render(f) * p).sum(), (f * footprint.adjoint(p)).sum()
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


def test_the_adjoint_works_where_gradients_are_off(footprint: Footprint) -> None:
    image = torch.randn(footprint.pixels, 2)
    with torch.no_grad():
        lifted = footprint.adjoint(image)
    torch.testing.assert_close(lifted, footprint.adjoint(image))


def test_weights_are_a_partial_average(footprint: Footprint) -> None:
    dense = footprint.to_csr().to_dense()
    assert (dense >= 0).all() and (footprint.row_sums() <= 1 + 1e-6).all()
    torch.testing.assert_close(footprint.row_sums(), dense.sum(dim=1))
    torch.testing.assert_close(footprint.column_sums(), dense.sum(dim=0))
    torch.testing.assert_close(
        footprint.render(torch.ones(footprint.elements, 1))[:, 0], footprint.row_sums()
    )


def test_rendering_a_constant_and_lifting_it_gives_the_constant_back(footprint: Footprint) -> None:
    constant = torch.tensor([[0.3, -2.0]])
    image = footprint.render(constant.expand(footprint.elements, 2))
    seen = footprint.column_sums() > 0
    weights = footprint.adjoint(footprint.row_sums()[:, None])
    lifted = footprint.adjoint(image)[seen] / weights[seen]
    torch.testing.assert_close(lifted, constant.expand_as(lifted))


def test_ray_weights_against_the_sum_written_out() -> None:
    batch, sigma = samples(torch.float64), density(torch.float64)
    weights = RayFootprint.from_density(sigma, batch).weights
    expected = []
    for ray in range(batch.rays):
        light = 1.0
        for i in range(int(batch.offsets[ray]), int(batch.offsets[ray + 1])):
            passed = torch.exp(-sigma[i] * batch.dt[i])
            expected.append(light * (1 - passed))
            light = light * passed
    torch.testing.assert_close(weights, torch.stack(expected))


def test_opacity_is_one_minus_the_transmittance_of_the_optical_depth() -> None:
    batch, sigma = samples(torch.float64), density(torch.float64)
    depth = torch.zeros(batch.rays, dtype=torch.float64).index_add_(0, batch.ray, sigma * batch.dt)
    opacity = RayFootprint.from_density(sigma, batch).row_sums()
    torch.testing.assert_close(opacity, 1 - torch.exp(-depth))
    assert torch.equal(opacity[torch.tensor(COUNTS) == 0], torch.zeros(3, dtype=torch.float64))


def test_rendering_is_differentiable_in_the_density_and_the_features() -> None:
    batch = samples(torch.float64)

    def render(sigma: Tensor, features: Tensor) -> Tensor:
        return RayFootprint.from_density(sigma, batch).render(features)

    sigma = density(torch.float64).requires_grad_()
    features = torch.randn(sum(COUNTS), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(render, (sigma, features))
