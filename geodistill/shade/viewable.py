"""Scenes of every kind as pictures see them: one way to look at fields, splats, meshes, points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.cameras import Camera, Similarity
from geodistill.checks import UsageError
from geodistill.geometry.fields import Field, load_field
from geodistill.geometry.kinds import kind_of
from geodistill.geometry.mesh import Mesh, vertex_normals
from geodistill.geometry.mesh_files import load_mesh
from geodistill.geometry.points import Points, load_points
from geodistill.geometry.splats import Splats, load_splats
from geodistill.render.fields import GBuffer
from geodistill.render.mesh import mesh_gbuffer
from geodistill.render.points import PointFootprint, default_radius
from geodistill.render.splats import render_splats
from geodistill.render.viewable import FieldView, Viewable
from geodistill.runs import result_file
from geodistill.shade.lights import unlit
from geodistill.shade.view import GREY, shaded_view

SUPERSAMPLING = 3
"""Rays along each side of a pixel of a mesh, whose edges would be jagged."""
_SAMPLE = 100_000
TAIL = 0.01
"""Share of splats on each side of each axis that a scene's frame leaves out: a few fly far away."""


@dataclass(frozen=True, eq=False)
class SplatView:
    """Gaussian splats."""

    splats: Splats
    views: Camera | None = None
    color_space: str = "srgb"

    @property
    def frame(self) -> Similarity:
        means = self.splats.means.detach().double().cpu()
        means = means[:: max(1, len(means) // _SAMPLE)]
        low, high = (torch.quantile(means, share, dim=0) for share in (TAIL, 1 - TAIL))
        return _cube(low, high)

    def parameter_count(self) -> int:
        return self.splats.parameter_count()

    @torch.no_grad()
    def view(self, camera: Camera, normals: bool = False) -> GBuffer:
        _expect_no_normals(normals, "splats")
        seen = render_splats(self.splats, camera)
        return GBuffer(seen.image, seen.opacity, seen.depth)


class MeshView:
    """A mesh in its own colours, without light: those of converted scenes are what was seen."""

    views: Camera | None = None
    color_space = "srgb"

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self._normals = mesh, vertex_normals(mesh)

    @property
    def frame(self) -> Similarity:
        used = self.mesh.vertices[self.mesh.faces.reshape(-1)]
        return _cube(used.amin(0), used.amax(0))

    def parameter_count(self) -> int:
        mesh = self.mesh
        tensors = [mesh.vertices, mesh.faces, mesh.uv, mesh.colors]
        tensors += [material.texture for material in mesh.materials]
        return sum(tensor.numel() for tensor in tensors if tensor is not None)

    @torch.no_grad()
    def view(self, camera: Camera, normals: bool = False) -> GBuffer:
        fine = camera.scaled(SUPERSAMPLING)
        buffer = mesh_gbuffer(self.mesh.vertices, self.mesh.faces, fine, self._normals)
        image, opacity = shaded_view(self.mesh, buffer, fine, unlit)
        hit = (buffer.triangle >= 0).float()
        away = (buffer.position - fine.centers).norm(dim=-1).float() * hit
        scalars = torch.stack([opacity, away, hit], dim=-1)
        channels = torch.cat([image * opacity[..., None], scalars, buffer.normal], dim=-1)
        seen = F.avg_pool2d(channels.permute(2, 0, 1), SUPERSAMPLING).permute(1, 2, 0)
        depth = seen[..., 4] / seen[..., 5].clamp_min(1e-6)
        normal = F.normalize(seen[..., 6:], dim=-1) if normals else None
        return GBuffer(seen[..., :3], seen[..., 3], depth, normal)


class PointView:
    """A point cloud, drawn as discs."""

    views: Camera | None = None
    color_space = "srgb"

    def __init__(self, points: Points) -> None:
        self.points, self.radius = points, default_radius(points.positions)
        grey = torch.full((len(points), 3), GREY)
        self._colors = grey if points.colors is None else points.colors[:, :3].float() / 255

    @property
    def frame(self) -> Similarity:
        return _cube(self.points.positions.amin(0), self.points.positions.amax(0))

    def parameter_count(self) -> int:
        return 6 * len(self.points)

    def view(self, camera: Camera, normals: bool = False) -> GBuffer:
        _expect_no_normals(normals, "points")
        positions = self.points.positions
        footprint = PointFootprint.seen_by(camera, positions, self.radius)
        away = (positions - camera.centers).norm(dim=1, keepdim=True).float()
        seen = footprint.render(torch.cat([self._colors, away], dim=1)).reshape(*camera.size, 4)
        opacity = footprint.row_sums().reshape(camera.size)
        return GBuffer(seen[..., :3], opacity, seen[..., 3] / opacity.clamp_min(1e-6))


Scene = Field | Splats | Mesh | Points | Viewable


def viewable(scene: Scene) -> Viewable:
    """A scene of any kind to look at."""
    if isinstance(scene, Field):
        return FieldView(scene)
    if isinstance(scene, Splats):
        return SplatView(scene)
    if isinstance(scene, Mesh):
        return MeshView(scene)
    return PointView(scene) if isinstance(scene, Points) else scene


def load_scene(path: Path, device: torch.device | str = "cpu") -> Field | Splats | Mesh | Points:
    """The scene in a file of any kind. Raises InputError when it is missing or damaged."""
    path = result_file(path)
    kind = kind_of(path)
    if kind == "field":
        return load_field(path, device)
    if kind == "splats":
        return load_splats(path).to(device)
    return load_mesh(path) if kind == "mesh" else load_points(path)


def load_viewable(path: Path, device: torch.device | str = "cpu") -> Viewable:
    """The same, to look at."""
    return viewable(load_scene(path, device))


def _expect_no_normals(normals: bool, what: str) -> None:
    if normals:
        raise UsageError(f"{what} have no normals to render: they are of fields and meshes")


def _cube(low: Tensor, high: Tensor) -> Similarity:
    """The world from the smallest cube [-1, 1]^3 about a box."""
    half = 0.5 * float((high - low).max())
    return Similarity(torch.eye(3, dtype=torch.float64), 0.5 * (low + high), half or 1.0)
