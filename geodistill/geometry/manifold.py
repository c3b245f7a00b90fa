"""Meshes whose every edge has two faces, and how others become so."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geodistill.geometry.mesh import Mesh, area_weighted_normals, welded

APART = 1e-3
"""How far surfaces that touched are moved inwards, in the mean length of their edges."""


def open_edges(mesh: Mesh) -> int:
    """How many edges between distinct positions have another number of faces than one on each side:
    zero for a watertight mesh."""
    faces = _numbered(mesh)
    count = int(faces.max()) + 1
    edge, way = _edges(faces, count)
    distinct, index = np.unique(edge, return_inverse=True)
    there = np.bincount(index[way], minlength=len(distinct))
    back = np.bincount(index[~way], minlength=len(distinct))
    return int(((there != 1) | (back != 1)).sum())


def separated(mesh: Mesh) -> Mesh:
    """The same surface with at most one face on each side of every edge; vertices and faces alone.

    Two faces back to back cancel. Where more than two meet at an edge, those on either side of a
    solid wedge belong together, and vertices are doubled until each surface has its own; the
    surfaces that touched are moved apart a little, inwards. Edges with one face stay.

    The faces of the mesh have to look outwards.
    """
    faces = _without_folds(_numbered(mesh))
    if not len(faces):
        return mesh
    first = _first_of(welded(mesh))
    positions = mesh.vertices.detach().cpu().numpy()[first]
    partner = _partners(faces, positions)
    vertex, origin = _fans(faces, partner)
    moved = np.bincount(origin, minlength=len(positions))[origin] > 1
    vertices, vertex = _with_middles(positions[origin], vertex, partner)
    moved = np.concatenate([moved, np.ones(len(vertices) - len(moved), bool)])
    result = Mesh(torch.from_numpy(vertices), torch.from_numpy(vertex))
    if moved.any():
        result = Mesh(_moved_in(result, torch.from_numpy(moved)), result.faces)
    return result


def _numbered(mesh: Mesh) -> np.ndarray:
    """Faces between distinct positions, int64 [F, 3], without those that use one twice."""
    faces = welded(mesh)[mesh.faces].cpu().numpy()
    a, b, c = faces.T
    return faces[(a != b) & (b != c) & (c != a)]


def _first_of(weld: Tensor) -> np.ndarray:
    """The first vertex of each distinct position."""
    number = weld.cpu().numpy()
    first = np.empty(int(number.max()) + 1, np.int64)
    first[number[::-1]] = np.arange(len(number))[::-1]
    return first


def _edges(faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the half-edges 3 f + k from corner k to the next: the number of the undirected edge, and
    whether it runs from the lower vertex to the higher. int64 [3 F], bool [3 F]"""
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    return np.minimum(start, end) * count + np.maximum(start, end), start < end


def _without_folds(faces: np.ndarray) -> np.ndarray:
    """Without pairs of faces with the same corners that look to opposite sides."""
    low = faces.argmin(axis=1)
    turned = np.take_along_axis(faces, (low[:, None] + np.arange(3)) % 3, axis=1)
    key = np.concatenate([turned[:, :1], np.sort(turned[:, 1:], axis=1)], axis=1)
    _, index = np.unique(key, axis=0, return_inverse=True)
    index = index.ravel()
    sign = np.where(turned[:, 1] < turned[:, 2], 1, -1)
    left = np.zeros(int(index.max(initial=-1)) + 1, np.int64)
    np.add.at(left, index, sign)
    # Of those that a side has too many of, the last ones stay.
    order = np.lexsort((np.arange(len(faces)), sign, index))
    group = index[order] * 2 + (sign[order] > 0)
    rank = np.arange(len(order)) - np.searchsorted(group, group)
    kept = np.zeros(len(faces), bool)
    kept[order] = rank < np.maximum(left[index[order]] * sign[order], 0)
    return faces[kept]


def _partners(faces: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """For each half-edge the one on the other side of its edge, -1 where there is none. [3 F]"""
    edge, way = _edges(faces, len(positions))
    partner = np.full(len(edge), -1)
    order = np.argsort(edge, kind="stable")
    starts = np.flatnonzero(np.diff(edge[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    pairs = starts[sizes == 2]
    a, b = order[pairs], order[pairs + 1]
    fits = way[a] != way[b]
    partner[a[fits]], partner[b[fits]] = b[fits], a[fits]
    for start, size in zip(starts[sizes > 2], sizes[sizes > 2], strict=True):
        for one, other in _wedges(order[start : start + size], faces, way, positions):
            partner[one], partner[other] = other, one
    return partner


def _wedges(
    halves: np.ndarray, faces: np.ndarray, way: np.ndarray, positions: np.ndarray
) -> list[tuple[int, int]]:
    """The pairs of an edge's half-edges with solid between them.

    Counter-clockwise about the edge, the solid begins behind a face that runs against it and ends
    at one that runs along it.
    """
    face, corner = halves // 3, halves % 3
    start = faces[face[0], corner[0]]
    end = faces[face[0], (corner[0] + 1) % 3]
    low, high = min(start, end), max(start, end)
    axis = positions[high] - positions[low]
    axis = axis / max(float(np.linalg.norm(axis)), 1e-300)
    across = positions[faces[face, (corner + 2) % 3]] - positions[low]
    across = across - (across @ axis)[:, None] * axis
    x = across[0] / max(float(np.linalg.norm(across[0])), 1e-300)
    angle = np.arctan2(across @ np.cross(axis, x), across @ x)
    turn = halves[np.argsort(angle, kind="stable")]
    pairs, waiting = [], []
    for half in np.concatenate([turn, turn]):  # round twice: a wedge may hold the first angle
        if any(half in pair for pair in pairs) or half in waiting:
            continue
        if not way[half]:
            waiting.append(half)
        elif waiting:
            pairs.append((waiting.pop(), half))
    return pairs


def _fans(faces: np.ndarray, partner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One vertex for all corners that hang together around a position.

    Returns faces [F, 3] of new vertices, and the position of each of these.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    half = np.flatnonzero(partner >= 0)
    following = half - half % 3 + (half + 1) % 3
    other = partner[half]
    other_following = other - other % 3 + (other + 1) % 3
    ends = np.stack([np.concatenate([half, following]), np.concatenate([other_following, other])])
    size = faces.size
    graph = coo_matrix((np.ones(ends.shape[1], bool), ends), (size, size))
    total, label = connected_components(graph, directed=False)
    origin = np.empty(total, np.int64)
    origin[label] = faces.reshape(-1)
    order = np.argsort(origin, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(total)
    return rank[label].reshape(-1, 3), origin[order]


def _with_middles(
    vertices: np.ndarray, faces: np.ndarray, partner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces with a vertex in the middle of all but one of the edges that have the same
    ends: surfaces that come round to themselves still meet there."""
    while True:
        edge, _ = _edges(faces, len(vertices))
        half = np.flatnonzero(partner > np.arange(len(partner)))
        order = half[np.argsort(edge[half], kind="stable")]
        doubled = order[1:][np.diff(edge[order]) == 0]
        chosen = _apart(doubled, partner)
        if not len(chosen):
            return vertices, faces
        vertices, faces, partner = _cut(vertices, faces, partner, chosen)


def _apart(halves: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """Some of the half-edges, no two of which have a face or a neighbour of their faces in common,
    so that they can be cut at once."""
    taken: set[int] = set()
    chosen = []
    for half in halves.tolist():
        own = {half // 3, int(partner[half]) // 3}
        around = {int(partner[3 * face + k]) // 3 for face in own for k in range(3)} | own
        if len(own) == 2 and not around & taken:
            taken |= around
            chosen.append(half)
    return np.array(chosen, np.int64)


def _cut(
    vertices: np.ndarray, faces: np.ndarray, partner: np.ndarray, halves: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut edges in the middle, with the faces on both sides; no face has two of them."""
    middle = len(vertices) + np.arange(len(halves))
    ends = np.stack([faces[halves // 3, halves % 3], faces[halves // 3, (halves + 1) % 3]])
    vertices = np.concatenate([vertices, vertices[ends].mean(axis=0)])
    faces, partner = faces.copy(), partner.copy()
    added = len(faces) + np.arange(2 * len(halves)).reshape(2, -1)
    both = np.stack([halves, partner[halves]])
    new = np.empty((2 * len(halves), 3), np.int64)
    partner = np.concatenate([partner, np.full(3 * new.shape[0], -1)])
    for side, own in enumerate(both):
        face, b, c = own // 3, (own + 1) % 3, (own + 2) % 3
        # (a, b, c) becomes (a, m, c) where it was, and (m, b, c).
        new[added[side] - len(faces)] = np.stack([middle, faces[face, b], faces[face, c]], axis=1)
        outer = partner[3 * face + b]
        partner[3 * added[side] + 1] = outer
        partner[outer[outer >= 0]] = (3 * added[side] + 1)[outer >= 0]
        partner[3 * face + b], partner[3 * added[side] + 2] = 3 * added[side] + 2, 3 * face + b
        faces[face, b] = middle
    # Half a-m of one side runs beside m-a of the other side, which is its added face's.
    for side in (0, 1):
        own, other = both[side], 3 * added[1 - side]
        partner[own], partner[other] = other, own
    return vertices, np.concatenate([faces, new]), partner


def _moved_in(mesh: Mesh, chosen: Tensor) -> Tensor:
    """Vertices with those chosen, bool [V], moved against their normals."""
    ends = mesh.vertices[mesh.faces]
    length = (ends - ends.roll(1, dims=1)).norm(dim=-1).mean(dim=1, keepdim=True).expand(-1, 3)
    flat = mesh.faces.reshape(-1)
    total = torch.zeros(len(mesh.vertices)).double().index_add(0, flat, length.reshape(-1))
    mean = total / torch.bincount(flat, minlength=len(total)).clamp_min(1)
    away = APART * mean[:, None] * area_weighted_normals(mesh.vertices, mesh.faces)
    return torch.where(chosen[:, None], mesh.vertices - away, mesh.vertices)
