"""Small meshes of known areas, normals and topology."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from geodistill.geometry.mesh import Material, Mesh


def mesh(vertices: object, faces: object) -> Mesh:
    return Mesh(torch.tensor(vertices, dtype=torch.float64), torch.tensor(faces))


def box(a: float = 1.0, b: float = 2.0, c: float = 3.0) -> Mesh:
    """A closed box of sides a, b, c with a corner at the origin, faces outwards."""
    vertices = [(a * x, b * y, c * z) for x, y, z in itertools.product((0, 1), repeat=3)]
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return mesh(vertices, [t for p, q, r, s in quads for t in ((p, q, r), (p, r, s))])


def sphere(level: int = 4) -> Mesh:
    """A unit sphere: an octahedron of which every triangle is cut into four, level times."""
    points = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    vertices = torch.tensor(points, dtype=torch.float64)
    faces = torch.tensor(
        [[x, y, z] if (x + y + z) % 2 == 0 else [x, z, y] for x in (0, 1) for y in (2, 3)
         for z in (4, 5)]
    )  # fmt: skip
    for _ in range(level):
        a, b, c = vertices[faces].unbind(dim=1)
        corners = torch.stack([a, b, c, a + b, b + c, c + a], dim=1)
        corners = corners / corners.norm(dim=-1, keepdim=True)
        cut = torch.tensor([[0, 3, 5], [3, 1, 4], [5, 4, 2], [3, 4, 5]])
        vertices, faces = corners[:, cut].reshape(-1, 3).unique(dim=0, return_inverse=True)
        faces = faces.reshape(-1, 3)
    return Mesh(vertices, faces)


def tube(around: int = 24, high: int = 5) -> Mesh:
    """An open cylinder along z whose texture has a seam: the first and last column coincide."""
    angle = 2 * torch.pi * torch.arange(around + 1, dtype=torch.float64) / around
    angle[-1] = 0
    z = torch.linspace(0, 1, high, dtype=torch.float64)
    angles, heights = torch.meshgrid(angle, z, indexing="ij")
    vertices = torch.stack([angles.cos(), angles.sin(), heights], dim=-1).reshape(-1, 3)
    u, v = torch.meshgrid(
        torch.linspace(0, 1, around + 1), torch.linspace(0, 1, high), indexing="ij"
    )
    index = torch.arange((around + 1) * high).reshape(around + 1, high)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = torch.stack([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)], dim=2)
    return Mesh(vertices, faces.reshape(-1, 3), uv=torch.stack([u, v], -1).reshape(-1, 2).float())


def picture(seed: int, height: int = 3, width: int = 5, opaque: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    result = torch.randint(0, 256, (height, width, 4), generator=generator, dtype=torch.uint8)
    if opaque:
        result[..., 3] = 255
    return result


def everything(offset: float = 0.0) -> Mesh:
    """Two solids apart, with all a mesh can have, a face without area and an idle vertex.

    Materials alternate from face to face, one of them being none.
    """
    generator = torch.Generator().manual_seed(3)
    ball, cube = sphere(1), box()
    faces = torch.cat([ball.faces, cube.faces + len(ball.vertices), torch.tensor([[0, 1, 1]])])
    vertices = torch.cat([ball.vertices, cube.vertices + 3, torch.tensor([[9.0, 9, 9]])]) + offset
    count = len(vertices)
    return Mesh(
        vertices,
        faces,
        uv=torch.rand(count, 2, generator=generator) * 3 - 1,
        colors=torch.randint(0, 256, (count, 4), generator=generator, dtype=torch.uint8),
        materials=(
            Material("painted", (1.0, 1.0, 1.0, 1.0), picture(0)),
            Material("plain red", (0.8, 0.25, 0.1, 0.5)),
            Material("other", (1.0, 1.0, 1.0, 1.0), picture(1, 4, 2, opaque=False)),
        ),
        face_material=torch.arange(len(faces)) % 4 - 1,
    )
