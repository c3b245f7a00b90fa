"""Mirror planes and axes of a shape, by where its surface is and by what it looks like.

A plane is found when the mirrored shape lies on the shape and meets features like its own: the
published e(P) = mean ||z(x) - z(R_P x)|| (Liu, Lang & Hanocka, Deep Feature Deformation Weights,
2026) on area-weighted samples, with the nearest sample in place of a field, for planes of any
orientation, and against the shape's own feature distances in place of a fixed 0.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import InputError, check, check_finite
from geodistill.deform.cloud import Cloud, cloud_of
from geodistill.deform.planes import SAME_RAD, candidates, refined, reflected, same_plane
from geodistill.deform.surface import Surface

SAMPLES = 3000  # of a surface that suffice to find its symmetries
_ANGLES = (0.31, 0.83, 1.37, 2.11, 2.74)  # radians; no common fraction of a turn
_CLOSE = 0.1  # sine of the angle under which a direction lies in a plane or along another
_FEWEST = 100
_MANY = 24  # planes after which no more are looked for


@dataclass(frozen=True)
class SymmetryConfig:
    """What counts as symmetric."""

    tolerance: float = 0.05  # distance that still matches, in root-mean-square radii of the shape
    unmatched: float = 0.03  # share of the area that may have no match
    features: float = 0.5  # e(P), as a share of the median feature distance of the shape


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane, normal · x = offset, and how well the shape mirrors itself in it."""

    normal: Tensor  # float64 [3] unit
    offset: float
    error: float = 0.0  # e(P) over the median feature distance
    unmatched: float = 0.0  # share of the area


@dataclass(frozen=True, eq=False)
class Axis:
    """A line about which any rotation, and any plane through it, maps the shape onto itself."""

    point: Tensor  # float64 [3]
    direction: Tensor  # float64 [3] unit


@dataclass(frozen=True)
class Symmetries:
    """Separate planes, best first, and axes: none, one, or three at right angles for a sphere.

    The planes through an axis are not listed: there is a continuum of them.
    """

    planes: tuple[Plane, ...]
    axes: tuple[Axis, ...]


@dataclass(frozen=True, eq=False)
class Samples:
    """Points on a surface."""

    positions: Tensor  # float64 [S, 3]
    areas: Tensor  # float64 [S] that each stands for
    features: Tensor  # float32 [S, D]
    normals: Tensor | None = None  # float64 [S, 3] unit, of either sign; None: of the samples


def surface_samples(surface: Surface, table: Tensor, count: int, seed: int) -> Samples:
    """Points spread by area over a surface, one in each of `count` equal shares of it.

    table [D, P] holds prepared features. Raw features (a centring of 0) serve best: what all
    parts have in common then weighs in, and noise is not enlarged.
    """
    random = np.random.default_rng(seed)
    corners = surface.positions[surface.faces]
    a, b, c = corners.unbind(1)
    cross = torch.linalg.cross(b - a, c - a)
    filled = (cross.norm(dim=1) / 2).cumsum(0)
    wanted = torch.from_numpy((np.arange(count) + random.random(count)) / count) * filled[-1]
    face = torch.searchsorted(filled, wanted).clamp_max(len(filled) - 1)
    u, v = (torch.from_numpy(random.random(count)) for _ in range(2))
    root = u.sqrt()
    weights = torch.stack([1 - root, root * (1 - v), root * v], 1)
    positions = torch.einsum("sk,skx->sx", weights, corners[face])
    features = torch.einsum("sk,dsk->sd", weights.float(), table[:, surface.faces[face]])
    features = torch.nn.functional.normalize(features, dim=1, eps=1e-30)
    areas = torch.full((count,), float(filled[-1]) / count, dtype=torch.float64)
    normals = torch.nn.functional.normalize(cross[face], dim=1, eps=1e-300)
    return Samples(positions, areas, features, normals)


def find_symmetries(samples: Samples, config: SymmetryConfig | None = None) -> Symmetries:
    """Planes and axes of a shape from samples of its surface; `SAMPLES` suffice.

    Pairs of similar points vote for candidate planes, to which the principal planes are added;
    each is refined by reweighted Gauss-Newton steps, tested, and mirrored in the others. Features
    that are the same everywhere leave the decision to the geometry. The plane that a flat shape
    lies in is none.

    Raises InputError for NaN or fewer than 100 samples.
    """
    config = config or SymmetryConfig()
    check(
        positions=(samples.positions, "S 3"),
        areas=(samples.areas, "S"),
        features=(samples.features, "S D"),
    )
    check_finite(positions=samples.positions, areas=samples.areas, features=samples.features)
    if len(samples.positions) < _FEWEST:
        raise InputError(f"symmetry needs at least {_FEWEST} samples, got {len(samples.positions)}")
    if samples.normals is not None:
        check(positions=(samples.positions, "S 3"), normals=(samples.normals, "S 3"))
        check_finite(normals=samples.normals)
    cloud = cloud_of(
        samples.positions, samples.areas, samples.features, samples.normals, config.tolerance
    )
    found = _planes(cloud, config)
    axes = _axes(cloud, config, found)
    if len(axes) == 1:
        found = [plane for plane in found if abs(plane[0][:3] @ axes[0]) > 1 - _CLOSE]
    elif axes:
        found, axes = [], list(np.eye(3))
    center = torch.from_numpy(cloud.center)
    return Symmetries(
        tuple(_plane(cloud, plane, error, unmatched) for plane, error, unmatched in found),
        tuple(Axis(center, torch.from_numpy(direction)) for direction in axes),
    )


Found = tuple[np.ndarray, float, float]


def _planes(cloud: Cloud, config: SymmetryConfig) -> list[Found]:
    """Accepted planes [4] in the cloud's frame with their errors, best first, each once."""
    found: list[Found] = []
    queue = candidates(cloud)
    while queue:
        fresh: list[Found] = []
        for candidate in queue:
            plane = refined(cloud, candidate)
            known = [*found, *fresh]
            if plane is None or any(same_plane(plane, other[0]) for other in known):
                continue
            if _holds(cloud, plane, config):
                continue
            error, unmatched = cloud.errors(reflected(plane, cloud.points))
            if error <= config.features and unmatched <= config.unmatched:
                fresh.append((plane, error, unmatched))
            if len(known) > _MANY:
                break
        # The mirror image of one plane in another is a plane too. A continuum has no end of them.
        found += fresh
        planes, new = [plane for plane, _, _ in found], [plane for plane, _, _ in fresh]
        queue = _images(planes, new) if len(found) <= _MANY else []
    best: list[Found] = []
    for one in sorted(found, key=lambda item: item[1] + item[2]):
        # A poor end of the refinement beside a plane is not another one.
        if not any(same_plane(one[0], other[0], 2 * SAME_RAD) for other in best):
            best.append(one)
    return best


def _holds(cloud: Cloud, plane: np.ndarray, config: SymmetryConfig) -> bool:
    """Whether the shape lies in the plane, as a flat one does in its own: that is no mirror."""
    aside = 2 * np.abs(cloud.points @ plane[:3] - plane[3]) > config.tolerance
    return float(cloud.areas @ aside) <= config.unmatched


def _images(known: Sequence[np.ndarray], fresh: Sequence[np.ndarray]) -> list[np.ndarray]:
    images: list[np.ndarray] = []
    for one in known:
        for two in fresh:
            for mirror, plane in ((one, two), (two, one)):
                normal = plane[:3] - 2 * (plane[:3] @ mirror[:3]) * mirror[:3]
                point = reflected(mirror, (plane[:3] * plane[3])[None])[0]
                image = np.append(normal, normal @ point)
                if not any(same_plane(image, other) for other in [*known, *images]):
                    images.append(image)
    return images


def _axes(cloud: Cloud, config: SymmetryConfig, found: Sequence[Found]) -> list[np.ndarray]:
    """Directions of axes through the center: at most two, of which two make a sphere."""
    normals = [plane[:3] for plane, _, _ in found]
    guesses = list(np.linalg.eigh((cloud.points * cloud.areas[:, None]).T @ cloud.points)[1].T)
    for i, one in enumerate(normals[:8]):
        for two in normals[:i]:
            cross = np.cross(one, two)
            if np.linalg.norm(cross) > 0.3:
                guesses.append(cross / np.linalg.norm(cross))
    axes: list[np.ndarray] = []
    for guess in guesses:
        through = [normal for normal in normals if abs(normal @ guess) < _CLOSE]
        if len(through) >= 3:
            guess = np.linalg.eigh(np.array(through).T @ np.array(through))[1][:, 0]
        if any(abs(guess @ axis) > 1 - _CLOSE for axis in axes) or len(axes) > 1:
            continue
        turned = [cloud.errors(_turned(cloud.points, guess, angle)) for angle in _ANGLES]
        if all(e <= config.features and share <= config.unmatched for e, share in turned):
            axes.append(guess)
    return axes


def _turned(points: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    along = (points @ axis)[:, None] * axis
    return along + np.cos(angle) * (points - along) + np.sin(angle) * np.cross(axis, points)


def _plane(cloud: Cloud, plane: np.ndarray, error: float, unmatched: float) -> Plane:
    normal = plane[:3]
    offset = float(plane[3] * cloud.size + normal @ cloud.center)
    return Plane(torch.from_numpy(normal.copy()), offset, error, unmatched)
