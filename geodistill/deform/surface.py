"""A mesh as one surface: vertices at the same place are one, so that UV seams do not cut it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

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

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Low and high corner of the box about all faces; positions of no face do not count."""
        used = self.positions[self.faces.unique()]
        return used.amin(0), used.amax(0)

    @property
    def diagonal(self) -> float:
        """Length of that box's diagonal."""
        low, high = self.bounds
        return float((high - low).norm())

    def nearest(self, points: Tensor) -> Tensor:
        """The positions nearest to points [n, 3]: int64 [n]."""
        return torch.from_numpy(self._tree.query(points.double().numpy())[1]).long()

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import KDTree

        return KDTree(self.positions.double().numpy())


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


def _cross(positions: Tensor, faces: Tensor) -> Tensor:
    a, b, c = positions.double()[faces].unbind(1)
    return torch.linalg.cross(b - a, c - a)


def _thirds(positions: Tensor, faces: Tensor) -> Tensor:
    thirds = _cross(positions, faces).norm(dim=1) / 6
    sums = np.bincount(
        faces.numpy().ravel(), thirds.repeat_interleave(3).numpy(), minlength=len(positions)
    )
    return torch.from_numpy(sums)
