"""A coarse mesh that stands for a fine one while features are lifted."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from geodistill.cameras import Camera
from geodistill.geometry.surface import closest_surface_points, decimated
from geodistill.lift.files import FeatureSet
from geodistill.lift.scene import Look
from geodistill.lift.scenes import MeshScene


class ProxyScene(MeshScene):
    """About `faces` faces in place of a mesh's own. Teachers are shown the mesh itself.

    Raises what `decimated` raises.
    """

    def __init__(self, original: MeshScene, faces: int) -> None:
        super().__init__(decimated(original.mesh, faces))
        self.original = original

    def look(self, camera: Camera, patch_px: float) -> Look:
        return replace(super().look(camera, patch_px), image=self.original.picture(camera))

    def carry(self, found: FeatureSet, features: Tensor | None = None) -> FeatureSet:
        """Its features for the mesh that it stands for: at the nearest point of its surface to each
        vertex, or as given [V, C]."""
        face, weights, _ = closest_surface_points(self.mesh, self.original.positions)
        corners = self.mesh.faces[face]
        if features is None:
            weights = weights.to(found.features)
            features = (found.features[corners] * weights[..., None]).sum(dim=1)
        seen = found.seen[corners].any(dim=1)
        return replace(found, features=features, seen=seen, digest=self.original.digest)
