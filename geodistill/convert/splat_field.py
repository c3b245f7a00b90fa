"""Gaussian splats as a volume: densities whose line integrals are the splats' opacities."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill import kernels
from geodistill.cameras import Similarity
from geodistill.convert.surface_splats import splats_on_mesh, splats_on_points
from geodistill.convert.voxels import fibonacci_sphere
from geodistill.geometry.fields.base import OCCUPANCY_RESOLUTION, Field, ParamGroup
from geodistill.geometry.fields.decoder import harmonic_color
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.points import Points
from geodistill.geometry.splats import Splats, covariances, rotation_matrices, transformed
from geodistill.shade.viewable import viewable

THICKNESS = 0.35 / 128
"""Least standard deviation in half sides of the cube, enough for a march step not to miss a splat;
with more, things are seen that much wider than they are."""
DIRECTIONS = 32
MARGIN = 1.1
"""Half side of the cube over that of the splats' frame."""
ON_A_MESH = 400_000
"""Splats that cover a mesh: closer than a march step on what fills its cube."""
SINK = 2.5
"""How far these lie below the surface, in `THICKNESS`: a ray that passes outside sees nothing.
Deeper, silhouettes gain less than depths lose."""
MOST_OPAQUE = 0.999
FAINT = 1e-2
"""Density per half side below which a cell counts as empty."""


def volume_of(scene: Splats | Mesh | Points, seed: int = 0) -> Field:
    """What a scene without a volume looks like as one, in a cube a little wider than its own.

    A mesh is covered with flat splats in its colours, points with one each; no picture is made.
    What lies outside of the cube, such as stray splats, is left out.

    Args:
        seed: of the places of the splats on a mesh.
    """
    frame = viewable(scene).frame
    frame = replace(frame, s=MARGIN * float(frame.s))
    if isinstance(scene, Mesh):
        on_it = splats_on_mesh(scene, ON_A_MESH, seed)
        normals = rotation_matrices(on_it.rotations)[:, :, 2]
        sunk = on_it.means - SINK * THICKNESS * float(frame.s) * normals
        return SplatField(replace(on_it, means=sunk), frame)
    return SplatField(scene if isinstance(scene, Splats) else splats_on_points(scene), frame)


class SplatField(Field):
    """sigma(x) = sum of k_i G_i(x); colour is that of the splats there, weighted by k_i G_i.

    With k_i = -ln(1 - o_i) / (sqrt(2 pi) s_i) a ray through the middle of splat i loses the share
    o_i of its light, where s_i is the splat's deviation along the ray; here it is the harmonic mean
    over all directions, which is the mean over what pictures show, since a splat's picture is the
    larger the thinner it is along the ray.

    The latent is [sigma, harmonics of red, of green, of blue].
    """

    def __init__(self, splats: Splats, frame: Similarity, thickness: float = THICKNESS) -> None:
        super().__init__("splats", None)
        self.world_from_field = frame.matrix().double()
        local = transformed(splats, frame.inverse())
        # Of a splat much larger than the cube, single precision would lose the thickness.
        spread = covariances(local, torch.float64) + thickness**2 * torch.eye(3).double()
        depth = -torch.log1p(-torch.sigmoid(local.opacity_logits).clamp(max=MOST_OPAQUE))
        peaks = (depth / (math.sqrt(2 * math.pi) * chord_deviations(spread))).float()
        side = grid_side(spread)
        self.gaussians = kernels.gather_gaussians(local.means, spread, peaks, side)
        self.harmonics = local.sh.transpose(1, 2).flatten(1).contiguous()
        self.occupancy = self._occupied_cells()

    def latent(self, u: Tensor) -> Tensor:
        sums = kernels.gaussian_sums(u, self.gaussians, self.harmonics)
        return torch.cat([sums[:, :1], sums[:, 1:] / sums[:, :1].clamp_min(1e-9)], dim=1)

    def sigma(self, u: Tensor) -> Tensor:
        return kernels.gaussian_sums(u, self.gaussians, self.harmonics[:, :0])[:, 0]

    def sigma_of(self, latent: Tensor) -> Tensor:
        return latent[:, 0]

    def rgb_of(self, latent: Tensor, directions: Tensor) -> Tensor:
        return harmonic_color(latent[:, 1:], directions)

    def param_groups(self) -> list[ParamGroup]:
        return []

    def _unit(self, x: Tensor) -> Tensor:
        return super()._unit(x).float()

    def _occupied_cells(self) -> Tensor:
        """Cells with density in their middle, on their border, or within half a cell of it."""
        size = OCCUPANCY_RESOLUTION
        nodes = torch.cartesian_prod(*[torch.linspace(-1.0, 1.0, 2 * size + 1)] * 3)
        dense = torch.cat([self.sigma(part) > FAINT for part in nodes.split(1 << 20)])
        grid = dense.view(1, 1, *[2 * size + 1] * 3).float()
        return F.max_pool3d(grid, 5, stride=2, padding=1)[0, 0] > 0


def chord_deviations(spread: Tensor) -> Tensor:
    """Harmonic means over all directions n of 1 / sqrt(n^T S^-1 n). [M, 3, 3] -> [M]"""
    n = fibonacci_sphere(DIRECTIONS).to(spread)
    inverse = torch.linalg.inv(spread)
    return 1.0 / torch.einsum("di,mij,dj->md", n, inverse, n).clamp_min(0).sqrt().mean(dim=1)


def grid_side(spread: Tensor) -> int:
    """Cells a side of which a usual Gaussian reaches into a few."""
    usual = float(spread.diagonal(dim1=1, dim2=2).amax(dim=1).sqrt().median())
    return min(128, max(8, round(1.0 / (2.0 * usual))))
