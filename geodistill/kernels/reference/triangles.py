"""Triangle rasterisation: every pixel against every face whose box holds it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_PAIRS = 1 << 21
_ROUNDING = 2e-15
"""A determinant this small against the sum of its terms' magnitudes is a rounding error."""


@dataclass(frozen=True)
class Raster:
    """What each pixel sees of a mesh."""

    triangle: Tensor  # int32 [H, W] face, -1 where there is none
    weights: Tensor  # [H, W, 3] barycentric weights of its corners, zero where there is none
    depth: Tensor  # [H, W] z in camera coordinates, zero where there is none


def rasterize(
    points: Tensor, faces: Tensor, K: Tensor, size: tuple[int, int], near: float
) -> Raster:
    height, width = size
    wide = torch.float32 if points.device.type == "mps" else torch.float64
    corners = (points.to(wide) @ K.to(points.device, wide).T)[faces]
    with torch.no_grad():
        inverse_depth, seen = _nearest(corners.detach(), faces, size, near)
    pixel = (seen < len(faces)).nonzero()[:, 0]
    face = seen[pixel]
    edges = _edge_functions(corners[face], _centres(pixel, width, wide))
    found = edges / edges.sum(-1, keepdim=True)
    # Only rounding makes a weight negative; its derivative stays.
    found = found + (found.clamp_min(0.0) - found).detach()
    blank = points.new_zeros(height * width)
    return Raster(
        torch.where(seen < len(faces), seen, -1).int().view(size),
        points.new_zeros(height * width, 3).index_copy(0, pixel, found.to(points)).view(*size, 3),
        blank.index_copy(0, pixel, (1 / inverse_depth[pixel]).to(points)).view(size),
    )


def _nearest(
    corners: Tensor, faces: Tensor, size: tuple[int, int], near: float
) -> tuple[Tensor, Tensor]:
    """Inverse depth and face of each pixel; zero and the number of faces where there is none."""
    inverse_depth = corners.new_zeros(size[0] * size[1])
    seen = torch.full_like(inverse_depth, len(faces), dtype=torch.int64)
    x0, y0, columns, rows = _boxes(corners, size, near)
    planes = _planes(corners, faces)
    ends = (columns * rows).cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _PAIRS):
        pair = torch.arange(start, min(start + _PAIRS, total), device=corners.device)
        face = torch.searchsorted(ends, pair, right=True)
        rank = pair - (ends - columns * rows)[face]
        pixel = (y0[face] + rank // columns[face]) * size[1] + x0[face] + rank % columns[face]
        values = (planes[face] * _centres(pixel, size[1], planes.dtype)[:, None]).sum(-1)
        inverse = values[:, 3]
        hit = (values >= 0).all(-1) & (inverse > 0) & (inverse <= 1 / near)
        pixel, face, inverse = pixel[hit], face[hit], inverse[hit]
        best = inverse_depth.scatter_reduce(0, pixel, inverse, "amax")
        seen = torch.where(best > inverse_depth, len(faces), seen)
        first = inverse == best[pixel]
        seen = seen.scatter_reduce(0, pixel[first], face[first], "amin")
        inverse_depth = best
    return inverse_depth, seen


def _boxes(corners: Tensor, size: tuple[int, int], near: float) -> tuple[Tensor, ...]:
    """x0, y0, columns and rows of the pixels [F] that each face can cover.

    A face that reaches behind the near plane has a box as large as the image.
    """
    depth = corners[..., 2]
    in_front = (depth >= near).all(-1)
    xy = corners[..., :2] / torch.where(depth >= near, depth, 1.0)[..., None]
    bounds = corners.new_tensor([size[1], size[0]])
    usable = corners.isfinite().all(-1).all(-1) & (depth >= near).any(-1)
    low = torch.where(in_front[:, None], xy.amin(1), 0.0) - 0.5
    high = torch.where(in_front[:, None], xy.amax(1), bounds) - 0.5
    slack = 1e-6 * bounds.sum()
    low = torch.minimum((low - slack).nan_to_num().clamp_min(0.0), bounds).ceil().long()
    high = torch.minimum((high + slack).nan_to_num().clamp_min(-1.0), bounds - 1).floor().long()
    extent = (high - low + 1).clamp_min(0) * usable[:, None]
    return low[:, 0], low[:, 1], extent[:, 0], extent[:, 1]


def _planes(corners: Tensor, faces: Tensor) -> Tensor:
    """Edge functions, positive inside, and inverse depth as planes (a, b, c) over (u, v, 1).

    Corners are taken in the order of their indices: then an edge has the same function, up to its
    sign, in both of its triangles, and no ray passes between them. [F, 4, 3]; all zero for faces
    that no ray can hit: without area, or seen exactly from their side.
    """
    order = faces.argsort(-1)[..., None].expand_as(corners)
    q0, q1, q2 = corners.gather(1, order).unbind(1)
    n0, n1, n2 = (torch.linalg.cross(a, b, dim=-1) for a, b in ((q1, q2), (q0, q2), (q0, q1)))
    determinant = (q0 * n0).sum(-1)
    terms = q1.roll(-1, -1) * q2.roll(-2, -1), q1.roll(-2, -1) * q2.roll(-1, -1)
    magnitude = (q0.abs() * (terms[0].abs() + terms[1].abs())).sum(-1)
    solid = determinant.abs() > _ROUNDING * magnitude
    sign = determinant.sign()[:, None]
    inverse_depth = (n0 - n1 + n2) / torch.where(solid, determinant, 1.0)[:, None]
    planes = torch.stack([sign * n0, -sign * n1, sign * n2, inverse_depth], 1)
    return torch.where(solid[:, None, None], planes, 0.0)


def _centres(pixel: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Homogeneous pixel centres. [P, 3]"""
    x, y = pixel % width, torch.div(pixel, width, rounding_mode="floor")
    return torch.stack([x + 0.5, y + 0.5, torch.ones_like(x)], -1).to(dtype)


def _edge_functions(corners: Tensor, centres: Tensor) -> Tensor:
    """(u, v, 1) . (q_j x q_k) for the three edges (Olano and Greer, 1997). [P, 3]"""
    normals = torch.linalg.cross(corners.roll(-1, 1), corners.roll(-2, 1), dim=-1)
    return (normals * centres[:, None]).sum(-1)
