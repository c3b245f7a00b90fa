"""Any triangle mesh as one connected surface of bounded size, with its Laplacian.

The surface has unit area and its centre at the origin. Arrays are float64 and int64 numpy, because
what follows is scipy's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError
from geodistill.geometry.mesh import Mesh

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOLLIFY = 1e-5
"""Slack of every triangle inequality, in mean edge lengths."""
_TIED = 1.0 + 1e-6  # distances that differ by less are equal, as mirrored ones are
_SMALL_PART = 200


@dataclass(frozen=True, eq=False)
class Surface:
    """Welded vertices that faces use; `of_vertex` leads back to the mesh.

    points     [n, 3]
    faces      [F, 3], without those that lost a corner
    of_vertex  [V], the point of each vertex of the mesh
    """

    points: Floats
    faces: Ints
    of_vertex: Ints


def welded_surface(mesh: Mesh) -> Surface:
    """The surface of a mesh: vertices at one place are one, centre and size are taken out.

    A vertex that no face uses is led to the nearest one that is used.

    Raises:
        InputError: the mesh has no area.
    """
    from scipy.spatial import KDTree

    vertices, faces = mesh.vertices.cpu().numpy(), mesh.faces.cpu().numpy()
    # Sizes near the limits of the number format would overflow when squared.
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    vertices = (vertices - (0.5 * low + 0.5 * high)) / max(float((high - low).max()), 1e-300)
    places, of_vertex = np.unique(vertices + 0.0, axis=0, return_inverse=True)
    faces = _without_collapsed(of_vertex.reshape(-1)[faces])
    area = face_areas(places, faces)
    total = float(area.sum())
    if not total > 1e-15:
        raise InputError("the mesh has no surface: all of its faces have zero area")
    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    points = places[used]
    center = (area[:, None] * points[faces].mean(axis=1)).sum(axis=0) / total
    nearest = np.asarray(KDTree(points).query(places)[1])
    return Surface((points - center) / np.sqrt(total), faces, nearest[of_vertex.reshape(-1)])


def clustered(surface: Surface, target: int) -> tuple[Surface, Any]:
    """A surface of about `target` points, and the sparse matrix [n, n'] that takes values back.

    Points in one cell of a grid become their mean. The grid lies along the principal axes and is
    symmetric about the centre, so rotations and mirrors of a shape are clustered alike. A point
    takes its values from its own cluster and from those next to it on the surface, by distance.
    """
    from scipy import sparse

    area = vertex_areas(surface.points, surface.faces)
    covariance = (surface.points * area[:, None]).T @ surface.points
    aligned = surface.points @ np.linalg.eigh(covariance)[1]
    size = np.sqrt(2.0 / target)
    cluster, count = np.zeros(0, np.int64), 0
    for _ in range(4):
        _, cluster = np.unique(np.rint(aligned / size), axis=0, return_inverse=True)
        cluster = cluster.reshape(-1)
        count = int(cluster.max()) + 1
        if 0.8 * target < count <= target:
            break
        size *= np.sqrt(count / (0.9 * target))
    weight = area + 1e-12
    mass = np.bincount(cluster, weight, count)
    points = np.stack(
        [np.bincount(cluster, weight * axis, count) / mass for axis in surface.points.T], axis=1
    )
    faces = _without_collapsed(cluster[surface.faces])
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    faces = faces[first]
    ends = np.concatenate([cluster[surface.faces[:, [a, b]]] for a, b in _EDGES])
    around = sparse.identity(count, format="csr") + _pairs(ends, np.ones(len(ends)), count)
    own = sparse.csr_matrix((np.ones(len(cluster)), (np.arange(len(cluster)), cluster)))
    back = (own @ around).tocoo()
    distance = np.linalg.norm(surface.points[back.row] - points[back.col], axis=1)
    closeness = 1.0 / (distance**2 + (0.1 * size) ** 2)
    back = sparse.csr_matrix((closeness, (back.row, back.col)), shape=back.shape)
    back = sparse.diags(1.0 / np.asarray(back.sum(axis=1)).reshape(-1)) @ back
    return Surface(points, faces, cluster[surface.of_vertex]), back


_EDGES = ((0, 1), (1, 2), (2, 0))


def laplacian(surface: Surface) -> tuple[Any, Floats]:
    """The robust cotangent Laplacian, sparse [n, n], and the area of each point, [n].

    Positive semi-definite, rows sum to zero. Edge lengths are mollified (Sharp & Crane 2020,
    section 4.5), so slivers and collapsed faces have finite cotangents. Obtuse triangles keep
    their negative weights: cutting them off would keep a maximum principle, which no eigenpair
    needs, and falsify distances wherever triangles are stretched. Separate parts are tied to one
    another where they are nearest.
    """
    from scipy import sparse

    points, faces = surface.points, surface.faces
    count = len(points)
    sides = np.stack(
        [np.linalg.norm(points[faces[:, b]] - points[faces[:, a]], axis=1) for a, b in _EDGES],
        axis=1,
    )  # of corners 0-1, 1-2, 2-0
    longest, perimeter = sides.max(axis=1), sides.sum(axis=1)
    slack = MOLLIFY * sides.mean() + 2.0 * longest - perimeter  # negative for a proper triangle
    sides = sides + max(0.0, float(slack.max()))
    half = 0.5 * sides.sum(axis=1)
    area = np.sqrt(np.maximum(half * np.prod(half[:, None] - sides, axis=1), 0.0))
    squares = sides**2
    cotangent = (squares.sum(axis=1, keepdims=True) - 2.0 * squares) / (4.0 * area[:, None])
    ends = np.concatenate([faces[:, [a, b]] for a, b in _EDGES])
    weights = _pairs(ends, 0.5 * cotangent.T.reshape(-1), count)
    usual = float(np.median(weights.data[weights.data > 0]))
    ties = tie_parts(points, weights)
    weights = weights + _pairs(ties, np.full(len(ties), usual), count)
    areas = np.bincount(faces.reshape(-1), np.repeat(area / 3.0, 3), count)
    areas = np.maximum(areas, 1e-3 * areas.mean())
    degree = sparse.diags(np.asarray(weights.sum(axis=1)).reshape(-1))
    return (degree - weights).tocsc(), areas / areas.sum()


def tie_parts(points: Floats, edges: Any) -> Ints:
    """Pairs of points that make a graph connected, [k, 2].

    Each part but the largest is tied to what is nearest to it, until one part is left (Boruvka);
    equally near pairs are tied together, so that a symmetric shape stays symmetric.
    """
    from scipy import sparse
    from scipy.spatial import KDTree

    found: list[Ints] = [np.zeros((0, 2), np.int64)]
    tree = KDTree(points)
    while True:
        parts, label = sparse.csgraph.connected_components(edges, directed=False)
        if parts == 1:
            return np.concatenate(found)
        order = np.argsort(label, kind="stable")
        members = np.split(order, np.cumsum(np.bincount(label))[:-1])
        largest = max(len(part) for part in members)
        biggest = [i for i, part in enumerate(members) if len(part) == largest]
        spared = biggest[0] if len(biggest) == 1 else -1
        new = np.concatenate(
            [
                _nearest_outside(points, tree, label, part)
                for i, part in enumerate(members)
                if i != spared
            ]
        )
        found.append(new)
        edges = edges + _pairs(new, np.ones(len(new)), len(points))


def _nearest_outside(points: Floats, tree: Any, label: Ints, part: Ints) -> Ints:
    """The pairs (inside, outside) of least distance between a part and all others."""
    from scipy.spatial import KDTree

    if len(part) <= _SMALL_PART:
        wanted = min(len(part) + 8, len(points))
        distance, other = tree.query(points[part], k=wanted)
        distance = np.where(label[other] == label[part[0]], np.inf, distance)
    else:
        outside = (label != label[part[0]]).nonzero()[0]
        distance, other = KDTree(points[outside]).query(points[part], k=min(4, len(outside)))
        distance, other = distance.reshape(len(part), -1), outside[other].reshape(len(part), -1)
    row, column = (distance <= distance.min() * _TIED + 1e-12).nonzero()
    return np.stack([part[row], other[row, column]], axis=1)


def vertex_areas(points: Floats, faces: Ints) -> Floats:
    """A third of the area of each face goes to each of its corners. [n]"""
    share = np.repeat(face_areas(points, faces) / 3.0, 3)
    return np.bincount(faces.reshape(-1), share, len(points)).astype(np.float64)


def face_areas(points: Floats, faces: Ints) -> Floats:
    return 0.5 * np.linalg.norm(face_normals(points, faces), axis=1)


def face_normals(points: Floats, faces: Ints) -> Floats:
    """Normals as long as twice the area. [F, 3]"""
    a, b, c = (points[faces[:, i]] for i in range(3))
    return np.cross(b - a, c - a)


def _without_collapsed(faces: Ints) -> Ints:
    a, b, c = faces.reshape(-1, 3).T
    return faces.reshape(-1, 3)[(a != b) & (b != c) & (c != a)]


def _pairs(ends: Ints, values: Floats, count: int) -> Any:
    """The symmetric sparse matrix of undirected edges; repeated ones add up."""
    from scipy import sparse

    rows, columns = np.concatenate([ends, ends[:, ::-1]]).T
    return sparse.csr_matrix((np.tile(values, 2), (rows, columns)), shape=(count, count))
