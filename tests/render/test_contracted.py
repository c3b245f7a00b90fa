"""Rays through all of space, against a closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geodistill.cameras import Camera
from geodistill.convert.cache import survey
from geodistill.geometry.contraction import expand
from geodistill.geometry.fields import Field
from geodistill.rays import Rays
from geodistill.render.contracted import FAR, contracted_samples
from geodistill.render.fields import render_rays
from geodistill.render.samples import field_samples
from geodistill.render.surfaces import field_surface


class Walls(Field):
    """Two spheres about the middle, seen from within: grey fog from 2 to 3, and red at 50."""

    def __init__(self, kind) -> None:
        super().__init__("walls", None)
        self.contraction = kind

    def latent(self, u: Tensor) -> Tensor:
        return expand(u, self.contraction).norm(dim=1, keepdim=True)

    def sigma_of(self, latent: Tensor) -> Tensor:
        fog = ((latent[:, 0] > 2) & (latent[:, 0] < 3)) * 0.7
        return fog + (latent[:, 0] > 50) * 10.0

    def rgb_of(self, latent: Tensor, directions: Tensor) -> Tensor:
        grey, red = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([1.0, 0.0, 0.0])
        return torch.where(latent < 10, grey, red)


def rays(count: int = 200) -> Rays:
    draw = torch.Generator().manual_seed(0)
    d = torch.nn.functional.normalize(torch.randn(count, 3, generator=draw), dim=1)
    return Rays(torch.zeros(count, 3), d)


@pytest.mark.parametrize("kind", ["linf", "l2"])
def test_what_lies_far_away_is_seen_through_what_is_near(kind) -> None:
    seen = render_rays(Walls(kind), rays(), step=1 / 64)
    fog = 1 - math.exp(-0.7)
    expected = torch.tensor([0.5 * fog + 1 - fog, 0.5 * fog, 0.5 * fog])
    assert torch.allclose(seen.opacity, torch.tensor(1.0), atol=2e-3)
    assert torch.allclose(seen.color, expected.expand(200, 3), atol=0.02)


def test_samples_lie_end_to_end_and_only_where_something_is() -> None:
    occupancy = torch.ones(8, 8, 8, dtype=torch.bool)
    ray, t, dt, u = contracted_samples(rays(3), occupancy, 1 / 32, "linf", None)
    assert ray.tolist() == sorted(ray.tolist()) and u.abs().max() < 1
    for i in range(3):
        mine, length = t[ray == i], dt[ray == i]
        assert bool((mine.diff() > 0).all()) and mine[-1] > 0.9 * FAR
        gap = mine.diff() / (0.5 * (length[1:] + length[:-1]))
        assert torch.allclose(gap, torch.tensor(1.0), atol=0.01)
    occupancy[4:] = False
    left = contracted_samples(rays(), occupancy, 1 / 32, "linf", torch.rand(200))[3]
    assert len(left) and bool((left[:, 0] < 0).all())


def test_a_survey_reaches_what_is_far_away() -> None:
    field = Walls("linf")
    eyes = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    K = torch.tensor([[50.0, 0, 32], [0, 50, 32], [0, 0, 1]], dtype=torch.float64).expand(2, 3, 3)
    field.views = Camera(K, eyes, (64, 64))
    cache = survey(field, 500, 0, step=1 / 32)
    assert float(expand(cache.samples.u, "linf").norm(dim=1).max()) > 50
    assert field_samples(field, rays(), 1 / 32).rays == 200


def test_the_surface_of_a_contracted_field_ends_at_its_inner_cube() -> None:
    class Ball(Walls):
        def sigma_of(self, latent: Tensor) -> Tensor:
            return ((latent[:, 0] < 0.5) | (latent[:, 0] > 5)) * 200.0

    field = Ball("l2")
    eye = torch.eye(4, dtype=torch.float64)
    eye[2, 3] = -2.0
    K = torch.tensor([[40.0, 0, 32], [0, 40, 32], [0, 0, 1]], dtype=torch.float64)
    seen = field_surface(field, Camera(K, eye, (64, 64)), step=1 / 64)
    assert bool((seen.opacity > 0.99).all())
    assert float(seen.depth[32, 32]) == pytest.approx(1.5, abs=0.05)
    assert bool(seen.depth[0].isinf().all()) and bool(seen.depth[:, -1].isinf().all())
