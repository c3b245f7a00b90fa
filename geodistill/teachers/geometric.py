"""`geometric`: a teacher that looks at the shape alone, without images or weights."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from geodistill.geometry.mesh import Mesh
from geodistill.geometry.spectrum import CHANNELS, shape_descriptors
from geodistill.teachers.base import fingerprint

VERSION = 1
"""Counts up when the descriptors change."""


class GeometricTeacher:
    """Spectral and local shape descriptors of the vertices of a mesh.

    Alike where the surface is alike: left and right, front and back, one leg and another.
    """

    name = "geometric"

    @cached_property
    def fingerprint(self) -> str:
        # The probe is an octahedron with unequal arms, whose eigenvalues are all different.
        arms = torch.tensor([1.0, 0.8, 0.7, 0.5, 0.4, 0.3], dtype=torch.float64)
        axes = torch.cat([torch.eye(3), -torch.eye(3)]).double()
        faces = [[x, y, z] for x in (0, 3) for y in (1, 4) for z in (2, 5)]
        answer = self.vertex_features(Mesh(arms[:, None] * axes, torch.tensor(faces)))
        return fingerprint(f"geometric-{VERSION}", {}, (answer @ answer.T))

    def vertex_features(self, mesh: Mesh) -> Tensor:
        """Unit descriptors, float32 [V, C], C <= 64. Raises as `shape_descriptors` does."""
        return shape_descriptors(mesh, CHANNELS)
