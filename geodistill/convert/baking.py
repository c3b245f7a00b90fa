"""Colours of a mesh lifted from views of what it was made from: into a texture or its vertices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from geodistill.footprint import Footprint
from geodistill.geometry.atlas import texel_places
from geodistill.geometry.mesh import Material, Mesh, vertex_normals
from geodistill.lift.fill import filled_in_space
from geodistill.lift.solve import refined, weighted_mean
from geodistill.lift.views import PixelFeatures, View
from geodistill.log import progress
from geodistill.render.mesh import MeshBuffer, MeshFootprint, grazing, mesh_gbuffer
from geodistill.render.surfaces import SurfaceView
from geodistill.render.texels import texel_footprint

CLEAR = 0.9
"""Opacity below which a pixel shows what is behind as well, and counts for nothing."""
STEPS = 4
"""Refinements of vertex colours, which lie farther apart than pixels do."""


def with_texture(
    mesh: Mesh, views: Sequence[SurfaceView], size: tuple[int, int], tolerance: float
) -> Mesh:
    """The mesh with a texture of `size` (H, W) in place of colours.

    A texel is the mean of the pixels that show it, weighted by the cosine between ray and normal.
    One that none shows takes what is nearest on the surface, one between charts what is nearest in
    the picture, so that no seam shows however it is sampled.

    Args:
        mesh: with texture coordinates.
        views: that the colours are lifted from.
        size: of the texture.
        tolerance: how far the mesh may be from the surface of a view that shows it.
    """
    found = weighted_mean(_looks(mesh, views, tolerance, lambda b: texel_footprint(mesh, b, size)))
    texel, places = texel_places(mesh, size)
    color = torch.zeros_like(found.features)
    color[texel] = filled_in_space(found.features[texel], found.seen[texel], places)
    charted = torch.zeros(len(color), dtype=torch.bool)
    charted[texel] = True
    texture = _spread(color.view(*size, 3), charted.view(size))
    return replace(
        mesh,
        colors=None,
        materials=(Material("baked", (1.0, 1.0, 1.0, 1.0), _rgba(texture)),),
        face_material=torch.zeros(len(mesh.faces), dtype=torch.int64),
    )


def with_vertex_colors(mesh: Mesh, views: Sequence[SurfaceView], tolerance: float) -> Mesh:
    """The mesh with the colours of its vertices that best explain the views; the arguments are
    those of `with_texture`."""
    count = len(mesh.vertices)
    looks = _looks(
        mesh, views, tolerance, lambda b: MeshFootprint(b.triangle, b.weights, mesh.faces, count)
    )
    found = refined(looks, STEPS)
    color = filled_in_space(found.features, found.seen, mesh.vertices)
    return replace(mesh, colors=_rgba(color))


def _looks(
    mesh: Mesh,
    views: Sequence[SurfaceView],
    tolerance: float,
    footprint: Callable[[MeshBuffer], Footprint],
) -> list[View]:
    """The views as the equations of a lift, one for each pixel that shows the mesh."""
    normals = vertex_normals(mesh)
    looks = []
    with progress(len(views), "baking views") as bar:
        for view in views:
            buffer = mesh_gbuffer(mesh.vertices, mesh.faces, view.camera, normals)
            looks.append(_look(view, buffer, footprint(buffer), tolerance))
            bar.advance()
    return looks


def _look(view: SurfaceView, buffer: MeshBuffer, operator: Footprint, tolerance: float) -> View:
    away = (buffer.position - view.camera.centers).norm(dim=-1)
    same = (away - view.depth).abs() < tolerance
    trust = grazing(buffer, view.camera).float() * (same & (view.opacity > CLEAR))
    color = (view.color / view.opacity.clamp_min(CLEAR)[..., None]).clamp(0, 1).reshape(-1, 3)
    one = torch.arange(len(color), dtype=torch.int32)[:, None]
    pixels = PixelFeatures(color, one, torch.ones(len(color), 1))
    return View(lambda: operator, lambda: pixels, trust.reshape(-1))


def _spread(picture: Tensor, known: Tensor) -> Tensor:
    """Pixels [H, W, 3] that are not known, bool [H, W], as the nearest one that is."""
    from scipy.ndimage import distance_transform_edt

    nearest = np.zeros((2, *known.shape), np.int32)
    distance_transform_edt(
        ~known.numpy(), return_distances=False, return_indices=True, indices=nearest
    )
    y, x = torch.from_numpy(nearest).long()
    return picture[y, x]


def _rgba(color: Tensor) -> Tensor:
    """uint8 [..., 4] of colours [..., 3] in [0, 1]."""
    opaque = torch.ones_like(color[..., :1])
    return (torch.cat([color, opaque], dim=-1).clamp(0, 1) * 255).round().to(torch.uint8)
