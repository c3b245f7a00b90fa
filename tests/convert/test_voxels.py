"""Sparse voxels from any field: density and harmonics at the nodes are the teacher's."""

from __future__ import annotations

import math

import pytest
import torch
from scenes import AnalyticField
from torch import Tensor

from geodistill.convert import voxels
from geodistill.convert.cache import TeacherCache
from geodistill.convert.voxels import SIGMA_MAX, fibonacci_sphere, fill_voxels
from geodistill.geometry.fields import Field, build_field
from geodistill.geometry.fields.activations import spherical_harmonics
from geodistill.geometry.fields.plenoxels import CHANNELS, DENSITY_UNIT, Plenoxels, PlenoxelsConfig
from geodistill.geometry.grids import nodes_near
from geodistill.render.samples import RaySamples


def seen(occupancy: Tensor) -> TeacherCache:
    """A cache of no rays: all that the voxels read is where the teacher was seen."""
    none, triple = torch.zeros(0), torch.zeros(0, 3)
    offsets = torch.zeros(1, dtype=torch.int64)
    samples = RaySamples(offsets, torch.zeros(0, dtype=torch.int64), none, none, triple, triple)
    return TeacherCache(samples, none, none, triple, offsets[:0], triple, triple, none, occupancy)


def voxel_field(resolution: int) -> Plenoxels:
    field = build_field("plenoxels", PlenoxelsConfig(resolution=resolution))
    assert isinstance(field, Plenoxels)
    return field


def harmonic_teacher(resolution: int = 10) -> Plenoxels:
    """Random density up to 500, and harmonics so small that no colour is cut off at zero."""
    field = voxel_field(resolution)
    values = torch.rand(resolution**3, CHANNELS, generator=torch.Generator().manual_seed(0)) - 0.5
    values[:, 0] = values[:, 0].abs() * (1000 / DENSITY_UNIT)
    values[:, 1:] *= 0.2
    field.allocate(torch.ones((resolution,) * 3, dtype=torch.bool), values)
    return field


EVERYWHERE = torch.ones(8, 8, 8, dtype=torch.bool)


def test_harmonics_up_to_degree_two_are_recovered_exactly_without_a_ridge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(voxels, "RIDGE", 0.0)
    teacher, student = harmonic_teacher(), voxel_field(10)
    fill_voxels(student, teacher, seen(EVERYWHERE))
    torch.testing.assert_close(student.values, teacher.values, rtol=1e-4, atol=1e-4)


def test_the_ridge_costs_less_than_a_percent() -> None:
    teacher, student = harmonic_teacher(), voxel_field(10)
    fill_voxels(student, teacher, seen(EVERYWHERE))
    ours, theirs = student.values.detach()[:, 1:], teacher.values.detach()[:, 1:]
    assert (ours - theirs).norm() < 0.01 * theirs.norm()
    torch.testing.assert_close(student.values[:, 0], teacher.values[:, 0], rtol=1e-4, atol=1e-4)


def test_an_analytic_field_is_reproduced_at_every_node_from_every_direction() -> None:
    """Its colour is linear in the direction: within the harmonics of degree one."""
    teacher, student = AnalyticField(), voxel_field(20)
    fill_voxels(student, teacher, seen(teacher.occupancy))
    nodes = nodes_near(teacher.occupancy, 20)
    assert torch.equal(student.links >= 0, nodes)
    u = student.node_positions(nodes.nonzero())
    torch.testing.assert_close(student.sigma(u), teacher.sigma(u), rtol=1e-3, atol=1e-3)
    d = fibonacci_sphere(len(u))[torch.randperm(len(u), generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(
        student.rgb_of(student.latent(u), d),
        teacher.rgb_of(teacher.latent(u), d),
        rtol=0,
        atol=4e-3,
    )


def test_opaque_density_is_bounded() -> None:
    teacher, student = AnalyticField(peak=1e6), voxel_field(12)
    fill_voxels(student, teacher, seen(teacher.occupancy))
    sigma = student.sigma(student.node_positions((student.links >= 0).nonzero()))
    assert float(sigma.detach().max()) == pytest.approx(SIGMA_MAX)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher: Field = AnalyticField()
    whole, parts = voxel_field(12), voxel_field(12)
    fill_voxels(whole, teacher, seen(teacher.occupancy))
    monkeypatch.setattr(voxels, "NODES_PER_CHUNK", 37)
    fill_voxels(parts, teacher, seen(teacher.occupancy))
    torch.testing.assert_close(whole.values, parts.values, rtol=1e-4, atol=1e-5)


def test_fibonacci_directions_are_spread_over_the_sphere() -> None:
    d = fibonacci_sphere(24).double()
    torch.testing.assert_close(d.norm(dim=1), torch.ones(24).double(), rtol=0, atol=1e-6)
    basis = spherical_harmonics(d, 2)
    gram = basis.t() @ basis * (4 * math.pi / 24)
    assert (gram - torch.eye(9)).abs().max() < 0.1  # a quadrature of the sphere, nearly
