"""Making a scene of one kind into another, as `geodistill convert` does."""

from __future__ import annotations

from pathlib import Path

import torch

from converting.cells import Cell
from geodistill.convert.splat_field import volume_of
from geodistill.distill.meshes import to_mesh
from geodistill.distill.pvd import ConvertSettings, convert
from geodistill.distill.splats import to_splats
from geodistill.geometry.fields import Field, save_field
from geodistill.geometry.mesh import Mesh, face_normals
from geodistill.geometry.mesh_files import save_mesh
from geodistill.geometry.points import Points, save_points
from geodistill.geometry.splats import Splats, save_splats
from geodistill.geometry.surface import sample_surface, surface_points
from geodistill.shade.color import srgb_from_linear
from geodistill.shade.view import base_color
from geodistill.train import Budget

Scene = Field | Splats | Mesh | Points


def remade(source: Scene, cell: Cell, settings: ConvertSettings) -> Scene:
    """What the cell makes of its source; the settings are for fields."""
    target, config = cell.target.architecture, cell.target.config
    budget = Budget(steps=int(cell.limit.amount)) if cell.limit else None
    if target == "splats":
        assert not isinstance(source, Splats)
        return to_splats(source, config, budget, cell.seed)
    if target == "mesh":
        assert isinstance(source, Field | Splats)
        return to_mesh(source, config, cell.seed)
    if target == "points":
        assert isinstance(source, Mesh)
        return points_on(source, config.count, cell.seed)
    assert not isinstance(source, Field)
    return convert(volume_of(source, cell.seed), target, config, budget, settings)


def points_on(mesh: Mesh, count: int, seed: int) -> Points:
    """Points spread evenly over a mesh, with its colours and normals."""
    face, weights = sample_surface(mesh, count, seed)
    color, opacity = base_color(mesh, face, weights.float())
    shown = torch.cat([srgb_from_linear(color), opacity.reshape(-1, 1)], dim=1).clamp(0, 1)
    colors = (shown * 255).round().to(torch.uint8)
    return Points(surface_points(mesh, face, weights), colors, face_normals(mesh)[face].float())


def save_scene(scene: Scene, path: Path) -> None:
    """Write it in the format that the ending says."""
    if isinstance(scene, Field):
        save_field(scene, path)
    elif isinstance(scene, Splats):
        save_splats(path, scene)
    elif isinstance(scene, Mesh):
        save_mesh(path, scene)
    else:
        save_points(path, scene)
