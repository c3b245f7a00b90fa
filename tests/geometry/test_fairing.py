"""Rough meshes made smooth."""

from __future__ import annotations

import torch

from geodistill.geometry.fairing import faired
from geodistill.geometry.mesh import Mesh, welded
from tests.geometry.solids import sphere, tube


def test_roughness_goes_and_size_stays() -> None:
    ball = sphere(4)
    noise = torch.randn(len(ball.vertices), 1, generator=torch.Generator().manual_seed(0)).double()
    rough = Mesh(ball.vertices * (1 + 0.01 * noise), ball.faces)
    radius = faired(rough, 8).vertices.norm(dim=1)
    assert float(radius.std()) < 0.5 * 0.01
    assert abs(float(radius.mean()) - 1) < 2e-3


def test_one_round_is_two_steps_towards_the_neighbours() -> None:
    ball = sphere(1)
    around = [set() for _ in ball.vertices]
    for face in ball.faces.tolist():
        for k in range(3):
            around[face[k]] |= {face[k - 1], face[k - 2]}
    wanted = ball.vertices
    for factor in (0.5, -0.53):
        mean = torch.stack([wanted[sorted(others)].mean(0) for others in around])
        wanted = wanted + factor * (mean - wanted)
    assert torch.allclose(faired(ball, 1).vertices, wanted)


def test_seams_stay_closed_and_idle_vertices_where_they_are() -> None:
    shape = tube(12, 5)
    idle = torch.tensor([[9.0, 9, 9]], dtype=torch.float64)
    again = faired(Mesh(torch.cat([shape.vertices, idle]), shape.faces), 3)
    assert torch.equal(again.vertices[-1], idle[0])
    assert torch.equal(welded(again)[:-1], welded(shape))
