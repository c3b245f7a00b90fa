"""Texture coordinates for meshes that have none."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geodistill import kernels
from geodistill.geometry.mesh import Mesh, center, diagonal
from geodistill.io.extras import require

PADDING = 3
"""Texels between charts."""


def unwrapped(mesh: Mesh, texels: int) -> tuple[Mesh, tuple[int, int]]:
    """The mesh with texture coordinates, and the size (H, W) of the texture that they are made for:
    about `texels` a side, with `PADDING` between charts.

    Vertices on seams are doubled, faces keep their order. Done by the package xatlas; raises
    InputError where it is missing.
    """
    xatlas = require("xatlas", "mesh", "making a texture")
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = texels, PADDING, True
    atlas = xatlas.Atlas()
    unit = (mesh.vertices - center(mesh)) / max(diagonal(mesh), 1e-300)
    atlas.add_mesh(
        unit.cpu().numpy().astype(np.float32), mesh.faces.cpu().numpy().astype(np.uint32)
    )
    atlas.generate(xatlas.ChartOptions(), packing)
    origin, faces, uv = atlas[0]
    vertex = torch.from_numpy(origin.astype(np.int64))
    made = Mesh(
        mesh.vertices[vertex],
        torch.from_numpy(faces.astype(np.int64)),
        torch.from_numpy(uv.astype(np.float32)),
        None if mesh.colors is None else mesh.colors[vertex],
    )
    return made, (atlas.height, atlas.width)


def texel_places(mesh: Mesh, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Which texels have their centre in a chart, and where those lie on the surface.

    Returns int64 [N], row by row from the top, and float64 [N, 3].
    """
    assert mesh.uv is not None
    height, width = size
    u, v = mesh.uv.unbind(1)
    flat = torch.stack([u * width, (1 - v) * height, torch.ones_like(u)], dim=1)
    raster = kernels.rasterize(flat, mesh.faces, torch.eye(3), size, 0.5)
    texel = (raster.triangle.reshape(-1) >= 0).nonzero()[:, 0]
    corners = mesh.faces[raster.triangle.reshape(-1)[texel].long()]
    weights = raster.weights.reshape(-1, 3)[texel].double()
    weights = weights / weights.sum(dim=1, keepdim=True)  # far from the origin it has to be exact
    return texel, (mesh.vertices[corners] * weights[..., None]).sum(dim=1)
