"""A mesh as one surface: vertices at the same place are one, so that UV seams do not cut it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import InputError
from geodistill.geometry.mesh import Mesh
from geodistill.io.meshes import distinct_rows


@dataclass(frozen=True, eq=False)
class Surface:
    """The distinct positions of a mesh, in the order of their first vertices."""

    positions: Tensor  # float64 [P, 3]
    faces: Tensor  # int64 [F, 3] into positions
    areas: Tensor  # float64 [P] a third of the faces around each position
    welded: Tensor  # int64 [V] the position of each vertex of the mesh
    first: Tensor  # int64 [P] the first vertex of the mesh at each position

    @property
    def diagonal(self) -> float:
        """Length of the bounding box's diagonal."""
        return float((self.positions.amax(0) - self.positions.amin(0)).norm())


def surface_of(mesh: Mesh) -> Surface:
    """Weld a mesh's vertices where their coordinates are equal.

    Raises InputError for a mesh without area.
    """
    vertices = mesh.vertices.detach().cpu()
    welded, first = (torch.from_numpy(ids) for ids in distinct_rows(vertices.numpy()))
    positions = vertices[first]
    faces = welded[mesh.faces.cpu()]
    areas = _thirds(positions, faces)
    if not float(areas.sum()) > 0:
        raise InputError("the mesh's faces have no area")
    return Surface(positions, faces, areas, welded, first)


def closest_point(surface: Surface, point: Tensor) -> tuple[int, Tensor]:
    """The face nearest to a point [3], and the barycentric weights [3] of the nearest point on it.

    Source: Ericson, Real-Time Collision Detection (2004), section 5.1.5, as the nearest of the
    projection onto the plane, where it lies inside, and of the three edges.
    """
    p = point.to(surface.positions)
    corners = surface.positions[surface.faces]
    weights = torch.stack(
        [_plane_weights(p, corners), *(_edge_weights(p, corners, edge) for edge in range(3))], 1
    )
    distance = (torch.einsum("fes,fsx->fex", weights, corners) - p).norm(dim=-1)
    distance = torch.where((weights >= 0).all(-1), distance, torch.inf)
    best = int(distance.amin(1).argmin())
    return best, weights[best, distance[best].argmin()]


def _cross(positions: Tensor, faces: Tensor) -> Tensor:
    a, b, c = positions.double()[faces].unbind(1)
    return torch.linalg.cross(b - a, c - a)


def _thirds(positions: Tensor, faces: Tensor) -> Tensor:
    thirds = _cross(positions, faces).norm(dim=1) / 6
    sums = np.bincount(
        faces.numpy().ravel(), thirds.repeat_interleave(3).numpy(), minlength=len(positions)
    )
    return torch.from_numpy(sums)


def _plane_weights(p: Tensor, corners: Tensor) -> Tensor:
    """[F, 3] barycentric weights of the projection of p; negative outside, and without an area."""
    a, b, c = corners.unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    square = (normal * normal).sum(1, keepdim=True)
    parts = [torch.linalg.cross(v - u, p - u) for u, v in ((b, c), (c, a), (a, b))]
    weights = torch.stack([(part * normal).sum(1) for part in parts], 1) / square
    return torch.where(square > 0, weights, -1.0)


def _edge_weights(p: Tensor, corners: Tensor, edge: int) -> Tensor:
    """[F, 3] barycentric weights of the nearest point on one edge."""
    start, end = corners[:, edge], corners[:, (edge + 1) % 3]
    along = end - start
    square = (along * along).sum(1)
    t = (((p - start) * along).sum(1) / square.clamp_min(1e-300)).clamp(0, 1)
    weights = corners.new_zeros(len(corners), 3)
    weights[:, edge], weights[:, (edge + 1) % 3] = 1 - t, t
    return weights
