"""Points on the surface of a mesh, as faces with barycentric weights; and coarser surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.checks import InputError, UsageError, check, check_finite
from geodistill.geometry.mesh import Mesh, corners, triangle_areas
from geodistill.io.extras import require

_BRANCHES = 4
_POINTS_AT_ONCE = 32768
_PAIRS_AT_ONCE = 1 << 21
_TINY = 1e-300


def surface_points(mesh: Mesh, face: Tensor, weights: Tensor) -> Tensor:
    """Positions, float64 [N, 3], of points given by face [N] and barycentric weights [N, 3]."""
    check(face=(face, "N"), weights=(weights, "N 3"))
    return (mesh.vertices[mesh.faces[face]] * weights.to(mesh.vertices)[..., None]).sum(dim=1)


def sample_surface(mesh: Mesh, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points spread evenly over the area (Osada et al. 2002, eq. 1).

    Args:
        mesh: the mesh.
        n: how many.
        seed: the same one gives the same points.

    Returns:
        Faces int64 [n], and barycentric weights float64 [n, 3].

    Raises:
        InputError: no face has an area.
    """
    total = triangle_areas(mesh).cpu().cumsum(dim=0)
    if not total[-1] > 0:
        raise InputError("no face of the mesh has an area: there is nothing to sample")
    generator = torch.Generator().manual_seed(seed)
    where, along, across = torch.rand(3, n, generator=generator, dtype=torch.float64)
    face = torch.searchsorted(total, where * total[-1], right=True).clamp_max(len(total) - 1)
    root = along.sqrt()
    weights = torch.stack([1 - root, root * (1 - across), root * across], dim=1)
    return face.to(mesh.faces.device), weights.to(mesh.vertices.device)


def closest_surface_points(mesh: Mesh, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest point of the surface for each of [N, 3], exactly; among equals the lower face.

    Returns:
        Faces int64 [N], barycentric weights float64 [N, 3], and distances float64 [N].

    Raises:
        ShapeError: points of another shape.
        InputError: points that are not finite.
    """
    check(points=(points, "N 3"))
    check_finite(points=points)
    # Distances are differences, so everything is moved to where they lose least.
    middle = mesh.vertices.mean(dim=0)
    triangles = corners(mesh) - middle
    local = points.to(mesh.vertices) - middle
    tree, bound = _tree(triangles), _near_enough(triangles, local)
    face = torch.zeros(len(points), dtype=torch.int64, device=triangles.device)
    waiting = list(torch.arange(len(points), device=face.device).split(_POINTS_AT_ONCE))
    while waiting:
        chunk = waiting.pop()
        found = _nearest_faces(tree, triangles, local[chunk], bound[chunk])
        if found is None:  # too many candidates at once
            waiting += chunk.tensor_split(2)
        else:
            face[chunk] = found
    weights, squared = _on_triangles(local, triangles[face])
    return face, weights, squared.sqrt()


def decimated(mesh: Mesh, faces: int) -> Mesh:
    """About `faces` faces by quadric edge collapse; geometry alone, without UVs and colours.

    Equal positions are joined before, so that texture seams do not tear.

    Raises:
        UsageError: fewer than 4 faces wanted.
        InputError: nothing is left of the mesh, or the package fast-simplification is missing.
    """
    if faces < 4:
        raise UsageError(f"a decimated mesh needs at least 4 faces, got {faces}")
    simplify = require("fast_simplification", "mesh", "decimating a mesh").simplify
    joined = _joined(mesh)
    if len(joined.faces) <= faces:
        return joined
    middle = joined.vertices.mean(dim=0)
    vertices, triangles = simplify(
        (joined.vertices - middle).cpu().numpy(), joined.faces.cpu().numpy(), target_count=faces
    )
    if not len(triangles):
        raise InputError(f"nothing is left of the mesh at {faces} faces: ask for more")
    return Mesh(
        torch.from_numpy(vertices).to(mesh.vertices) + middle,
        torch.from_numpy(triangles).to(mesh.faces),
    )


def _joined(mesh: Mesh) -> Mesh:
    """Positions used by faces, each once, and the faces with three distinct ones."""
    used, index = torch.unique(mesh.vertices[mesh.faces.reshape(-1)], dim=0, return_inverse=True)
    faces = index.reshape(-1, 3)
    a, b, c = faces.unbind(dim=1)
    faces = faces[(a != b) & (b != c) & (c != a)]
    if not len(faces):
        raise InputError("no face of the mesh has an area: it cannot be decimated")
    return Mesh(used, faces)


@dataclass(frozen=True)
class _Tree:
    """Boxes of the faces in the order of a space-filling curve, then of four boxes each, …"""

    order: Tensor  # int64 [F]
    levels: list[tuple[Tensor, Tensor]]  # low and high corners [n, 3], the faces first


def _tree(triangles: Tensor) -> _Tree:
    order = _curve(triangles.mean(dim=1)).argsort(stable=True)
    low, high = triangles.amin(dim=1)[order], triangles.amax(dim=1)[order]
    levels = [(low, high)]
    while len(low) > 1:
        missing = -len(low) % _BRANCHES
        low = torch.cat([low, low[-1:].expand(missing, 3)]).reshape(-1, _BRANCHES, 3).amin(dim=1)
        high = torch.cat([high, high[-1:].expand(missing, 3)]).reshape(-1, _BRANCHES, 3).amax(dim=1)
        levels.append((low, high))
    return _Tree(order, levels)


def _curve(points: Tensor) -> Tensor:
    """Morton codes of 21 bits an axis, int64 [N]."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    scale = (2**21 - 1) / (high - low).amax().clamp_min(_TINY)
    cells = ((points - low) * scale).long()
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        cells = (cells | (cells << shift)) & mask
    return cells[:, 0] | (cells[:, 1] << 1) | (cells[:, 2] << 2)


def _near_enough(triangles: Tensor, points: Tensor) -> Tensor:
    """Squared distances [N] to the faces with the nearest middles: the nearest are no farther."""
    from scipy.spatial import KDTree

    middles = triangles.mean(dim=1).cpu().numpy()
    guess = KDTree(middles, compact_nodes=False, balanced_tree=False).query(
        points.cpu().numpy(), workers=-1
    )[1]
    return _on_triangles(points, triangles[torch.as_tensor(guess, device=points.device)])[1]


def _nearest_faces(tree: _Tree, triangles: Tensor, points: Tensor, bound: Tensor) -> Tensor | None:
    """int64 [N], or None where several points have too many candidates for one go.

    No face that is farther than the squared distances `bound` [N] is looked for.
    """
    low, high = tree.levels[-1]
    rounding = (1e-14 * (high - low).norm()).square()  # must not prune the box of the nearest face
    best = bound.clone()
    point = torch.arange(len(points), device=points.device)
    node = torch.zeros_like(point)
    for level, (low, high) in reversed([*enumerate(tree.levels)]):
        near, far = _box_distances(points[point], low[node], high[node])
        best = best.scatter_reduce(0, point, far, "amin")
        kept = near <= best[point] * (1 + 1e-9) + rounding
        point, node = point[kept], node[kept]
        if len(point) * _BRANCHES > _PAIRS_AT_ONCE and len(points) > 1:
            return None
        if level:
            children = torch.arange(_BRANCHES, device=node.device)
            point = point.repeat_interleave(_BRANCHES)
            node = (node[:, None] * _BRANCHES + children).reshape(-1)
            exists = node < len(tree.levels[level - 1][0])
            point, node = point[exists], node[exists]
    face = tree.order[node]
    _, squared = _on_triangles(points[point], triangles[face])
    least = best.fill_(torch.inf).scatter_reduce(0, point, squared, "amin")
    nearest = squared <= least[point]
    result = torch.full_like(best, len(triangles), dtype=torch.int64)
    return result.scatter_reduce(0, point[nearest], face[nearest], "amin")


def _box_distances(points: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances to the nearest and to the farthest point of boxes, [N] each.

    Some point of what a box holds is at least as near as its farthest one.
    """
    outside = torch.maximum(low - points, points - high).clamp_min(0)
    across = torch.maximum(points - low, high - points)
    return _squared_length(outside), _squared_length(across)


def _squared_length(vectors: Tensor) -> Tensor:
    """[N] of [N, 3]; several times as fast as a sum over so short a dimension."""
    x, y, z = vectors.square().unbind(dim=1)
    return x + y + z


def _on_triangles(points: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest point of triangle [N, 3, 3] k to point k: its weights [N, 3], squared distance.

    The nearest of the three edges' points, unless the point's projection falls inside; this holds
    for triangles without area too.
    """
    a, b, c = triangles.unbind(dim=1)
    ab, ac, ap = b - a, c - a, points - a
    normal = torch.linalg.cross(ab, ac)
    area = normal.square().sum(dim=1)
    safe = area.clamp_min(_TINY)
    second = (torch.linalg.cross(ap, ac) * normal).sum(dim=1) / safe
    third = (torch.linalg.cross(ab, ap) * normal).sum(dim=1) / safe
    weights = torch.stack([1 - second - third, second, third], dim=1)
    inside = (weights >= 0).all(dim=1) & (area > 0)
    squared = torch.where(inside, (ap * normal).sum(dim=1).square() / safe, torch.inf)
    for first, last in ((0, 1), (1, 2), (2, 0)):
        start, end = triangles[:, first], triangles[:, last]
        along = end - start
        length = along.square().sum(dim=1).clamp_min(_TINY)
        share = (((points - start) * along).sum(dim=1) / length).clamp(0, 1)
        distance = (start + share[:, None] * along - points).square().sum(dim=1)
        nearer = distance < squared
        on_edge = torch.zeros_like(weights)
        on_edge[:, first], on_edge[:, last] = 1 - share, share
        weights = torch.where(nearer[:, None], on_edge, weights)
        squared = torch.where(nearer, distance, squared)
    return weights, squared
