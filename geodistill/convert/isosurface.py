"""From signed distances to a closed mesh."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import InputError
from geodistill.convert.fusion import DistanceGrid
from geodistill.geometry.mesh import Mesh, components, triangle_areas
from geodistill.io.extras import require
from geodistill.rays import project
from geodistill.render.surfaces import SurfaceView


def isosurface(grid: DistanceGrid) -> Mesh:
    """The closed surface at distance zero, faces outwards (Lewiner et al. 2003).

    Hollows without a way to the outside are solid, and what reaches the grid's border ends there.

    Raises InputError where nothing is inside, or without the package scikit-image.
    """
    measure = require("skimage.measure", "mesh", "making a mesh")
    volume = np.pad(grid.values.numpy(), 1, constant_values=float(grid.values.max()))
    # A node that lies on the surface would make faces without area.
    volume[volume == 0] = 1e-3 * grid.step
    volume[_hollows(volume > 0)] = volume.min()
    if not (volume < 0).any():
        raise InputError("there is no surface to make a mesh of: views see through everything")
    vertices, faces, _, _ = measure.marching_cubes(volume, 0.0, gradient_direction="descent")
    places = grid.low + grid.step * (torch.from_numpy(vertices.astype(np.float64)) - 1)
    return Mesh(places, torch.from_numpy(faces.astype(np.int64)))


def _hollows(outside: np.ndarray) -> np.ndarray:
    """bool [X, Y, Z]: what is outside but has no way to the corner."""
    from scipy.ndimage import label

    number = np.zeros(outside.shape, np.int32)
    label(outside, output=number)
    return outside & (number != number[0, 0, 0])


def without_specks(mesh: Mesh, share: float) -> Mesh:
    """Without components of less than this share of the largest one's area."""
    component = components(mesh)[mesh.faces[:, 0]]
    area = torch.zeros(int(component.max()) + 1, dtype=torch.float64)
    area.index_add_(0, component, triangle_areas(mesh))
    return _with_faces(mesh, (area >= share * area.max())[component])


def without_unseen(mesh: Mesh, views: Sequence[SurfaceView], tolerance: float) -> Mesh:
    """Without the faces no corner of which lies on, or before, the surface that some view sees."""
    seen = torch.zeros(len(mesh.vertices), dtype=torch.bool)
    for view in views:
        xy_px, _ = project(view.camera.to(dtype=torch.float64), mesh.vertices)
        height, width = view.camera.size
        inside = ((xy_px >= 0) & (xy_px < xy_px.new_tensor([width, height]))).all(dim=1)
        column, row = xy_px[inside].long().unbind(1)
        away = (mesh.vertices[inside] - view.camera.centers.double()).norm(dim=1)
        seen[inside] |= away < view.depth[row, column] + tolerance
    return _with_faces(mesh, seen[mesh.faces].any(dim=1))


def _with_faces(mesh: Mesh, kept: Tensor) -> Mesh:
    """The faces where bool [F] holds, and the vertices that they use. Geometry alone."""
    used, faces = mesh.faces[kept].unique(return_inverse=True)
    return Mesh(mesh.vertices[used], faces.reshape(-1, 3))
