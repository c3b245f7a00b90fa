"""Pictures of small meshes, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from geodistill.cameras import Camera
from geodistill.geometry.mesh import Material, Mesh
from geodistill.render.mesh import mesh_gbuffer
from geodistill.shade.color import linear_from_srgb, srgb_from_linear
from geodistill.shade.lights import headlight, unlit
from geodistill.shade.view import GREY, ShadedView, shaded_view
from tests.render.meshes import camera, sphere

WHITE = (1.0, 1.0, 1.0, 1.0)
FRONT = camera((0.0, -3.0, 0.0), (60, 60))


def quarters() -> Tensor:
    """Red and green above, blue and white below."""
    texture = torch.full((64, 64, 4), 255, dtype=torch.uint8)
    for rows, columns, color in (
        (slice(32), slice(32), (255, 0, 0)),
        (slice(32), slice(32, 64), (0, 255, 0)),
        (slice(32, 64), slice(32), (0, 0, 255)),
    ):
        texture[rows, columns, :3] = torch.tensor(color, dtype=torch.uint8)
    return texture


def square(**parts: object) -> Mesh:
    """Side 2 in the plane y = 0, seen from -y with x to the right and z up."""
    vertices = torch.tensor([[-1.0, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]]).double()
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    mesh = Mesh(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]), uv)
    return replace(mesh, **parts)  # pyright: ignore[reportArgumentType]


def picture(mesh: Mesh, view: Camera = FRONT, light=unlit) -> ShadedView:
    return shaded_view(mesh, mesh_gbuffer(mesh.vertices, mesh.faces, view), view, light)


def test_a_texture_is_upright_and_not_mirrored() -> None:
    mesh = square(materials=(Material("m", WHITE, quarters()),))
    image, opacity = picture(mesh)
    covered = opacity.nonzero()
    (top, left), (bottom, right) = covered.amin(0).tolist(), covered.amax(0).tolist()
    assert bottom - top > 35 and right - left > 35
    corners = image[[top + 4, top + 4, bottom - 4, bottom - 4], [left + 4, right - 4] * 2]
    expected = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    torch.testing.assert_close(corners, expected, rtol=0, atol=1e-5)
    assert torch.equal(opacity[opacity > 0], torch.ones(len(covered)))
    assert not image[opacity == 0].any()


def test_from_behind_it_is_mirrored() -> None:
    mesh = square(materials=(Material("m", WHITE, quarters()),))
    front, _ = picture(mesh)
    back, _ = picture(mesh, camera((0.0, 3.0, 0.0), (60, 60)))
    torch.testing.assert_close(back.flip(1), front, rtol=0, atol=1e-3)


def test_without_colours_it_is_grey() -> None:
    image, opacity = picture(square(uv=None))
    torch.testing.assert_close(image[opacity > 0], torch.full_like(image[opacity > 0], GREY))
    some = square(
        materials=(Material("m", (0.0, 0.0, 1.0, 1.0), None),), face_material=torch.tensor([0, -1])
    )
    image, opacity = picture(some)
    seen = {tuple(c) for c in (image[opacity > 0] * 100).round().int().tolist()}
    assert seen == {(0, 0, 100), (80, 80, 80)}


def test_factor_texture_and_vertex_colours_multiply_in_linear_colour() -> None:
    colors = torch.tensor([[128, 255, 255, 255]] * 4, dtype=torch.uint8)
    texture = torch.full((4, 4, 4), 200, dtype=torch.uint8)
    mesh = square(colors=colors, materials=(Material("m", (0.5, 1.0, 0.2, 0.5), texture),))
    image, opacity = picture(mesh)
    parts = torch.tensor([[128 / 255, 1, 1], [0.5, 1.0, 0.2], [200 / 255] * 3])
    expected = srgb_from_linear(linear_from_srgb(parts).prod(0))
    hit = opacity > 0
    torch.testing.assert_close(image[hit], expected.expand(int(hit.sum()), 3))
    torch.testing.assert_close(opacity[hit], torch.full_like(opacity[hit], 0.5 * 200 / 255))


def test_vertex_colours_alone_are_what_is_seen() -> None:
    colors = torch.tensor([[10, 80, 250, 255]] * 4, dtype=torch.uint8)
    image, opacity = picture(square(colors=colors))
    expected = (colors[0, :3].float() / 255).expand(int((opacity > 0).sum()), 3)
    torch.testing.assert_close(image[opacity > 0], expected)


def test_the_headlight_follows_the_cosine_on_a_sphere() -> None:
    vertices, faces = sphere(60, 120)
    mesh = Mesh(vertices, faces)
    image, opacity = picture(mesh, light=headlight)
    buffer = mesh_gbuffer(vertices, faces, FRONT)
    hit = opacity > 0
    normal = buffer.position[hit]
    towards = torch.nn.functional.normalize(FRONT.centers - normal, dim=-1)
    cosine = (normal * towards).sum(-1, keepdim=True).clamp_min(0)
    albedo = linear_from_srgb(torch.full((len(normal), 3), GREY).double())
    expected = srgb_from_linear(albedo * (0.25 + 0.75 * cosine)).float()
    torch.testing.assert_close(image[hit], expected, rtol=0, atol=2e-2)
    assert image[30, 30, 0] > 0.78


def test_gradients_reach_the_vertices_through_the_texture() -> None:
    draw = torch.Generator().manual_seed(0)
    texture = torch.randint(0, 256, (8, 8, 4), generator=draw, dtype=torch.uint8)
    mesh = square(materials=(Material("m", WHITE, texture),))
    view = camera((0.4, -3.0, 0.6), (6, 6))

    def render(vertices: Tensor) -> Tensor:
        buffer = mesh_gbuffer(vertices, mesh.faces, view, dtype=torch.float64)
        return shaded_view(replace(mesh, vertices=vertices), buffer, view, headlight).image

    assert torch.autograd.gradcheck(render, mesh.vertices.clone().requires_grad_())


def test_nothing_in_view_is_black_and_transparent() -> None:
    mesh = square(materials=(Material("m", WHITE, quarters()),))
    behind = replace(mesh, vertices=mesh.vertices + torch.tensor([0.0, 0.0, 1e3]))
    image, opacity = picture(behind)
    assert image.shape == (60, 60, 3) and not image.any() and not opacity.any()
