"""A textured mesh seen through a camera: the footprint whose elements are texels."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill import kernels
from geodistill.geometry.mesh import Mesh
from geodistill.render.indexed import IndexedFootprint
from geodistill.render.mesh import MeshBuffer


def texel_footprint(mesh: Mesh, buffer: MeshBuffer, size: tuple[int, int]) -> IndexedFootprint:
    """Pixels are those of the buffer, row by row, elements the texels of a texture of `size`
    (H, W), row by row from the top; the weights are those of a bilinear look-up that wraps around.

    `mesh` needs texture coordinates.
    """
    assert mesh.uv is not None
    face = buffer.triangle.reshape(-1)
    hit = (face >= 0).nonzero()[:, 0]
    corners = mesh.faces[face[hit].long()].int()
    uv = kernels.gather(mesh.uv, corners, buffer.weights.reshape(-1, 3)[hit].float())
    index = torch.full((len(face), 4), -1, dtype=torch.int32)
    weights = torch.zeros(len(face), 4)
    index[hit], weights[hit] = bilinear(uv, size)
    return IndexedFootprint(index, weights, size[0] * size[1])


def bilinear(uv: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The four texels about texture coordinates [N, 2], int32 [N, 4], and their shares [N, 4]."""
    height, width = size
    x = (uv[:, 0] - uv[:, 0].floor()) * width - 0.5
    y = (1 - (uv[:, 1] - uv[:, 1].floor())) * height - 0.5
    left, top = x.floor(), y.floor()
    right, lower = x - left, y - top
    columns = [(left.long() + step) % width for step in (0, 1)]
    rows = [(top.long() + step) % height for step in (0, 1)]
    index = [row * width + column for row in rows for column in columns]
    shares = [vertical * across for vertical in (1 - lower, lower) for across in (1 - right, right)]
    return torch.stack(index, dim=1).int(), torch.stack(shares, dim=1)
