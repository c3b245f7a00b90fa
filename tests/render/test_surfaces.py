"""Fields and splats as surfaces, and meshes as texels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from geodistill.cameras import Camera, Similarity, look_at, rotations
from geodistill.convert.surface_splats import flat_splats
from geodistill.geometry.mesh import Material, Mesh, vertex_normals
from geodistill.rays import Rays, camera_rays
from geodistill.render.fields import render_view
from geodistill.render.mesh import mesh_gbuffer
from geodistill.render.samples import march
from geodistill.render.surfaces import FIRST, field_surface, first_depth, splat_surface
from geodistill.render.texels import texel_footprint
from geodistill.shade.lights import unlit
from geodistill.shade.view import shaded_view
from tests.geometry.solids import picture, sphere, tube
from tests.shape_fields import ShapeField, ball

PLACED = Similarity(
    rotations(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)),
    torch.tensor([10.0, -20.0, 5.0], dtype=torch.float64),
    3.0,
)


def camera(target: tuple[float, float, float] = (0, 0, 0), away: float = 4.0) -> Camera:
    middle = torch.tensor(target, dtype=torch.float64)
    eye = middle + away * F.normalize(torch.tensor([1.0, 0.4, 0.6], dtype=torch.float64), dim=0)
    return Camera.from_fov(0.7, (40, 48), look_at(eye, middle))


def to_ball(view: Camera, center: torch.Tensor, radius: float) -> torch.Tensor:
    """Distance along every ray to a ball, infinite where it misses. [H, W]"""
    rays = camera_rays(view.to(dtype=torch.float64))
    along = ((center - rays.origins) * rays.directions).sum(1)
    off = (center - rays.origins).square().sum(1) - along**2
    depth = along - (radius**2 - off).clamp_min(0).sqrt()
    return torch.where(off < radius**2, depth, torch.inf).reshape(view.size)


def test_first_depth_is_where_a_share_of_the_light_is_gone() -> None:
    draw = torch.Generator().manual_seed(0)
    rays = Rays(
        torch.tensor([[-3.0, 0, 0]]).expand(30, 3),
        F.normalize(
            torch.cat([torch.ones(30, 1), 0.3 * torch.randn(30, 2, generator=draw)], 1), dim=1
        ),
    )
    samples = march(rays, torch.rand(16, 16, 16, generator=draw) < 0.3, 0.05)
    weights = torch.rand(len(samples), generator=draw) * 0.08
    weights[samples.ray == 4] *= 0.01
    found = first_depth(samples, weights, 0.3)
    for ray in range(30):
        own = (samples.ray == ray).nonzero()[:, 0].tolist()
        lost, wanted = 0.0, float("inf")
        for i in own:
            if lost + float(weights[i]) > 0.3:
                share = (0.3 - lost) / float(weights[i])
                wanted = float(samples.t[i] + (share - 0.5) * samples.dt[i])
                break
            lost += float(weights[i])
        assert float(found[ray]) == pytest.approx(wanted, abs=1e-5)
    assert bool(found.isinf().any()) and bool(found.isfinite().any())


@pytest.mark.parametrize("frame", [Similarity.identity(), PLACED])
def test_the_surface_of_a_field(frame: Similarity) -> None:
    field = ShapeField(ball((0.1, 0.0, -0.1), 0.6), frame, peak=2000.0)
    center = frame.apply(torch.tensor([0.1, 0.0, -0.1], dtype=torch.float64))
    view = camera(tuple(center.tolist()), 4.0 * frame.s)
    seen, wanted = field_surface(field, view), to_ball(view, center, 0.6 * frame.s)
    both = seen.depth.isfinite() & wanted.isfinite()
    assert float((seen.depth.isfinite() ^ wanted.isfinite()).float().mean()) < 0.01
    inner = both & (wanted < wanted[both].quantile(0.9))
    assert float((seen.depth - wanted).abs()[inner].max()) < 0.02 * frame.s
    image = render_view(field, view)
    assert torch.allclose(seen.color, image.color, atol=1e-5)
    assert torch.allclose(seen.opacity, image.opacity, atol=1e-5)
    assert float((seen.points() - center).norm(dim=1).median()) == pytest.approx(
        0.6 * frame.s, abs=0.02 * frame.s
    )


def test_a_thin_fog_has_no_surface_and_a_thick_one_has_it_where_it_begins() -> None:
    view = camera()
    assert bool(field_surface(ShapeField(ball((0, 0, 0), 0.8), peak=0.3), view).depth.isinf().all())
    seen = field_surface(ShapeField(ball((0, 0, 0), 0.8), peak=4.0), view)
    wanted = to_ball(view, torch.zeros(3).double(), 0.8)
    middle = (20, 24)
    # 1 - exp(-4 d) = FIRST
    into = -torch.log(torch.tensor(1 - FIRST)) / 4
    assert float(seen.depth[middle]) == pytest.approx(float(wanted[middle] + into), abs=0.01)


def test_the_surface_of_splats() -> None:
    shape = sphere(6)
    center = torch.tensor([2.0, 0.0, -1.0])
    normals = shape.vertices.float()
    spacing = torch.full((len(normals),), 0.03)
    splats = flat_splats(center + normals, normals, spacing, torch.zeros(len(normals), 1, 3))
    view = camera((2.0, 0.0, -1.0)).scaled(5)
    seen, wanted = splat_surface(splats, view), to_ball(view, center.double(), 1.0)
    inner = wanted < wanted[wanted.isfinite()].quantile(0.5)
    # A disc is as deep as its middle, and of two the nearer one hides the other.
    assert float((seen.depth - wanted)[inner].abs().quantile(0.99)) < 0.04
    assert float((seen.depth - wanted)[inner].abs().median()) < 0.02
    assert bool(seen.depth[0].isinf().all()) and float(seen.opacity[0].max()) < 0.5


def test_what_shines_through_from_behind_does_not_move_the_surface() -> None:
    """One splat of most opacity before another."""
    z = torch.tensor([0.0, 0.0, 1.0]).expand(2, 3)
    means = torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
    splats = flat_splats(means, z, torch.full((2,), 2.0), torch.zeros(2, 1, 3))
    view = Camera.from_fov(0.5, (9, 9), look_at((0.0, 0.0, 5.0), (0.0, 0.0, 0.0)).double())
    assert float(splat_surface(splats, view).depth[4, 4]) == pytest.approx(4.0, abs=1e-4)
    thin = replace(splats, opacity_logits=torch.tensor([2.0, -0.5]))
    assert float(splat_surface(thin, view).depth[4, 4]) == pytest.approx(5.0, abs=1e-4)


def test_nothing_in_view_has_no_surface() -> None:
    z = torch.tensor([0.0, 0.0, 1.0]).expand(2, 3)
    splats = flat_splats(torch.zeros(2, 3), z, torch.full((2,), 0.1), torch.zeros(2, 1, 3))
    view = Camera.from_fov(0.5, (9, 9), look_at((0.0, 0.0, 5.0), (0.0, 0.0, 9.0)).double())
    seen = splat_surface(splats, view)
    assert bool(seen.depth.isinf().all()) and len(seen.points()) == 0


def textured() -> tuple[Mesh, torch.Tensor]:
    texture = picture(3, 24, 40)
    shape = tube(24, 5)
    material = Material("m", (1.0, 1.0, 1.0, 1.0), texture)
    faces = torch.zeros(len(shape.faces), dtype=torch.int64)
    return Mesh(shape.vertices, shape.faces, shape.uv, None, (material,), faces), texture


def test_texels_render_as_the_texture_does() -> None:
    shape, texture = textured()
    view = camera((0.0, 0.0, 0.5))
    buffer = mesh_gbuffer(shape.vertices, shape.faces, view, vertex_normals(shape))
    footprint = texel_footprint(shape, buffer, (24, 40))
    seen = footprint.render(texture[..., :3].reshape(-1, 3).float() / 255).reshape(40, 48, 3)
    image, opacity = shaded_view(shape, buffer, view, unlit)
    hit = buffer.triangle >= 0
    assert torch.equal(footprint.row_sums().reshape(40, 48) > 0.5, hit)
    assert torch.allclose(footprint.row_sums()[hit.reshape(-1)], torch.ones(int(hit.sum())))
    # What is shaded goes through linear light and back, which the texels of one pixel do alike.
    assert torch.allclose(seen[hit], image[hit], atol=2e-5)
    assert bool((opacity[hit] == 1).all())


def test_the_adjoint_of_texels() -> None:
    shape, _ = textured()
    view = camera((0.0, 0.0, 0.5))
    buffer = mesh_gbuffer(shape.vertices, shape.faces, view)
    footprint = texel_footprint(shape, buffer, (24, 40))
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(24 * 40, 2, generator=draw)
    y = torch.rand(40 * 48, 2, generator=draw)
    left, right = (footprint.render(x) * y).sum(), (x * footprint.adjoint(y)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-4)
