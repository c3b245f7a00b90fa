"""A mesh and what a camera sees of it become a picture."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill import kernels
from geodistill.cameras import Camera
from geodistill.geometry.mesh import Mesh
from geodistill.render.mesh import MeshBuffer
from geodistill.shade.color import linear_from_srgb, srgb_from_linear
from geodistill.shade.lights import Light
from geodistill.shade.textures import sample_texture

GREY = 0.8
"""Display-referred colour of what has none of its own."""


class ShadedView(NamedTuple):
    """A picture; black and transparent where nothing is seen."""

    image: Tensor  # [H, W, 3] display-referred (sRGB) in [0, 1], not multiplied by the opacity
    opacity: Tensor  # [H, W] in [0, 1]


def shaded_view(mesh: Mesh, buffer: MeshBuffer, camera: Camera, light: Light) -> ShadedView:
    """The picture of a mesh, given what `mesh_gbuffer` found that this camera sees of it.

    The colour is the product of the material's factor, its texture and the vertex colours, as far
    as they exist, multiplied in linear colour. A mesh whose faces name no materials has the first
    one everywhere. Differentiable in the buffer.
    """
    hit = buffer.triangle >= 0
    color, opacity = base_color(mesh, buffer.triangle[hit].long(), buffer.weights[hit])
    towards = F.normalize(camera.centers.double() - buffer.position[hit], dim=-1)
    seen = light(color, buffer.normal[hit], towards.to(color))
    at = hit.reshape(-1).nonzero()[:, 0]
    image = color.new_zeros(hit.numel(), 3).index_copy(0, at, srgb_from_linear(seen.clamp(0, 1)))
    alpha = color.new_zeros(hit.numel()).index_copy(0, at, opacity)
    return ShadedView(image.view(*hit.shape, 3), alpha.view(hit.shape))


def base_color(mesh: Mesh, face: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Linear colour [P, 3] and opacity [P] of points of the surface, given by their faces int64 [P]
    and barycentric weights [P, 3]."""
    index = mesh.faces[face].int()
    color = weights.new_ones(len(face), 4)
    if mesh.colors is not None:
        vertex = mesh.colors.to(weights) / 255
        vertex = torch.cat([linear_from_srgb(vertex[:, :3]), vertex[:, 3:]], 1)
        color = kernels.gather(vertex, index, weights)
    uv = None if mesh.uv is None else kernels.gather(mesh.uv.to(weights), index, weights)
    material = _materials(mesh, face)
    if mesh.colors is None:
        plain = color.new_tensor([linear_from_srgb(color.new_tensor(GREY)).item()] * 3 + [1.0])
        color = torch.where((material < 0)[:, None], plain, color)
    for number in material.unique().tolist():
        if number < 0:
            continue
        some = (material == number).nonzero()[:, 0]
        own = color.new_tensor(mesh.materials[number].base_color).expand(len(some), 4)
        own = torch.cat([linear_from_srgb(own[:, :3]), own[:, 3:]], 1)
        texture = mesh.materials[number].texture
        if texture is not None and uv is not None:
            found = sample_texture(texture, uv[some])
            own = own * torch.cat([linear_from_srgb(found[:, :3]), found[:, 3:]], 1)
        color = color.index_copy(0, some, color[some] * own)
    return color[:, :3], color[:, 3]


def _materials(mesh: Mesh, face: Tensor) -> Tensor:
    """The material of each of the faces, -1 for none. int64 [P]"""
    if not mesh.materials:
        return torch.full_like(face, -1)
    if mesh.face_material is None:
        return torch.zeros_like(face)
    return mesh.face_material[face]
