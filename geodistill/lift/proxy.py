"""A coarse mesh that stands for a fine one while features are lifted."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from geodistill.geometry.mesh import Mesh
from geodistill.geometry.surface import closest_surface_points, decimated
from geodistill.lift.files import FeatureSet
from geodistill.lift.scenes import MeshScene
from geodistill.shade.color import srgb_from_linear
from geodistill.shade.view import base_color


def proxy(mesh: Mesh, faces: int) -> Mesh:
    """About `faces` faces that look like the mesh: what its surface shows at the nearest point of
    each vertex, textures included, becomes the vertex's colour.

    Raises what `decimated` raises.
    """
    coarse = decimated(mesh, faces)
    face, weights, _ = closest_surface_points(mesh, coarse.vertices)
    color, opacity = base_color(mesh, face, weights.float())
    rgba = torch.cat([srgb_from_linear(color.clamp(0, 1)), opacity[:, None]], dim=1)
    return replace(coarse, colors=(255 * rgba).round().to(torch.uint8))


def carry(
    found: FeatureSet, coarse: MeshScene, scene: MeshScene, features: Tensor | None = None
) -> FeatureSet:
    """Features of a proxy for the mesh that it stands for: at the nearest point of its surface to
    each vertex, or as given [V, C]."""
    face, weights, _ = closest_surface_points(coarse.mesh, scene.positions)
    corners = coarse.mesh.faces[face]
    if features is None:
        weights = weights.to(found.features)
        features = (found.features[corners] * weights[..., None]).sum(dim=1)
    seen = found.seen[corners].any(dim=1)
    return replace(found, features=features, seen=seen, digest=scene.digest)
