"""Meshes made by formulas, and features for them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from geodistill.geometry.mesh import Mesh


def grid(rows: int, columns: int, size: tuple[float, float] = (1.0, 1.0)) -> Mesh:
    """A flat rectangle in the xy plane."""
    x, y = torch.meshgrid(
        torch.linspace(0, size[0], rows, dtype=torch.float64),
        torch.linspace(0, size[1], columns, dtype=torch.float64),
        indexing="ij",
    )
    vertices = torch.stack([x.flatten(), y.flatten(), torch.zeros(rows * columns)], 1)
    return Mesh(vertices, lattice_faces(rows, columns))


def lattice_faces(rows: int, columns: int) -> Tensor:
    index = torch.arange(rows * columns).view(rows, columns)
    a, b = index[:-1, :-1].flatten(), index[1:, :-1].flatten()
    c, d = index[1:, 1:].flatten(), index[:-1, 1:].flatten()
    return torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])


def box(size: tuple[float, float, float], center: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    corners = torch.tensor([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
    vertices = corners.double() * torch.tensor(size).double() / 2 + torch.tensor(center).double()
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = [face for a, b, c, d in quads for face in ([a, b, c], [a, c, d])]
    return Mesh(vertices, torch.tensor(faces))


def joined(*parts: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = [part.faces + int(start) for part, start in zip(parts, starts, strict=False)]
    return Mesh(torch.cat([part.vertices for part in parts]), torch.cat(faces))


def revolved(radius: Tensor, height: Tensor, around: int = 96) -> Mesh:
    """A profile turned about z, with a seam: its last column is its first, bit by bit."""
    angle = torch.linspace(0, 2 * math.pi, around + 1, dtype=torch.float64)
    angle[-1] = 0
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    flat = torch.where(radius > 1e-12, radius, 0.0).double()[:, None, None] * ring
    vertices = torch.cat([flat, height.double()[:, None, None].expand(-1, around + 1, 1)], 2)
    return Mesh(vertices.view(-1, 3), lattice_faces(len(radius), around + 1).flip(1))


def sphere(rings: int = 40) -> Mesh:
    angle = torch.linspace(0, math.pi, rings, dtype=torch.float64)
    return revolved(angle.sin(), -angle.cos(), 2 * rings)


def vase() -> Mesh:
    height = torch.linspace(0, 2, 40, dtype=torch.float64)
    return revolved(0.5 + 0.3 * torch.sin(2.2 * height + 0.3), height)


def table() -> Mesh:
    legs = [box((0.1, 0.1, 0.8), (x, y, -0.4)) for x in (-0.8, 0.8) for y in (-0.45, 0.45)]
    return joined(box((2.0, 1.2, 0.1), (0, 0, 0.05)), *legs)


def airplane() -> Mesh:
    body = sphere(24)
    body = Mesh(body.vertices * torch.tensor([0.16, 0.16, 1.0]).double(), body.faces)
    parts = [body]
    for side in (-1, 1):
        parts.append(box((1.0, 0.04, 0.3), (side * 0.6, 0, 0.1)))
        parts.append(box((0.4, 0.03, 0.15), (side * 0.25, 0.05, -0.85)))
    return joined(*parts, box((0.03, 0.4, 0.2), (0, 0.28, -0.85)))


def star(folds: int) -> Mesh:
    """A thick star with `folds` points, the same above and below: folds + 1 mirror planes."""
    angle = torch.arange(2 * folds, dtype=torch.float64) * math.pi / folds
    radius = torch.where(torch.arange(2 * folds) % 2 == 0, 1.0, 0.45).double()
    rim = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    count = 2 * folds
    z = torch.full((count, 1), 0.15, dtype=torch.float64)
    vertices = torch.cat([torch.cat([rim, z], 1), torch.cat([rim, -z], 1)])
    tips = torch.tensor([[0, 0, 0.15], [0, 0, -0.15]], dtype=torch.float64)
    faces = []
    for i in range(count):
        j = (i + 1) % count
        faces += [[i, j, 2 * count], [j + count, i + count, 2 * count + 1]]
        faces += [[i, i + count, j + count], [i, j + count, j]]
    return Mesh(torch.cat([vertices, tips]), torch.tensor(faces))


def blob(seed: int, rings: int = 32) -> Mesh:
    """A sphere with random low waves: no symmetry. It has about 4 rings^2 faces."""
    mesh = sphere(rings)
    generator = torch.Generator().manual_seed(seed)
    waves = 2.5 * torch.randn(5, 3, generator=generator, dtype=torch.float64)
    phase = 6 * torch.rand(5, generator=generator, dtype=torch.float64)
    bumps = torch.sin(mesh.vertices @ waves.T + phase).sum(1, keepdim=True)
    return Mesh(mesh.vertices * (1 + 0.13 * bumps), mesh.faces)


def moved(mesh: Mesh, seed: int, shift: float = 1.0) -> tuple[Mesh, Tensor, Tensor]:
    """A mesh under a random rotation R and translation t, and these."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    R = q * torch.linalg.det(q)
    t = shift * torch.randn(3, generator=generator, dtype=torch.float64)
    return Mesh(mesh.vertices @ R.T + t, mesh.faces), R, t


def waves(points: Tensor, channels: int = 16, seed: int = 0, scale: float = 1.5) -> Tensor:
    """Smooth random features [V, D] of points [V, 3]."""
    generator = torch.Generator().manual_seed(seed)
    frequency = scale * torch.randn(points.shape[1], channels, generator=generator).double()
    phase = 6 * torch.rand(channels, generator=generator).double()
    return torch.sin(points @ frequency + phase).float()
