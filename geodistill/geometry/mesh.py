"""Triangle meshes: positions, faces, and what colours them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Material:
    """What colours a face: the texture times the factor."""

    name: str
    base_color: tuple[float, float, float, float]  # display-referred (sRGB) RGBA in [0, 1]
    texture: Tensor | None  # uint8 [H, W, 4] sRGB RGBA, first row = top; None: no texture


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh in the user's own frame and unit.

    At a UV seam, a vertex with two uvs is two vertices at one place.
    """

    vertices: Tensor  # float64 [V, 3]
    faces: Tensor  # int64 [F, 3]
    uv: Tensor | None = None  # float32 [V, 2], origin at the lower left of the texture
    colors: Tensor | None = None  # uint8 [V, 4] sRGB RGBA
    materials: tuple[Material, ...] = ()
    face_material: Tensor | None = None  # int64 [F], index into materials, -1 for none
