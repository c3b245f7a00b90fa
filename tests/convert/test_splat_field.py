"""Splats, meshes and points read as a volume."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from geodistill.cameras import Similarity
from geodistill.cli import main
from geodistill.convert.splat_field import SplatField, chord_deviations, volume_of
from geodistill.distill.pvd.transfer import SUITED
from geodistill.geometry.fields import load_field
from geodistill.geometry.fields.activations import SH_C0
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.points import Points
from geodistill.geometry.splats import Splats, save_splats
from geodistill.metrics import fidelity
from geodistill.metrics.fidelity import compare
from geodistill.shade.viewable import viewable

TINY = 1e-6
CUBE = Similarity.identity()


def balls(means: torch.Tensor, deviation: float, opacity: float) -> Splats:
    count = len(means)
    return Splats(
        means,
        torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        torch.full((count, 3), math.log(deviation)),
        torch.full((count,), math.log(opacity / (1 - opacity))),
        torch.zeros(count, 1, 3),
    )


@pytest.mark.parametrize("opacity", [0.1, 0.5, 0.9])
def test_a_ray_through_a_ball_loses_its_opacity(opacity: float) -> None:
    field = SplatField(balls(torch.tensor([[0.1, 0.2, 0.3]]), 0.05, opacity), CUBE, TINY)
    z = torch.linspace(-1, 1, 8001)
    line = torch.stack([torch.full_like(z, 0.1), torch.full_like(z, 0.2), z], 1)
    depth = float(torch.trapezoid(field.sigma(line), z))
    # What lies beyond three deviations, 0.3 % of the integral, is cut off.
    assert 1 - math.exp(-depth) == pytest.approx(opacity, rel=4e-3)


def test_a_ball_is_as_thick_from_everywhere_and_a_disc_twice_its_deviation() -> None:
    spread = torch.stack([0.04 * torch.eye(3), torch.diag(torch.tensor([1.0, 1.0, 1e-8]))])
    found = chord_deviations(spread)
    assert float(found[0]) == pytest.approx(0.2, rel=1e-4)
    assert float(found[1]) == pytest.approx(2e-4, rel=0.02)


def test_density_is_per_unit_of_the_world() -> None:
    means = torch.tensor([[0.0, 0.0, 0.0]])
    small = SplatField(balls(means, 0.1, 0.5), CUBE, TINY)
    frame = Similarity(CUBE.R, CUBE.t, 5.0)
    large = SplatField(balls(means, 0.5, 0.5), frame, TINY)
    x = torch.rand(50, 3) * 0.2
    assert torch.allclose(large.density(5 * x), small.density(x) / 5, rtol=1e-4)


def test_colours_are_the_weighted_mean_of_the_splats() -> None:
    means = torch.tensor([[-0.05, 0.0, 0.0], [0.05, 0.0, 0.0]])
    splats = balls(means, 0.05, 0.5)
    splats.sh[0, 0] = torch.tensor([0.5, -0.5, 0.0]) / SH_C0
    field = SplatField(splats, CUBE, TINY)
    x, d = torch.tensor([[-0.02, 0.01, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    w = torch.exp(-0.5 * (x - means).square().sum(1) / 0.05**2)
    share = float(w[0] / w.sum())
    expected = torch.tensor([[0.5 + 0.5 * share, 0.5 - 0.5 * share, 0.5]])
    assert torch.allclose(field.color(x, d), expected, atol=1e-4)


def test_discs_much_larger_than_the_cube_are_read() -> None:
    draw = torch.Generator().manual_seed(0)
    count = 30
    wide = Splats(
        means=torch.zeros(count, 3),
        rotations=torch.randn(count, 4, generator=draw),
        log_scales=torch.log(torch.tensor([20.0, 20.0, 1e-3])).expand(count, 3).clone(),
        opacity_logits=torch.zeros(count),
        sh=torch.zeros(count, 1, 3),
    )
    u = torch.rand(1000, 3, generator=draw) * 2 - 1
    sigma = SplatField(wide, Similarity.identity()).sigma(u)
    assert bool(sigma.isfinite().all()) and bool((sigma >= 0).all())


def test_every_splat_is_in_an_occupied_cell() -> None:
    means = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 1.9 - 0.95
    field = SplatField(balls(means, 0.004, 0.5), CUBE)
    assert bool(field.occupied(means).all())
    assert float(field.occupancy.float().mean()) < 0.05


def sphere(rings: int = 40) -> Mesh:
    theta = torch.linspace(0, math.pi, rings + 1)
    phi = torch.linspace(0, 2 * math.pi, 2 * rings + 1)[:-1]
    t, p = torch.meshgrid(theta, phi, indexing="ij")
    vertices = torch.stack([t.sin() * p.cos(), t.sin() * p.sin(), t.cos()], -1).view(-1, 3)
    i, j = torch.meshgrid(torch.arange(rings), torch.arange(2 * rings), indexing="ij")
    a, b = i * 2 * rings + j, i * 2 * rings + (j + 1) % (2 * rings)
    c, d = a + 2 * rings, b + 2 * rings
    faces = torch.cat(
        [torch.stack([a, c, d], -1).view(-1, 3), torch.stack([a, d, b], -1).view(-1, 3)]
    )
    colors = ((vertices + 1) * 127.5).round().to(torch.uint8)
    colors = torch.cat([colors, torch.full((len(colors), 1), 255, dtype=torch.uint8)], 1)
    return Mesh(vertices.double(), faces, colors=colors)


def test_a_mesh_as_a_volume_looks_like_the_mesh(monkeypatch) -> None:
    monkeypatch.setattr("geodistill.convert.splat_field.ON_A_MESH", 60_000)
    mesh = sphere()
    judged = compare(viewable(mesh), volume_of(mesh), views=4, resolution=120)
    assert judged.report["psnr_db"] > 26 and judged.report["opacity_iou"] > 0.97


def test_points_as_a_volume_are_where_the_points_are() -> None:
    mesh = sphere(60)
    field = volume_of(Points(mesh.vertices, colors=mesh.colors))
    assert bool((field.density(mesh.vertices) > 1.0).all())
    assert not bool(field.density(0.5 * mesh.vertices).any())


def test_splats_become_a_field_from_the_command_line(tmp_path, capsys, monkeypatch) -> None:
    # One view and few rays will do of a student that has hardly been trained.
    monkeypatch.setattr(fidelity, "compare", partial(fidelity.compare, views=1))
    monkeypatch.setitem(SUITED, "plenoxels", replace(SUITED["plenoxels"], cache_rays=20_000))
    draw = torch.Generator().manual_seed(0)
    means = torch.nn.functional.normalize(torch.randn(800, 3, generator=draw), dim=1)
    save_splats(tmp_path / "ball.ply", balls(means, 0.1, 0.9))
    argv = ["convert", str(tmp_path / "ball.ply"), "--to", "plenoxels", "--set", "resolution=32"]
    argv += ["--steps", "3", "--no-sheet", "-o", str(tmp_path / "ball")]
    assert main(argv) == 0, capsys.readouterr().err
    field = load_field(tmp_path / "ball").requires_grad_(False)
    outside, middle = means.double() * 1.6, means.double()
    assert float(field.density(middle).mean()) > 5.0 and not field.density(outside).any()
    assert main([*argv[:4], "--from", "ngp"]) == 2
    assert "--from names an architecture of fields" in capsys.readouterr().err
