"""Poses: how vertices move when handles do. `pose` is what a shader on a GPU must reproduce.

Weights are [V, K] with sums of at most 1; what is missing to 1 stays where it is. All are
displacements from the rest positions, so that nothing moves where nothing is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.checks import check
from geodistill.deform.transforms import Transforms, matrices

_BLOCK = 1 << 16  # vertices at a time: what is in between then stays in the caches


def pose(vertices: Tensor, weights: Tensor, transforms: Transforms) -> Tensor:
    """Positions [V, 3] in the vertices' dtype, with rotations blended as rotations.

    With w_k the weights of a vertex x, and handle k's pivot c_k, rotation vector r_k, stretch S_k
    and translation t_k:

        c = sum_k w_k |r_k| c_k / sum_k w_k |r_k|                       (0 where the divisor is 0)
        r = sum_k w_k r_k,   a = |r|
        y = x + sum_k w_k (S_k - 1)(x - c_k)
        z = cross(r, y - c)
        x' = y + sin(a)/a z + (1 - cos(a))/a² cross(r, z) + sum_k w_k t_k

    Where no handle turns it is the linear blend. One handle at weight w turns by w times its angle
    about its own pivot, beyond half a turn too, and nothing collapses on the way, which the
    linear blend does (Kavan et al., Skinning with dual quaternions, 2007, describe the artefact;
    dual quaternions would turn about a screw axis instead of the pivot, the shorter way round).
    When all handles make one rigid motion and their weights add to 1, so do the vertices,
    whatever the pivots.

    Sums and products are float32 about the center of the bounding box; rows without weight are
    returned bit by bit.
    """
    return pose_bound(bind(vertices, weights), transforms)


@dataclass(frozen=True, eq=False)
class Binding:
    """What poses of one mesh under one set of weights share: only the rows that can move."""

    vertices: Tensor  # [V, 3] at rest
    origin: Tensor  # [3]
    rows: Tensor | None  # int64 [N] the vertices with any weight; None: all
    positions: Tensor  # float32 [3, N] their rest positions less the origin
    weights: Tensor  # float32 [K, N]


def bind(vertices: Tensor, weights: Tensor) -> Binding:
    """Prepare for many poses of vertices [V, 3] with weights [V, K]."""
    check(vertices=(vertices, "V 3"), weights=(weights, "V K"))
    origin = (vertices.amax(0) + vertices.amin(0)) / 2
    moving = (weights != 0).any(1)
    rows = None if bool(moving.all()) else moving.nonzero()[:, 0]
    source, w = (vertices, weights) if rows is None else (vertices[rows], weights[rows])
    positions = (source - origin).float().T.contiguous()
    return Binding(vertices, origin, rows, positions, w.float().T.contiguous())


def pose_bound(binding: Binding, transforms: Transforms) -> Tensor:
    """`pose` of what was bound. [V, 3]"""
    check(weights=(binding.weights, "K _"), pivot=(transforms.pivot, "K _"))
    table = _table(transforms, binding.origin)
    turned, stretched = bool((table[:, :7] != 0).any()), bool((table[:, 10:] != 0).any())
    count = binding.positions.shape[1]
    step = binding.vertices.new_empty(count, 3)
    for start in range(0, count, _BLOCK):
        part = slice(start, start + _BLOCK)
        x, w = binding.positions[:, part], binding.weights[:, part]
        step[part] = _displacement(x, w, table, turned, stretched).T
    if binding.rows is None:
        return step.add_(binding.vertices)
    return binding.vertices.index_add(0, binding.rows, step)


def pose_normals(normals: Tensor, weights: Tensor, transforms: Transforms) -> Tensor:
    """Unit normals [V, 3] turned with their vertices.

    n' = normalise(exp(r) B^-T n) with r as in `pose` and B = 1 + sum_k w_k (S_k - 1). It leaves
    out how the weights vary over the surface, as shaders do; `area_weighted_normals` of the posed
    vertices is exact.
    """
    check(normals=(normals, "V 3"), weights=(weights, "V K"))
    w = weights.double()
    one = torch.eye(3, dtype=torch.float64)
    stretch = one + torch.einsum("vk,kij->vij", w, transforms.stretch - one)
    # The cofactor matrix is the inverse transpose times the determinant: it needs no inverse.
    a, b, c = stretch.unbind(2)
    cofactors = torch.stack(
        [torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], 2
    )
    n = torch.einsum("vij,vj->vi", cofactors, normals.double())
    r = w @ transforms.rotation
    n = n + _turn(n.T, r.T).T
    return torch.nn.functional.normalize(n, dim=1, eps=1e-300).to(normals)


def linear_pose(vertices: Tensor, weights: Tensor, transforms: Transforms) -> Tensor:
    """x' = x + sum_k w_k (D_k x - x): linear blend skinning as a displacement. [V, 3]"""
    check(vertices=(vertices, "V 3"), weights=(weights, "V K"))
    maps = matrices(transforms)
    maps[:, :, :3] -= torch.eye(3, dtype=torch.float64)
    blended = (weights.double() @ maps.flatten(1)).view(-1, 3, 4)
    x = vertices.double()
    step = (blended[..., :3] @ x[..., None])[..., 0] + blended[..., 3]
    return vertices + step.to(vertices)


def published_pose(vertices: Tensor, weights: Tensor, transforms: Transforms) -> Tensor:
    """V'_i = (max(1 - sum_k W_ik, 0) 1 + sum_k W_ik D_k) V_i, as the paper states it. [V, 3]

    Where weights add to more than 1 it is not normalised, and depends on the origin.
    """
    check(vertices=(vertices, "V 3"), weights=(weights, "V K"))
    w = weights.double()
    blended = (w @ matrices(transforms).flatten(1)).view(-1, 3, 4)
    x = vertices.double()
    moved = (blended[..., :3] @ x[..., None])[..., 0] + blended[..., 3]
    return ((1 - w.sum(1, keepdim=True)).clamp_min(0) * x + moved).to(vertices)


def _table(transforms: Transforms, origin: Tensor) -> Tensor:
    """What the weights sum up, float32 [K, 22]: |r| c, |r|, r, t and S - 1 with its offset."""
    pivot = transforms.pivot - origin.double()
    angle = transforms.rotation.norm(dim=1, keepdim=True)
    more = transforms.stretch - torch.eye(3, dtype=torch.float64)
    offset = -(more @ pivot[..., None])[..., 0]
    columns = [angle * pivot, angle, transforms.rotation, transforms.translation]
    return torch.cat([*columns, more.flatten(1), offset], 1).float()


def _displacement(x: Tensor, w: Tensor, table: Tensor, turned: bool, stretched: bool) -> Tensor:
    """How far positions x [3, n] move by weights w [K, n]. [3, n]"""
    sums = table[:, : 22 if stretched else 10].T @ w
    step = sums[7:10]
    if stretched:
        more = sums[10:19].view(3, 3, -1)
        y = sums[19:22].addcmul_(more[:, 0], x[0]).addcmul_(more[:, 1], x[1])
        y = y.addcmul_(more[:, 2], x[2])
        step, x = step + y, x + y
    if turned:
        # Where nothing turns the pivot is 0/0; it must be finite, and does not count.
        center = sums[:3] / sums[3].clamp_min(1e-30)
        step = step + _turn(x - center, sums[4:7])
    return step


def _turn(y: Tensor, r: Tensor) -> Tensor:
    """exp([r]x) y - y for [3, n], by Rodrigues' formula in half angles: nothing cancels."""
    square = (r * r).sum(0)
    half = square.sqrt() * 0.5
    sinc = torch.where(half > 1e-4, half.sin() / half, 1 - half * half / 6)
    once = _cross(r, y)
    return sinc * (half.cos() * once + (0.5 * sinc) * _cross(r, once))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    c = torch.empty_like(b)
    torch.mul(a[1], b[2], out=c[0]).addcmul_(a[2], b[1], value=-1)
    torch.mul(a[2], b[0], out=c[1]).addcmul_(a[0], b[2], value=-1)
    torch.mul(a[0], b[1], out=c[2]).addcmul_(a[1], b[0], value=-1)
    return c
