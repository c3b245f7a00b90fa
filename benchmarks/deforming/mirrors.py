"""Mirror planes found under random rotations: all of symmetric shapes, none of the others."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
import trimesh
from rows import Row
from torch import Tensor

from deforming.meshes import directions_of, mesh_of
from geodistill.cameras import rotations
from geodistill.deform.features import prepare
from geodistill.deform.surface import surface_of
from geodistill.deform.symmetry import SAMPLES, find_symmetries, surface_samples
from geodistill.geometry.mesh import Mesh

TURNS = 5
X, Y, Z = np.eye(3)


def rows() -> list[Row]:
    found, total, false = 0, 0, 0
    for mesh, features, normals in _shapes().values():
        for turn in range(TURNS):
            planes, axis = _planes(mesh, features, turn)
            right = sum(any(abs(plane @ n) > 0.998 for plane in planes) for n in normals)
            found, total = found + right, total + len(normals)
            false += len(planes) - right + axis
    symmetric = [name for name, (_, _, normals) in _shapes().items() if len(normals)]
    others = [name for name, (_, _, normals) in _shapes().items() if not len(normals)]
    return [
        Row(
            f"mirror planes of {', '.join(symmetric)}, {TURNS} turns each",
            f"{found} of {total}",
            "all",
            found == total,
        ),
        Row(f"planes that are none, also of {', '.join(others)}", str(false), "0", false == 0),
    ]


def _shapes() -> dict[str, tuple[Mesh, Tensor, list[np.ndarray]]]:
    """Shapes with features and the normals of all their mirror planes."""
    made: dict[str, tuple[Mesh, Tensor, list[np.ndarray]]] = {
        "duck": (mesh_of("duck"), directions_of("duck"), [X]),
        "dragon": (mesh_of("dragon"), directions_of("dragon"), []),
    }
    plain = {
        "box": (trimesh.creation.box((1, 2, 3)), [X, Y, Z]),
        "pentagonal cone": (trimesh.creation.cone(1, 2, sections=5), _fan(5)),
        "hexagonal prism": (trimesh.creation.cylinder(1, 3, sections=6), [Z, *_fan(6)]),
        "square frame": (_frame(), [X, Y, Z, (X + Y) / math.sqrt(2), (X - Y) / math.sqrt(2)]),
        "skewed box": (_skewed(), []),
    }
    for name, (shape, normals) in plain.items():
        mesh = Mesh(
            torch.tensor(np.asarray(shape.vertices), dtype=torch.float64),
            torch.tensor(np.asarray(shape.faces), dtype=torch.int64),
        )
        made[name] = (mesh, torch.ones(len(mesh.vertices), 2), normals)
    return made


def _fan(folds: int) -> list[np.ndarray]:
    """Planes through the axis of a regular prism or pyramid with a corner at angle 0."""
    angles = [math.pi * (k / folds + 0.5) for k in range(folds)]
    return [np.array([math.cos(a), math.sin(a), 0.0]) for a in angles]


def _frame() -> trimesh.Trimesh:
    bars = [
        trimesh.creation.box((2.0, 0.2, 0.2), np.eye(4)).apply_translation((0, side, 0))
        for side in (-0.9, 0.9)
    ]
    turned = [bar.copy().apply_transform(_quarter()) for bar in bars]
    return trimesh.util.concatenate([*bars, *turned])


def _quarter() -> np.ndarray:
    return trimesh.transformations.rotation_matrix(math.pi / 2, Z)


def _skewed() -> trimesh.Trimesh:
    shape = trimesh.creation.box((1, 2, 3))
    shear = np.eye(4)
    shear[0, 1], shear[1, 2], shear[0, 2] = 0.4, 0.3, 0.25
    return shape.apply_transform(shear)


def _planes(mesh: Mesh, features: Tensor, turn: int) -> tuple[list[np.ndarray], int]:
    """Normals of the planes that are found, turned back, and the number of axes."""
    draw = torch.Generator().manual_seed(turn)
    turned = rotations(torch.randn(3, generator=draw, dtype=torch.float64) * 2)
    surface = surface_of(replace(mesh, vertices=mesh.vertices @ turned.T))
    table = prepare(features, surface, centring=0.0)
    found = find_symmetries(surface_samples(surface, table, SAMPLES, turn))
    return [(plane.normal @ turned).numpy() for plane in found.planes], len(found.axes)
