"""Plenoxels from any field: sampled densities and harmonics by ridge regression."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geodistill.convert.cache import TeacherCache
from geodistill.convert.latents import RAW_MAX
from geodistill.geometry.fields import Field
from geodistill.geometry.fields.activations import spherical_harmonics
from geodistill.geometry.fields.plenoxels import DENSITY_UNIT, Plenoxels
from geodistill.geometry.grids import nodes_near

DIRECTIONS = 12
RIDGE = 5e-3
SIGMA_MAX = math.exp(RAW_MAX)
NODES_PER_CHUNK = 1 << 14


@torch.no_grad()
def fill_voxels(student: Plenoxels, teacher: Field, cache: TeacherCache) -> None:
    """Allocate the nodes near seen cells and fill them.

    Density is the teacher's at the node. Colour harmonics are the ridge solution over
    Fibonacci-spread directions, k = (B^T B + e I)^-1 B^T (c - 1/2).
    """
    nodes = nodes_near(cache.occupancy, student.config.resolution)
    index = nodes.nonzero()
    directions = fibonacci_sphere(DIRECTIONS)
    basis = spherical_harmonics(directions, student.config.sh_degree)
    ridge = RIDGE * torch.eye(basis.shape[1])
    solve = torch.linalg.solve(basis.t() @ basis + ridge, basis.t())
    values = torch.empty(len(index), 1 + 3 * basis.shape[1])
    for rows in torch.arange(len(index)).split(NODES_PER_CHUNK):
        latent = teacher.latent(student.node_positions(index[rows]))
        values[rows, 0] = teacher.sigma_of(latent).clamp(max=SIGMA_MAX) / DENSITY_UNIT
        repeated = latent.repeat_interleave(DIRECTIONS, dim=0)
        rgb = teacher.rgb_of(repeated, directions.repeat(len(rows), 1))
        colors = rgb.reshape(len(rows), DIRECTIONS, 3) - 0.5
        values[rows, 1:] = torch.einsum("kd,ndc->nck", solve, colors).flatten(1)
    student.allocate(nodes, values)


def fibonacci_sphere(count: int) -> Tensor:
    """Evenly spread unit vectors. [count, 3]"""
    index = torch.arange(count) + 0.5
    z = 1.0 - 2.0 * index / count
    angle = index * math.pi * (3.0 - math.sqrt(5.0))
    r = torch.sqrt(1.0 - z * z)
    return torch.stack([r * torch.cos(angle), r * torch.sin(angle), z], dim=1)
