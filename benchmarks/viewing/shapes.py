"""A made shape of any number of faces with smooth features, and edits of it."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodistill.deform.session import Handle, Session
from geodistill.geometry.mesh import Mesh, diagonal, mesh_digest
from geodistill.lift.files import FeatureSet
from geodistill.viewer.editor import Editor

SMALL, LARGE = 10_000, 1_000_000
CHANNELS = 64


@cache
def blob(faces: int) -> Mesh:
    """A sphere with random low waves, not convex, of at least so many faces."""
    mesh = sphere(math.ceil(math.sqrt(faces / 8)))
    generator = torch.Generator().manual_seed(2)
    ways = 2.5 * torch.randn(5, 3, generator=generator, dtype=torch.float64)
    phase = 6 * torch.rand(5, generator=generator, dtype=torch.float64)
    bumps = torch.sin(mesh.vertices @ ways.T + phase).sum(1, keepdim=True)
    return Mesh(mesh.vertices * (1 + 0.13 * bumps), mesh.faces)


def sphere(side: int) -> Mesh:
    """An octahedron of 8 side² faces on the unit sphere: 4 side² + 2 vertices."""
    i, j = (index.ravel() for index in np.meshgrid(*[np.arange(side + 1)] * 2, indexing="ij"))
    i, j = i[i + j <= side], j[i + j <= side]
    number = np.full((side + 2, side + 2), -1)
    number[i, j] = np.arange(len(i))
    a, b, c = number[i, j], number[i + 1, j], number[i, j + 1]
    d = number[i + 1, j + 1]
    up, down = (b >= 0) & (c >= 0), d >= 0
    own = np.concatenate(
        [np.stack([a, b, c], 1)[up], np.stack([b, d, c], 1)[down & (b >= 0) & (c >= 0)]]
    )
    corners, faces = [], []
    for signs in np.stack(np.meshgrid(*[[1, -1]] * 3), -1).reshape(-1, 3):
        faces.append((own if signs.prod() > 0 else own[:, ::-1]) + len(i) * len(corners))
        corners.append(np.stack([i, j, side - i - j], 1) * signs)
    points, index = np.unique(np.concatenate(corners), axis=0, return_inverse=True)
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    return Mesh(
        torch.from_numpy(directions), torch.from_numpy(index.ravel()[np.concatenate(faces)])
    )


def features_of(mesh: Mesh) -> FeatureSet:
    """Random waves of where the vertices are."""
    generator = torch.Generator().manual_seed(0)
    frequency = 1.5 * torch.randn(3, CHANNELS, generator=generator).double()
    phase = 6 * torch.rand(CHANNELS, generator=generator).double()
    waves = torch.sin(mesh.vertices @ frequency + phase).float()
    seen = torch.ones(len(waves), dtype=torch.bool)
    return FeatureSet(waves, seen, "mesh", mesh_digest(mesh), "waves", "feed")


def editor_of(mesh: Mesh) -> Editor:
    """An editor whose features are there."""
    editor = Editor(mesh, Session())
    editor.bring(features_of(mesh))
    return editor


def session(mesh: Mesh, handles: int) -> Session:
    """An edit of handles all over the mesh: each is moved, turned and scaled."""
    generator = torch.Generator().manual_seed(handles)

    def between(low: float, high: float) -> tuple[float, float, float]:
        x, y, z = (low + (high - low) * torch.rand(3, generator=generator)).tolist()
        return x, y, z

    size = diagonal(mesh)
    made = []
    for vertex in spread(mesh.vertices, handles):
        moves: dict[str, Any] = {
            "translate": between(-0.1 * size, 0.1 * size),
            "rotate": between(-60, 60),
            "scale": between(0.7, 1.4),
        }
        made.append(Handle(vertex=vertex, **moves))
    return Session(handles=tuple(made))


def spread(points: Tensor, count: int) -> list[int]:
    """Points that are far from one another."""
    chosen = [0]
    nearest = (points - points[0]).norm(dim=1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).norm(dim=1))
    return chosen
