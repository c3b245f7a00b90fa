"""Edits that keep mirror symmetry: a handle's transform, and its mirror image on the other side.

Source: Liu, Lang & Hanocka, Deep Feature Deformation Weights (2026): D on the handle's side of a
plane, R D R on the other. There the switch is hard, and tears what follows a handle across the
plane; here a gate blends the two over a seam.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geodistill.checks import InputError, UsageError
from geodistill.deform.symmetry import Plane
from geodistill.deform.transforms import Transforms, joined

_ON_PLANE = 1e-3  # of the surface's diagonal
_RIGHT = 0.02  # cosine under which two planes are at right angles


def reflect(plane: Plane, points: Tensor) -> Tensor:
    """R x = x - 2 n (n · x - d) of points [..., 3]."""
    normal = plane.normal.to(points)
    return points - 2 * signed_distance(plane, points)[..., None] * normal


def signed_distance(plane: Plane, points: Tensor) -> Tensor:
    """n · x - d of points [..., 3]."""
    return points @ plane.normal.to(points) - plane.offset


def mirrored(transforms: Transforms, plane: Plane) -> Transforms:
    """R D R of each map. A rotation's axis is an axial vector: it is mirrored and turned round."""
    normal = plane.normal.double()
    R = torch.eye(3, dtype=torch.float64) - 2 * torch.outer(normal, normal)
    return Transforms(
        reflect(plane, transforms.pivot),
        -transforms.rotation @ R,
        R @ transforms.stretch @ R,
        transforms.translation @ R,
    )


def symmetrised(transforms: Transforms, plane: Plane) -> Transforms:
    """The mean of each map and its mirror image, which the plane maps onto itself."""
    image = mirrored(transforms, plane)
    return Transforms(
        (transforms.pivot + image.pivot) / 2,
        (transforms.rotation + image.rotation) / 2,
        (transforms.stretch + image.stretch) / 2,
        (transforms.translation + image.translation) / 2,
    )


def gate(plane: Plane, points: Tensor, toward: Tensor, width: float) -> Tensor:
    """[P] in [0, 1]: 1 from `width` on beyond the plane on the side of `toward` [3], 0 on the
    other, and smooth (3 t² - 2 t³) between; 1/2 on the plane."""
    side = torch.sign(signed_distance(plane, toward.to(points)))
    t = ((side * signed_distance(plane, points) / width + 1) / 2).clamp(0, 1)
    return t * t * (3 - 2 * t)


def square_planes(planes: Sequence[Plane]) -> tuple[Plane, ...]:
    """Of planes, best first, those at right angles to all better ones that are kept."""
    kept: list[Plane] = []
    for plane in planes:
        if _square(plane, kept):
            kept.append(plane)
    return tuple(kept)


def _square(plane: Plane, others: Sequence[Plane]) -> bool:
    return all(abs(float(plane.normal @ other.normal)) <= _RIGHT for other in others)


def symmetric_edit(
    positions: Tensor,
    weights: Tensor,
    transforms: Transforms,
    places: Sequence[Tensor],
    planes: Sequence[Plane],
    seam: float,
) -> tuple[Tensor, Transforms]:
    """The weights and maps of an edit that mirrors itself in each of the planes.

    positions [P, 3], weights [P, K], and for each of the K maps the positions [n, 3] that its
    handle holds. Each plane splits each column in two, for the map on the handle's side and its
    image on the other, by a `gate` of width `seam`; the width shrinks to keep a handle's own
    positions wholly on their side. A handle on the plane (within 0.001 of the diagonal, or on both
    sides of it) keeps one column, and its map is replaced by `symmetrised`. Returns the columns
    [P, K'] and maps K'; sums of weights stay.

    Raises InputError for planes that are not at right angles to one another, whose images would
    have images, and UsageError for a seam that is not positive.
    """
    if not seam > 0:
        raise UsageError(f"the width of the seam must be positive, got {seam}")
    for index, plane in enumerate(planes):
        if not _square(plane, planes[:index]):
            raise InputError(f"mirrors[{index}] is not at right angles to those before it")
    diagonal = float((positions.amax(0) - positions.amin(0)).norm())
    columns = [(weights[:, k], _only(transforms, k), place) for k, place in enumerate(places)]
    for plane in planes:
        columns = [
            half
            for column in columns
            for half in _halves(positions, *column, plane, seam, _ON_PLANE * diagonal)
        ]
    return torch.stack([w for w, _, _ in columns], 1), joined([maps for _, maps, _ in columns])


Column = tuple[Tensor, Transforms, Tensor]


def _halves(
    positions: Tensor,
    weights: Tensor,
    maps: Transforms,
    place: Tensor,
    plane: Plane,
    seam: float,
    near: float,
) -> list[Column]:
    heights = signed_distance(plane, place)
    clear = float(heights.abs().min())
    if clear <= near or bool((heights > 0).any() and (heights < 0).any()):
        return [(weights, symmetrised(maps, plane), place)]
    own = gate(plane, positions, place[0], min(seam, clear)).to(weights)
    image = mirrored(maps, plane)
    return [(weights * own, maps, place), (weights * (1 - own), image, reflect(plane, place))]


def _only(transforms: Transforms, k: int) -> Transforms:
    one = slice(k, k + 1)
    return Transforms(
        transforms.pivot[one],
        transforms.rotation[one],
        transforms.stretch[one],
        transforms.translation[one],
    )
