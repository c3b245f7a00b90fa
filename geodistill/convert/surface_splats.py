"""Splats on the surface of other geometries, without training: flat Gaussians that touch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import InputError
from geodistill.convert.cache import TeacherCache
from geodistill.geometry.contraction import expand, stretch
from geodistill.geometry.fields import Field
from geodistill.geometry.fields.activations import SH_C0
from geodistill.geometry.harmonics import sh_basis
from geodistill.geometry.mesh import Mesh, face_normals, triangle_areas
from geodistill.geometry.points import Points, nearest_spacing
from geodistill.geometry.splats import Splats, transformed
from geodistill.geometry.surface import sample_surface, surface_points
from geodistill.render.fields import field_normals
from geodistill.shade.color import srgb_from_linear
from geodistill.shade.view import GREY, base_color

WIDE, THIN = 0.6, 0.2
"""Standard deviations along and across the surface, in the spacing of the splats."""
OPACITY_LOGIT = 2.0
RIDGE = 1.0
"""What holds harmonics beyond the mean colour back, in rays."""


def splats_on_field(field: Field, cache: TeacherCache, spacing: float, degree: int) -> Splats:
    """Splats where the rays of a survey are absorbed to half, in the user's world.

    One for each cell of a grid of `spacing` (in half sides of the field's cube) that holds such
    points, at their mean; its normal is that of the density, its harmonics are a ridge regression
    of what its rays saw.

    Raises InputError where the field absorbs half of hardly any ray.
    """
    u, d, color = _half_ways(cache)
    if len(u) < 100:
        raise InputError("the field is thin everywhere: there is no surface to put splats on")
    cell = torch.floor((u + 1) / spacing).long()
    index = cell.unique(dim=0, return_inverse=True)[1]
    count = int(index.max()) + 1
    rays = torch.bincount(index, minlength=count).float()
    means = torch.zeros(count, 3).index_add(0, index, u) / rays[:, None]
    basis = sh_basis(d, degree)
    size = basis.shape[1]
    gram = torch.zeros(count, size, size).index_add(0, index, basis[:, :, None] * basis[:, None])
    right = torch.zeros(count, size, 3).index_add(
        0, index, basis[:, :, None] * (color - 0.5)[:, None]
    )
    ridge = torch.full((size,), RIDGE)
    ridge[0] = 1e-3
    sh = torch.linalg.solve(gram + torch.diag(ridge), right)
    normals = field_normals(field, means) @ field.frame.R.to(means)  # of the cube, not the world
    spread = spacing * stretch(means, field.contraction)
    placed = expand(means, field.contraction)
    return transformed(flat_splats(placed, normals, spread, sh), field.frame)


def splats_on_mesh(mesh: Mesh, count: int, seed: int) -> Splats:
    """Splats at points spread over the area, in the colours of the mesh without light.

    Raises InputError for a mesh without area.
    """
    face, weights = sample_surface(mesh, count, seed)
    color, _ = base_color(mesh, face, weights.float())
    # A disc about each point that covers its share of the area twice over.
    spacing = (2 * triangle_areas(mesh).sum() / count).sqrt().float()
    sh = ((srgb_from_linear(color) - 0.5) / SH_C0)[:, None]
    positions = surface_points(mesh, face, weights).float()
    return flat_splats(positions, face_normals(mesh)[face].float(), spacing.expand(count), sh)


def splats_on_points(points: Points) -> Splats:
    """One splat for each point; balls where the cloud has no normals."""
    count = len(points)
    spacing = torch.full((count,), nearest_spacing(points))
    shade = torch.full((count, 3), GREY)
    if points.colors is not None:
        shade = points.colors[:, :3].float() / 255
    sh = ((shade - 0.5) / SH_C0)[:, None]
    means = points.positions.float()
    if points.normals is not None:
        return flat_splats(means, points.normals, spacing, sh)
    balls = flat_splats(means, torch.tensor([0.0, 0, 1]).expand(count, 3), spacing, sh)
    return Splats(
        balls.means,
        balls.rotations,
        balls.log_scales[:, :1].expand(count, 3).contiguous(),
        balls.opacity_logits,
        balls.sh,
    )


def flat_splats(means: Tensor, normals: Tensor, spacing: Tensor, sh: Tensor) -> Splats:
    """Discs across unit normals [N, 3] (any direction where they are zero), as wide as their
    spacing [N] asks for."""
    shape = torch.tensor([WIDE, WIDE, THIN])
    return Splats(
        means,
        _from_z(normals),
        (spacing[:, None] * shape).log(),
        torch.full((len(means),), OPACITY_LOGIT),
        sh,
    )


def _from_z(normals: Tensor) -> Tensor:
    """Quaternions (w, x, y, z) [N, 4] that turn z to unit vectors [N, 3]."""
    x, y, z = normals.unbind(1)
    half = torch.stack([1 + z, -y, x, torch.zeros_like(z)], 1)
    down = torch.tensor([0.0, 1, 0, 0]).to(normals)
    return F.normalize(torch.where(half.norm(dim=1, keepdim=True) > 1e-3, half, down), dim=1)


def _half_ways(cache: TeacherCache) -> tuple[Tensor, Tensor, Tensor]:
    """Of the rays that are absorbed to half: the point where, the direction, the colour. [R, 3]"""
    offsets, weights = cache.samples.offsets, cache.weights
    total = weights.double().cumsum(0)
    before = F.pad(total, (1, 0))[offsets[:-1]]
    wanted = before + 0.5 * cache.opacity.double()
    at = torch.searchsorted(total, wanted)
    at = torch.minimum(torch.maximum(at, offsets[:-1]), offsets[1:] - 1)
    solid = cache.opacity > 0.5
    at = at[solid]
    color = cache.color[solid] / cache.opacity[solid, None]
    return cache.samples.u[at], cache.samples.d[at], color
