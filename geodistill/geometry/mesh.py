"""Triangle meshes, as the user's file holds them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Material:
    """One surface finish.

    name        what the file calls it
    base_color  display-referred (sRGB) RGBA factor in [0, 1]
    texture     uint8 [H, W, 4] sRGB RGBA, first row = top of the image, or None
    """

    name: str
    base_color: tuple[float, float, float, float]
    texture: Tensor | None


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in the user's own frame and unit; a vertex with two uvs is two vertices.

    vertices       float64 [V, 3]
    faces          int64 [F, 3]
    uv             float32 [V, 2], origin at the lower left of the texture, or None
    colors         uint8 [V, 4] sRGB RGBA, or None
    materials      surface finishes
    face_material  int64 [F], index into materials, -1 for none, or None
    """

    vertices: Tensor
    faces: Tensor
    uv: Tensor | None = None
    colors: Tensor | None = None
    materials: tuple[Material, ...] = ()
    face_material: Tensor | None = None
