"""Real meshes with lifted features, and finer and coarser ones made of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from assets import fetch
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.mesh_files import load_mesh
from geodistill.geometry.surface import closest_surface_points, decimated
from geodistill.lift.scenes import MeshScene, cameras_around
from geodistill.teachers import load_teacher
from geodistill.teachers.lifted import lift_features

FILES = {
    "dragon": ("genesis-world", "genesis/assets/meshes/dragon/dragon.obj"),
    "duck": ("genesis-world", "genesis/assets/meshes/duck/duck.obj"),
    "controller": (
        "webxr-input-profiles",
        "package/dist/profiles/htc-vive-cosmos/left.glb",
    ),
}
VIEWS, SIZE_PX = 24, 448


def file_of(name: str) -> Path:
    asset, member = FILES[name]
    return fetch(asset) / member


@cache
def mesh_of(name: str) -> Mesh:
    return load_mesh(file_of(name))


@cache
def directions_of(name: str) -> Tensor:
    """Lifted features of a mesh as unit vectors [V, D]."""
    return lifted(mesh_of(name))


def lifted(mesh: Mesh) -> Tensor:
    scene = MeshScene(mesh)
    cameras = cameras_around(scene, VIEWS, SIZE_PX)
    return lift_features(scene, load_teacher("lite0", mirrored=True), cameras).found.whitened()


def coarser(mesh: Mesh, faces: int) -> Mesh:
    """A decimated mesh that keeps its texture.

    Faces take the chart (the faces that share vertices, which seams part) of the surface nearest to
    their middle, and their corners the UVs of the nearest point of that chart; a corner that faces
    of several charts meet at becomes one vertex for each.
    """
    assert mesh.uv is not None
    used = coo_matrix(
        (np.ones(2 * len(mesh.faces)), mesh.faces[:, [0, 1, 1, 2]].reshape(-1, 2).numpy().T),
        [len(mesh.vertices)] * 2,
    )
    chart = torch.from_numpy(connected_components(used, directed=False)[1])[mesh.faces[:, 0]].long()
    plain = decimated(mesh, faces)
    near, _, _ = closest_surface_points(mesh, plain.vertices[plain.faces].mean(dim=1))
    corner = plain.faces + len(plain.vertices) * chart[near][:, None]
    number, index = corner.unique(return_inverse=True)
    vertices, uv = plain.vertices[number % len(plain.vertices)], torch.zeros(len(number), 2)
    for one in chart[near].unique():
        own = (chart == one).nonzero()[:, 0]
        mine = (number // len(plain.vertices) == one).nonzero()[:, 0]
        part = Mesh(mesh.vertices, mesh.faces[own])
        face, weights, _ = closest_surface_points(part, vertices[mine])
        uv[mine] = (mesh.uv[part.faces[face]] * weights[..., None]).sum(dim=1).float()
    material = None if mesh.face_material is None else mesh.face_material[near]
    return Mesh(vertices, index, uv=uv, materials=mesh.materials, face_material=material)


def finer(mesh: Mesh, columns: Tensor, times: int) -> tuple[Mesh, Tensor]:
    """Every face in four, `times` times over; UVs and columns [V, C] are interpolated."""
    uv = mesh.uv if mesh.uv is not None else torch.zeros(len(mesh.vertices), 2)
    values = np.concatenate([mesh.vertices.numpy(), uv.numpy(), columns.numpy()], 1)
    faces, material = mesh.faces.numpy(), mesh.face_material
    for _ in range(times):
        edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        distinct, index = np.unique(edges, axis=0, return_inverse=True)
        middles = len(values) + index.reshape(-1, 3)
        values = np.concatenate([values, values[distinct].mean(axis=1)])
        (a, b, c), (ab, bc, ca) = faces.T, middles.T
        parts = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        faces = np.stack([np.stack(part, 1) for part in parts], 1).reshape(-1, 3)
        material = None if material is None else material.repeat_interleave(4)
    made = torch.from_numpy(values)
    fine = replace(
        mesh,
        vertices=made[:, :3].double().contiguous(),
        faces=torch.from_numpy(faces),
        uv=None if mesh.uv is None else made[:, 3:5].float().contiguous(),
        colors=None,
        face_material=material,
    )
    return fine, made[:, 5:].float().contiguous()
