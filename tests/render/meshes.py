"""Small meshes and cameras that the tests of footprints share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geodistill.cameras import Camera, Similarity, look_at


def sphere(rings: int = 24, segments: int = 48, radius: float = 1.0) -> tuple[Tensor, Tensor]:
    """Vertices on a sphere about the origin, its two poles single points, wound outwards."""
    theta = torch.arange(1, rings, dtype=torch.float64)[:, None] * (math.pi / rings)
    phi = torch.arange(segments) * (2 * math.pi / segments)
    parts = theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos().expand(-1, segments)
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    vertices = torch.cat([torch.stack(parts, -1).reshape(-1, 3), poles])
    i, j = torch.meshgrid(torch.arange(rings - 2), torch.arange(segments), indexing="ij")
    a, b = i * segments + j, i * segments + (j + 1) % segments
    middle = torch.stack([a, b + segments, b, a, a + segments, b + segments], -1).reshape(-1, 3)
    j = torch.arange(segments)
    top, bottom, last = len(vertices) - 2, len(vertices) - 1, (rings - 2) * segments
    north = torch.stack([torch.full_like(j, top), j, (j + 1) % segments], -1)
    south = torch.stack([torch.full_like(j, bottom), last + (j + 1) % segments, last + j], -1)
    return radius * vertices, torch.cat([middle, north, south])


def soup(count: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Faces that share no vertices, about the origin."""
    draw = torch.Generator().manual_seed(seed)
    corners = torch.randn(count, 1, 3, generator=draw, dtype=torch.float64) * 0.6
    corners = corners + torch.randn(count, 3, 3, generator=draw, dtype=torch.float64) * 0.3
    return corners.reshape(-1, 3), torch.arange(3 * count).view(count, 3)


def camera(
    eye: tuple[float, float, float] = (0.5, -3.0, 0.8), size: tuple[int, int] = (37, 52)
) -> Camera:
    """Looks at the origin, with z of the world up in the picture."""
    pose = look_at(torch.tensor(eye, dtype=torch.float64), (0.0, 0.0, 0.0))
    return Camera.from_fov(math.radians(50), size, pose)


def motion(seed: int = 3, distance: float = 5.0) -> Similarity:
    """A rotation and a translation."""
    draw = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=draw, dtype=torch.float64))
    shift = torch.randn(3, generator=draw, dtype=torch.float64) * distance
    return Similarity(q * torch.linalg.det(q), shift)
