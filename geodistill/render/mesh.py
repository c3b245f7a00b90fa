"""A mesh seen through a camera: its footprint, its G-buffer, and where that can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill import kernels
from geodistill.cameras import Camera
from geodistill.checks import check
from geodistill.geometry.mesh import area_weighted_normals
from geodistill.kernels import Raster
from geodistill.render.indexed import IndexedFootprint, in_camera, pinhole

NEAR = 1e-6
"""The near plane, in units of the depth of the farthest vertex."""


class MeshFootprint(IndexedFootprint):
    """Pixels are those of the image, row by row, elements are vertices, the weights perspective-
    correct barycentrics: the one face that is nearest, or nothing."""

    def __init__(self, triangle: Tensor, weights: Tensor, faces: Tensor, vertices: int) -> None:
        """From what `mesh_gbuffer` has: triangle int32 [H, W], weights [H, W, 3]; faces [F, 3]."""
        super().__init__(_corners(triangle, faces), weights.reshape(-1, 3), vertices)

    @classmethod
    def seen_by(
        cls, camera: Camera, vertices: Tensor, faces: Tensor, dtype: torch.dtype = torch.float32
    ) -> MeshFootprint:
        """The footprint of one pinhole camera; differentiable in the vertices at fixed visibility.

        Args:
            camera: one camera without distortion.
            vertices: float64 [V, 3] in the world.
            faces: int64 [F, 3].
            dtype: of the weights.

        Raises UsageError for a batch of cameras or a lens with distortion.
        """
        raster, _ = _rasterize(vertices, faces, pinhole(camera), dtype)
        return cls(raster.triangle, raster.weights, faces, len(vertices))


@dataclass(frozen=True, eq=False)
class MeshBuffer:
    """What one camera sees of a mesh; all but `triangle` are zero where it sees nothing."""

    triangle: Tensor  # int32 [H, W] face, -1 where there is none
    weights: Tensor  # [H, W, 3] barycentric weights of the face's corners
    depth: Tensor  # [H, W] z in the camera's axes, world units
    normal: Tensor  # [H, W, 3] unit, in the world's axes, on the side that is seen
    position: Tensor  # float64 [H, W, 3] in the world


def mesh_gbuffer(
    vertices: Tensor,
    faces: Tensor,
    camera: Camera,
    normals: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> MeshBuffer:
    """Rasterise a mesh. Differentiable in the vertices and normals at fixed visibility.

    Normals are interpolated between the vertices. Files seldom agree on which side of a face is its
    front, so each corner's is first turned to the side of the face that the camera sees; where they
    vanish the face's own takes their place.

    Args:
        vertices: float64 [V, 3] in the world.
        faces: int64 [F, 3], seen from both sides.
        camera: one camera without distortion.
        normals: [V, 3] of the vertices; None: `area_weighted_normals`.
        dtype: of the buffer, but for the positions.

    Raises UsageError for a batch of cameras or a lens with distortion.
    """
    camera = pinhole(camera)
    raster, points = _rasterize(vertices, faces, camera, dtype)
    hit = raster.triangle >= 0
    index, weights = _corners(raster.triangle[hit], faces), raster.weights[hit]
    rotation = camera.world_from_cam[:3, :3]
    if normals is None:
        normals = area_weighted_normals(vertices, faces)
    check(normals=(normals, f"{len(vertices)} 3"))
    place = kernels.gather(points, index, weights)
    flat = _towards_camera(points[index.long()], place) @ rotation.T.to(dtype)
    normal = _interpolated(normals.to(dtype)[index.long()], weights, flat)
    return MeshBuffer(
        triangle=raster.triangle,
        weights=raster.weights,
        depth=_image(hit, place[:, 2]),
        normal=_image(hit, normal),
        position=_image(hit, camera.centers + place.double() @ rotation.T),
    )


def grazing(buffer: MeshBuffer, camera: Camera) -> Tensor:
    """|cos| of the angle between the normal and the direction of view. [H, W]"""
    towards = F.normalize(camera.centers.double() - buffer.position, dim=-1)
    return (buffer.normal * towards.to(buffer.normal)).sum(-1).abs()


def _rasterize(
    vertices: Tensor, faces: Tensor, camera: Camera, dtype: torch.dtype
) -> tuple[Raster, Tensor]:
    """What the camera sees, and the vertices in its axes."""
    check(vertices=(vertices, "V 3"), faces=(faces, "F 3"))
    points = in_camera(vertices, camera)
    depth = points[:, 2].detach()
    farthest = float(depth.nan_to_num(0.0, 0.0, 0.0).max()) if len(depth) else 0.0
    near = NEAR * farthest if farthest > 0 else 1.0  # all is behind: any will do
    points = points.to(dtype)
    return kernels.rasterize(points, faces, camera.K, camera.size, near), points


def _corners(triangle: Tensor, faces: Tensor) -> Tensor:
    """Corners of the faces that are seen, row by row: int32 [pixels, 3], -1 where there is none."""
    flat = triangle.reshape(-1)
    index = torch.full((len(flat), 3), -1, dtype=torch.int32, device=faces.device)
    hit = (flat >= 0).nonzero()[:, 0]
    return index.index_copy(0, hit, faces[flat[hit].long()].int())


def _image(hit: Tensor, values: Tensor) -> Tensor:
    """Values [pixels that hit, ...] as an image [H, W, ...], zero elsewhere."""
    blank = values.new_zeros(hit.numel(), *values.shape[1:])
    at = hit.reshape(-1).nonzero()[:, 0]
    return blank.index_copy(0, at, values).view(*hit.shape, *values.shape[1:])


def _towards_camera(corners: Tensor, place: Tensor) -> Tensor:
    """Unit normals of faces [P, 3, 3] in camera coordinates, on the side seen at `place` [P, 3]."""
    a, b, c = corners.unbind(1)
    normal = F.normalize(torch.linalg.cross(b - a, c - a, dim=-1), dim=-1, eps=1e-37)
    behind = (normal * place).sum(-1, keepdim=True) > 0
    return torch.where(behind, -normal, normal)


def _interpolated(corners: Tensor, weights: Tensor, flat: Tensor) -> Tensor:
    """Unit normals [P, 3] between those of the corners [P, 3, 3], on the side of `flat` [P, 3]."""
    inwards = (corners * flat[:, None]).sum(-1, keepdim=True) < 0
    normal = (torch.where(inwards, -corners, corners) * weights[..., None]).sum(1)
    short = normal.norm(dim=-1, keepdim=True) < 1e-3
    return F.normalize(torch.where(short, flat, normal), dim=-1)
