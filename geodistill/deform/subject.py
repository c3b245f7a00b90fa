"""A mesh made ready for edits: its surface and features, and what is found of them only once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from geodistill.deform.features import CENTRING, prepare
from geodistill.deform.locality import path_graph, surface_distance
from geodistill.deform.surface import Surface, surface_of
from geodistill.deform.weights import Kernel, automatic_kernel
from geodistill.geometry.mesh import Mesh, mesh_digest


@dataclass(frozen=True, eq=False)
class Subject:
    """What edits of one mesh with one set of features share; from `subject_of`."""

    mesh: Mesh
    surface: Surface
    table: Tensor  # float32 [D, P] unit columns

    @cached_property
    def digest(self) -> str:
        return mesh_digest(self.mesh)

    @cached_property
    def automatic(self) -> Kernel:
        """The kernel that the features ask for."""
        return automatic_kernel(self.table, self.surface.areas)

    def kernel(self, radius: float | None = None, falloff: float | None = None) -> Kernel:
        """The same with another radius, or another power."""
        found = self.automatic
        return Kernel(radius or found.radius, falloff or found.power)

    @cached_property
    def graph(self) -> Any:
        return path_graph(self.surface)

    def distances(self, vertices: Tensor) -> Tensor:
        """Distance along the surface, float64 [P], from the nearest of positions int64 [n]."""
        return surface_distance(self.graph, vertices)


def subject_of(
    mesh: Mesh, features: Tensor, centring: float = CENTRING, surface: Surface | None = None
) -> Subject:
    """A mesh with features [V, D]; its surface where that is known already.

    Raises InputError for a mesh without area or features that cannot be used, ShapeError for
    features of another mesh.
    """
    surface = surface or surface_of(mesh)
    return Subject(mesh, surface, prepare(features, surface, centring))
