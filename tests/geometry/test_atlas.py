"""Texture coordinates for meshes, and where texels lie on the surface."""

from __future__ import annotations

import sys

import pytest
import torch

from geodistill.checks import InputError
from geodistill.geometry.atlas import texel_places, unwrapped
from geodistill.geometry.manifold import open_edges
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.surface import closest_surface_points
from tests.geometry.solids import box, sphere, tube


def test_the_surface_stays_and_every_texel_has_one_place() -> None:
    far = torch.tensor([1e6, -2e6, 3e6], dtype=torch.float64)
    ball = Mesh(sphere(3).vertices + far, sphere(3).faces, colors=None)
    made, size = unwrapped(ball, 128)
    assert torch.equal(made.vertices[made.faces], ball.vertices[ball.faces])
    assert made.uv is not None and 0 <= float(made.uv.min()) <= float(made.uv.max()) <= 1
    assert open_edges(made) == 0 and len(made.vertices) > len(ball.vertices)
    # Charts do not lie on one another: their areas add up to what they cover.
    texel, places = texel_places(made, size)
    a, b, c = (made.uv * torch.tensor([size[1], size[0]]))[made.faces].unbind(1)
    area = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).abs().sum() / 2
    assert abs(float(area) - len(texel)) < 0.03 * len(texel)
    assert len(texel) > 0.4 * size[0] * size[1] and 100 < min(size) <= max(size) < 200
    assert float(closest_surface_points(ball, places[::50])[2].max()) < 1e-6


def test_texels_of_a_known_map_lie_where_it_says() -> None:
    around, high, size = 24, 5, (40, 96)
    shape = tube(around, high)
    texel, places = texel_places(shape, size)
    assert len(texel) == size[0] * size[1]
    row, column = texel // size[1], texel % size[1]
    assert torch.allclose(places[:, 2], 1 - (row.double() + 0.5) / size[0], atol=1e-6)
    angle = torch.atan2(places[:, 1], places[:, 0]) % (2 * torch.pi)
    wanted = 2 * torch.pi * (column + 0.5) / size[1]
    assert float((angle - wanted).abs().max()) < 0.01


def test_two_unwrappings_are_the_same() -> None:
    one, two = unwrapped(sphere(3), 100), unwrapped(sphere(3), 100)
    assert one[1] == two[1] and one[0].uv is not None and two[0].uv is not None
    assert torch.equal(one[0].uv, two[0].uv) and torch.equal(one[0].faces, two[0].faces)


def test_colours_come_along() -> None:
    colors = torch.arange(32, dtype=torch.uint8).reshape(8, 4)
    cube = Mesh(box().vertices, box().faces, colors=colors)
    made, _ = unwrapped(cube, 64)
    assert made.colors is not None and torch.equal(made.colors[made.faces], colors[cube.faces])


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xatlas", None)
    with pytest.raises(InputError, match=r"needs the package xatlas: pip install 'geodistill\[mes"):
        unwrapped(box(), 64)
