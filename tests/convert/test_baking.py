"""Colours lifted from views onto meshes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.cameras import sphere_cameras
from geodistill.convert.baking import with_texture, with_vertex_colors
from geodistill.geometry.atlas import texel_places, unwrapped
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.surface import sample_surface, surface_points
from geodistill.rays import camera_rays
from geodistill.render.surfaces import SurfaceView
from geodistill.shade.color import srgb_from_linear
from geodistill.shade.view import base_color
from tests.geometry.solids import sphere
from tests.shape_fields import pattern

TOLERANCE = 0.05


def looks(count: int, view_dependence: float = 0.0, size: int = 80) -> list[SurfaceView]:
    """Exact views of a unit ball in the colours of `pattern`, brighter where it is seen head-on."""
    cameras = sphere_cameras(count, torch.zeros(3).double(), 4.0, 0.6, (size, size), 0)
    views = []
    for i in range(count):
        rays = camera_rays(cameras[i])
        along = -(rays.origins * rays.directions).sum(1)
        off = rays.origins.square().sum(1) - along**2
        cosine = (1 - off).clamp_min(0).sqrt()
        depth = torch.where(off < 1, along - cosine, torch.inf)
        color = pattern(rays.origins + (along - cosine)[:, None] * rays.directions)
        color = (color + view_dependence * (cosine[:, None] - 0.5)) * (off < 1)[:, None]
        views.append(
            SurfaceView(
                cameras[i],
                color.float().reshape(size, size, 3),
                (off < 1).float().reshape(size, size),
                depth.float().reshape(size, size),
            )
        )
    return views


def shown(mesh: Mesh, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Places of the surface and the colours that the mesh has there."""
    face, weights = sample_surface(mesh, 2000, seed)
    color, opacity = base_color(mesh, face, weights.float())
    assert bool((opacity == 1).all())
    return F.normalize(surface_points(mesh, face, weights), dim=1), srgb_from_linear(color)


def test_a_texture_has_the_colours_that_are_seen() -> None:
    mesh, size = unwrapped(sphere(4), 256)
    made = with_texture(mesh, looks(20), size, TOLERANCE)
    places, color = shown(made)
    error = (color - pattern(places)).abs()
    assert float(error.mean()) < 0.01 and float(error.max()) < 0.08
    assert made.materials[0].texture is not None and made.face_material is not None
    assert made.materials[0].texture.shape == (*size, 4) and made.colors is None


def test_vertices_have_the_colours_that_are_seen() -> None:
    made = with_vertex_colors(sphere(4), looks(20), TOLERANCE)
    assert made.colors is not None and not made.materials
    error = (made.colors[:, :3].double() / 255 - pattern(made.vertices)).abs()
    assert float(error.mean()) < 0.01 and float(error.max()) < 0.05


def test_what_is_seen_head_on_counts_most() -> None:
    """The mean over a half sphere of directions, weighted by the cosine as pixels are by area."""
    made = with_vertex_colors(sphere(3), looks(60, 0.3), TOLERANCE)
    plain = with_vertex_colors(sphere(3), looks(60), TOLERANCE)
    assert made.colors is not None and plain.colors is not None
    more = (made.colors[:, :3].double() - plain.colors[:, :3].double()).mean() / 255
    # A pixel's share of a place is the cosine, its trust is another: the mean cosine is 3/4.
    assert abs(float(more) - 0.3 * (0.75 - 0.5)) < 0.015


def test_every_texel_a_sampler_can_reach_is_filled() -> None:
    mesh, size = unwrapped(sphere(3), 128)
    made = with_texture(mesh, looks(20), size, TOLERANCE)
    texture = made.materials[0].texture
    assert texture is not None
    texel, places = texel_places(mesh, size)
    charted = torch.zeros(size[0] * size[1], dtype=torch.bool)
    charted[texel] = True
    # A texel beside a chart is as the nearest one in it.
    flat = texture.reshape(-1, 4)
    y, x = texel // size[1], texel % size[1]
    right = (x + 1 < size[1]) & ~charted[(texel + 1).clamp(max=len(charted) - 1)]
    gap = (flat[texel[right] + 1].double() - flat[texel[right]].double()).abs()
    assert int(right.sum()) > 50 and float(gap.max()) < 30 and float(gap.mean()) < 3
    assert bool((texture[..., 3] == 255).all())
    assert float(texture[..., :3].float().amax(-1).min()) > 0  # nothing was left black
    error = (flat[texel, :3].double() / 255 - pattern(F.normalize(places, dim=1))).abs()
    assert float(error.mean()) < 0.02
    assert bool((y >= 0).all())


def test_what_no_view_shows_takes_the_nearest_colour() -> None:
    above = [view for view in looks(40) if float(view.camera.centers[2]) > 3.4]
    made = with_vertex_colors(sphere(4), above, TOLERANCE)
    assert made.colors is not None
    low = made.vertices[:, 2] < -0.8
    rim = (made.vertices[:, 2] + 0.4).abs() < 0.3
    wanted = made.colors[rim, :3].double()
    found = made.colors[low, :3].double()
    assert bool((found >= wanted.amin(0) - 1).all() and (found <= wanted.amax(0) + 1).all())


def test_pixels_of_another_surface_or_half_a_one_do_not_count() -> None:
    views = looks(20)
    wrong = []
    for view in views:
        color, depth, opacity = view.color.clone(), view.depth.clone(), view.opacity.clone()
        color[:, :40] = torch.tensor([9.0, 0, 0])
        depth[:30, :40] += 0.3  # something far behind
        opacity[30:, :40] = 0.7  # something half transparent
        wrong.append(replace(view, color=color, depth=depth, opacity=opacity))
    made = with_vertex_colors(sphere(3), wrong, TOLERANCE)
    assert made.colors is not None
    error = (made.colors[:, :3].double() / 255 - pattern(made.vertices)).abs()
    assert float(error.mean()) < 0.02 and float(error.max()) < 0.2


def test_premultiplied_colours_are_divided_by_their_opacity() -> None:
    veiled = [replace(v, color=0.95 * v.color, opacity=0.95 * v.opacity) for v in looks(12)]
    plain = with_vertex_colors(sphere(3), looks(12), TOLERANCE)
    made = with_vertex_colors(sphere(3), veiled, TOLERANCE)
    assert made.colors is not None and plain.colors is not None
    assert int((made.colors.int() - plain.colors.int()).abs().max()) <= 1
