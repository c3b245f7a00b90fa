"""What the shape of a surface says about each of its points: spectral and local descriptors.

Heat and wave kernel signatures of the Laplacian, local thickness, distance from the centre, and
how far smoothing moves the surface and tilts its planes. All are blind to rigid motions, to scale
and to the order of vertices and corners; points that a symmetry of the shape swaps get the same.
(Height above a ground is left out: a rotation changes it.)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from geodistill.geometry.mesh import Mesh
from geodistill.geometry.surface_graph import (
    Floats,
    Surface,
    clustered,
    face_normals,
    laplacian,
    welded_surface,
)

CHANNELS = 64
PROXY_POINTS = 12_000
"""Larger surfaces are clustered to about that many points: the eigenproblem grows faster."""
EIGENPAIRS = 80
HEAT_TIMES, WAVE_ENERGIES, SMOOTHINGS = 16, 16, 3
NOISE = 0.05
"""Standard deviation below which a descriptor counts as constant: they are ratios or logarithms."""
COMMON = 0.5
"""A constant channel beside descriptors of unit variance a group: on a sphere, where nothing tells
points apart, all are alike rather than noise."""
_DENSE = 300  # points up to which a dense eigensolver is used
_LARGEST_BALL = 1.0  # a sphere of unit area has radius 0.28


class Spectrum(NamedTuple):
    """Lowest eigenpairs of the Laplacian of a surface of unit area.

    Attributes:
        values: [K], rising, the first is zero.
        functions: [n, K], orthonormal under `areas`.
        areas: [n], sum to 1.
    """

    values: Floats
    functions: Floats
    areas: Floats


def shape_descriptors(mesh: Mesh, channels: int = CHANNELS) -> Tensor:
    """Unit descriptors of the vertices, float32 [V, C], C <= `channels`.

    Each kind of descriptor is z-scored and weighs the same; then principal components.

    Raises:
        ShapeError, InputError: not a mesh, NaN, faces that point nowhere, or no area at all.
    """
    surface = welded_surface(mesh)
    proxy, back = surface, None
    if len(surface.points) > PROXY_POINTS:
        proxy, back = clustered(surface, PROXY_POINTS)
    spectrum = eigenpairs(*laplacian(proxy))
    tensors = normal_tensors(proxy)
    groups = (
        heat_signature(spectrum),
        wave_signature(spectrum),
        _radius(proxy, spectrum),
        _smoothed(thickness(proxy, tensors), spectrum)[0],  # since balls jump between touches
        _displacement(proxy, spectrum),
        _tilt(tensors, spectrum),
    )
    found = _components(_standardised(groups, spectrum.areas), spectrum.areas, channels - 1)
    found = np.concatenate([found, np.full((len(found), 1), COMMON)], axis=1)
    if back is not None:
        found = back @ found
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return torch.from_numpy(found[surface.of_vertex]).float()


def eigenpairs(operator: Any, areas: Floats, count: int = EIGENPAIRS) -> Spectrum:
    """The lowest pairs of L f = lambda A f, by shift-invert Lanczos (scipy's eigsh).

    Equal eigenvalues, which symmetric shapes have, must all be kept or all be left, because only
    together do they mean something: the list ends at the widest gap in its last quarter.
    """
    from scipy import sparse
    from scipy.sparse import linalg

    n = len(areas)
    root = sparse.diags(areas**-0.5)
    symmetric = (root @ operator @ root).tocsc()
    if n <= max(_DENSE, 2 * count):
        values, functions = np.linalg.eigh(symmetric.toarray())
        values, functions = values[: count + 1], functions[:, : count + 1]
    else:
        shift = 1e-2  # far below the first eigenvalue of a unit area, far above rounding
        lifted = (symmetric + shift * sparse.identity(n)).tocsc()
        # Symmetric mode fills in ten times less than the default ordering.
        factor = linalg.splu(
            lifted, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
        inverse = linalg.LinearOperator((n, n), factor.solve)
        start = np.random.default_rng(0).normal(size=n)
        values, functions = linalg.eigsh(
            symmetric, count + 1, sigma=-shift, OPinv=inverse, v0=start
        )
        order = np.argsort(values)
        values, functions = values[order], functions[:, order]
    values = np.maximum(values, 0.0)
    if len(values) > count:
        start = 3 * count // 4
        kept = start + int(np.argmax(np.diff(values[start - 1 :]) / values[start:]))
        values, functions = values[:kept], functions[:, :kept]
    return Spectrum(values, areas[:, None] ** -0.5 * functions, areas)


def heat_signature(spectrum: Spectrum) -> Floats:
    """log of k_t(x, x) over its mean, [n, 16]; Sun, Ovsjanikov & Guibas 2009, eq. 3 and section 4.1

    The times reach from what the last eigenvalue can tell to what the first can.
    """
    values = spectrum.values
    low, high = 4.0 * math.log(10.0) / values[-1], 4.0 * math.log(10.0) / values[1]
    decay = np.exp(-np.outer(values, np.geomspace(low, high, HEAT_TIMES)))
    return np.log(np.maximum(spectrum.functions**2 @ (decay / decay.sum(axis=0)), 1e-6))


def wave_signature(spectrum: Spectrum) -> Floats:
    """log of the wave kernel signature, [n, 16]; Aubry, Schlickewei & Cremers 2011, eq. 7."""
    energies = np.log(spectrum.values[1:])
    width = max(float(energies[-1] - energies[0]) * 7.0 / 100.0, 1e-3)
    # Not up to the last energy, behind which half of the band would be missing.
    steps = np.linspace(energies[0], energies[-1] - 2.0 * width, WAVE_ENERGIES)
    filters = np.exp(-((energies[:, None] - steps) ** 2) / (2.0 * width**2)) + 1e-12
    return np.log(
        np.maximum(spectrum.functions[:, 1:] ** 2 @ (filters / filters.sum(axis=0)), 1e-3)
    )


def thickness(surface: Surface, tensors: Floats) -> Floats:
    """log radii of the largest balls that touch the surface on either side, [n, 2], smaller first.

    Shrinking balls (Ma, Bae & Choi 2012): shape diameter without rays. No side is called the
    inside, so the orientation of faces does not matter.
    """
    from scipy.spatial import KDTree

    points = surface.points
    normals = np.linalg.eigh(tensors)[1][..., -1]
    tree = KDTree(points)
    sides = np.stack([_balls(points, sign * normals, tree) for sign in (1.0, -1.0)], axis=1)
    return np.log(np.sort(sides, axis=1) + 1e-2)


def _balls(points: Floats, normals: Floats, tree: Any) -> Floats:
    """Radius of the ball at each point on the side of its normal that has no other point inside."""
    radii = np.full(len(points), _LARGEST_BALL)
    active = np.arange(len(points))
    flattest = math.sin(math.radians(20.0))  # below, the ball touches its own piece of surface
    for _ in range(40):
        centers = points[active] + radii[active, None] * normals[active]
        distance, nearest = tree.query(centers)
        offset = points[nearest] - points[active]
        length = np.linalg.norm(offset, axis=1)
        sine = np.einsum("ij,ij->i", offset, normals[active]) / np.maximum(length, 1e-12)
        goes_on = (distance < radii[active] * (1.0 - 1e-6)) & (sine > flattest)
        active, length, sine = active[goes_on], length[goes_on], sine[goes_on]
        if not len(active):
            break
        radii[active] = length / (2.0 * sine)
    return radii


def normal_tensors(surface: Surface) -> Floats:
    """Mean of n n^T over the faces around each point, by area, [n, 3, 3]; no orientation needed."""
    normals = face_normals(surface.points, surface.faces)
    length = np.linalg.norm(normals, axis=1)
    outer = np.einsum("fi,fj->fij", normals, normals) / np.maximum(length, 1e-30)[:, None, None]
    corners, n = surface.faces.reshape(-1), len(surface.points)
    flat = np.repeat(outer.reshape(-1, 9), 3, axis=0)
    total = np.stack([np.bincount(corners, column, n) for column in flat.T], axis=1)
    weight = np.maximum(np.bincount(corners, np.repeat(length, 3), n), 1e-30)
    return (total / weight[:, None]).reshape(n, 3, 3)


def _radius(surface: Surface, spectrum: Spectrum) -> Floats:
    """Distance from the centre, in root mean squares. [n, 1]"""
    squares = (surface.points**2).sum(axis=1)
    return np.sqrt(squares / (spectrum.areas @ squares))[:, None]


def _smoothed(values: Floats, spectrum: Spectrum) -> list[Floats]:
    """Values [n, k] after heat has flowed for a few times, short to long."""
    low, high = 4.0 / spectrum.values[-1], 4.0 / spectrum.values[1]
    coefficients = spectrum.functions.T @ (spectrum.areas[:, None] * values)
    times = np.geomspace(low, high, SMOOTHINGS + 1)[:-1]
    return [
        spectrum.functions @ (np.exp(-spectrum.values * t)[:, None] * coefficients) for t in times
    ]


def _displacement(surface: Surface, spectrum: Spectrum) -> Floats:
    """log of how far smoothing moves a point: mean curvature in growing neighbourhoods. [n, 3]"""
    moved = [x - surface.points for x in _smoothed(surface.points, spectrum)]
    return np.log(np.stack([np.linalg.norm(m, axis=1) for m in moved], axis=1) + 1e-2)


def _tilt(tensors: Floats, spectrum: Spectrum) -> Floats:
    """The two larger eigenvalues of smoothed normal tensors: flat, ridge or corner. [n, 6]"""
    flat = _smoothed(tensors.reshape(-1, 9), spectrum)
    values = [np.linalg.eigvalsh(t.reshape(-1, 3, 3))[:, 1:] for t in flat]
    return np.concatenate(values, axis=1, dtype=np.float64)


def _standardised(groups: tuple[Floats, ...], areas: Floats) -> Floats:
    """z-scores under the area, a group of descriptors together having unit variance. [n, D]"""
    scored = []
    for group in groups:
        centered = group - areas @ group
        deviation = np.sqrt(areas @ centered**2 + NOISE**2)
        scored.append(centered / deviation / math.sqrt(group.shape[1]))
    return np.concatenate(scored, axis=1)


def _components(values: Floats, areas: Floats, count: int) -> Floats:
    """Coordinates along the principal directions with variance, largest entry positive. [n, K]"""
    variance, directions = np.linalg.eigh((values * areas[:, None]).T @ values)
    kept = np.flatnonzero(variance > 1e-6 * variance[-1])[::-1][:count]
    directions = directions[:, kept]
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(len(kept))]
    return values @ (directions * np.sign(largest))
