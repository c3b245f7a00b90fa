"""Where beams first meet something.

Each solid is tested against the beams of its own window of azimuths and elevations alone, all pairs
of a solid and a beam at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geodistill.simulate.lidar.sensor import Rays
from geodistill.simulate.lidar.solids import Part

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Height = Callable[[Array, Array], Array]
NOTHING, GROUND = -2, -1
_CORNERS = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
_TINY = 1e-12
_NEAR_M = 0.3  # nothing is nearer to the sensor's axis
_JITTER = 2  # columns by which a firing's azimuth may be off
_STRIDE = 1.08  # along a beam that looks for the ground


@dataclass(frozen=True, eq=False)
class Placed:
    """Solids in the sensor's frame, P of them.

    Attributes:
        parts: as they are.
        centers: float64 [P, 3].
        rotations: float64 [P, 3, 3].
        owner: int64 [P], the thing that each belongs to.
    """

    parts: list[Part]
    centers: Array
    rotations: Array
    owner: Ints


@dataclass(frozen=True, eq=False)
class Pairs:
    """Beams that meet a solid, whether or not something is before it.

    Attributes:
        ray: int64 [N].
        part: int64 [N].
        distance: float64 [N] in metres.
        cosine: float64 [N], of the angle between beam and normal.
    """

    ray: Ints
    part: Ints
    distance: Array
    cosine: Array


@dataclass(frozen=True, eq=False)
class Hits:
    """What each beam of a scan meets first.

    Attributes:
        distance: float64 [N]; infinite where there is nothing.
        cosine: float64 [N].
        part: int64 [N], GROUND or NOTHING where it is no solid.
    """

    distance: Array
    cosine: Array
    part: Ints


def meet(rays: Rays, placed: Placed) -> Pairs:
    """All pairs of a beam and a solid that it meets."""
    ray, part = _windows(rays, placed)
    flat = np.array([one.planes is not None for one in placed.parts], bool)[part]
    distance, cosine = np.full(len(ray), np.inf), np.zeros(len(ray))
    for own, test in ((flat, _planes), (~flat, _ellipsoids)):
        distance[own], cosine[own] = test(rays.directions[ray[own]], part[own], placed)
    met = np.isfinite(distance)
    return Pairs(ray[met], part[met], distance[met], cosine[met])


def first(count: int, pairs: Pairs, ground: tuple[Array, Array]) -> Hits:
    """The nearest of what each of `count` beams meets; ground is its distance and cosine there."""
    distance, cosine = ground[0].copy(), ground[1].copy()
    part = np.where(np.isfinite(distance), GROUND, NOTHING)
    order = np.lexsort((pairs.distance, pairs.ray))
    ray = pairs.ray[order]
    nearest = order[np.flatnonzero(np.diff(ray, prepend=-1))]
    nearer = pairs.distance[nearest] < distance[pairs.ray[nearest]]
    nearest = nearest[nearer]
    at = pairs.ray[nearest]
    distance[at], cosine[at], part[at] = (
        pairs.distance[nearest],
        pairs.cosine[nearest],
        pairs.part[nearest],
    )
    return Hits(distance, cosine, part)


def meet_ground(
    rays: Rays, height: Height, bounds: tuple[float, float], reach: float
) -> tuple[Array, Array]:
    """Distances at which beams meet a surface z = height(x, y), infinite beyond `reach`, and the
    cosines there. Hills that are narrower than a twelfth of their distance may be missed.

    Args:
        bounds: between which the surface's z stays, both below the sensor.
    """
    v = rays.directions
    far, cosine = np.full(len(v), np.inf), np.zeros(len(v))
    low, high = bounds
    own = np.flatnonzero(v[:, 2] * reach < high)
    last = np.minimum(low / v[own, 2], reach)
    before = high / v[own, 2]
    a, b = before.copy(), np.full(len(own), np.inf)
    active = np.arange(len(own))
    while len(active):
        after = np.minimum(before[active] * _STRIDE, last[active])
        under = _above(v[own[active]], after, height) <= 0
        a[active], before[active] = before[active], after
        b[active[under]] = after[under]
        active = active[~under & (after < last[active])]
    met = np.isfinite(b)
    own, a, b = own[met], a[met], b[met]
    fa, fb = _above(v[own], a, height), _above(v[own], b, height)
    for _ in range(4):  # false position, with the Illinois rule's halving
        c = np.where(fa - fb > _TINY, (a * -fb + b * fa) / np.maximum(fa - fb, _TINY), b)
        fc = _above(v[own], c, height)
        under = fc <= 0
        b, fb = np.where(under, c, b), np.where(under, fc, fb / 2)
        a, fa = np.where(under, a, c), np.where(under, fa / 2, fc)
    far[own] = b
    at = v[own] * b[:, None]
    cosine[own] = np.abs((v[own] * _normals(at, height)).sum(1))
    return far, cosine


def _above(v: Array, t: Array | float, height: Height) -> Array:
    return v[:, 2] * t - height(v[:, 0] * t, v[:, 1] * t)


def _normals(at: Array, height: Height, step: float = 0.05) -> Array:
    x, y = at[:, 0], at[:, 1]
    middle = height(x, y)
    slope = [(height(x + step, y) - middle) / step, (height(x, y + step) - middle) / step]
    normal = np.stack([-slope[0], -slope[1], np.ones_like(x)], 1)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _windows(rays: Rays, placed: Placed) -> tuple[Ints, Ints]:
    """Pairs of a beam and a solid whose box it may meet."""
    half = np.array([part.half for part in placed.parts]).reshape(-1, 3)
    local = _CORNERS[None] * half[:, None]
    corners = local @ placed.rotations.transpose(0, 2, 1) + placed.centers[:, None]
    r0, r1 = _rows(rays, placed, corners)
    c0, c1 = _columns(rays, placed, corners)
    # What reaches over the last column of a turn goes on at the first.
    shifts = [rays.turn * k for k in (-1, 0, 1)]
    start = np.concatenate([np.maximum(c0 + shift, 0) for shift in shifts])
    end = np.concatenate([np.minimum(c1 + shift, rays.columns) for shift in shifts])
    wide = np.maximum(end - start, 0)
    own = np.tile(np.arange(len(half)), len(shifts))
    count = np.maximum(r1 - r0, 0)[own] * wide
    window = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(window)) - np.repeat(count.cumsum() - count, count)
    part, wide = own[window], np.maximum(wide, 1)[window]
    row, column = r0[part] + within // wide, start[window] + within % wide
    return row * rays.columns + column, part


def _rows(rays: Rays, placed: Placed, corners: Array) -> tuple[Ints, Ints]:
    """First rings of boxes, and those behind their last."""
    plan = np.linalg.norm(corners[..., :2], axis=2)
    middle = placed.centers[:, :2]
    spread = np.linalg.norm(corners[..., :2] - middle[:, None], axis=2).max(1)
    nearest = np.maximum(np.linalg.norm(middle, axis=1) - spread, _NEAR_M)
    top, bottom = corners[..., 2].max(1), corners[..., 2].min(1)
    highest = np.arctan2(top, np.where(top > 0, nearest, plan.max(1)))
    lowest = np.arctan2(bottom, np.where(bottom < 0, nearest, plan.max(1)))
    falling = -rays.elevations
    return np.searchsorted(falling, -highest), np.searchsorted(falling, -lowest, side="right")


def _columns(rays: Rays, placed: Placed, corners: Array) -> tuple[Ints, Ints]:
    """First columns of boxes, and those behind their last, one turn at most; not wrapped."""
    azimuth = np.arctan2(corners[..., 1], corners[..., 0])
    middle = np.arctan2(placed.centers[:, 1], placed.centers[:, 0])
    away = np.mod(azimuth - middle[:, None] + np.pi, 2 * np.pi) - np.pi
    left, right = middle + away.max(1), middle + away.min(1)
    c0 = np.floor((rays.first - left) / rays.step).astype(np.int64) - _JITTER
    c1 = np.ceil((rays.first - right) / rays.step).astype(np.int64) + _JITTER + 1
    above = (left - right >= np.pi) | (c1 - c0 > rays.turn)  # the sensor is over or under it
    return np.where(above, 0, c0), np.where(above, rays.turn, c1)


def _planes(v: Array, part: Ints, placed: Placed) -> tuple[Array, Array]:
    """Where beams v [N, 3] enter solids between planes: distances and cosines."""
    sides = [one.planes if one.planes is not None else np.zeros((8, 4)) for one in placed.parts]
    own = np.array(sides).reshape(-1, 8, 4)
    normals = np.einsum("pij,pkj->pki", placed.rotations, own[..., :3])
    offsets = own[..., 3] + np.einsum("pki,pi->pk", normals, placed.centers)
    enter, leave = np.full(len(v), -np.inf), np.full(len(v), np.inf)
    slope = np.zeros(len(v))
    for k in range(own.shape[1]):
        normal, offset = normals[part, k], offsets[part, k]
        along = np.einsum("ni,ni->n", normal, v)
        safe = np.where(np.abs(along) < _TINY, _TINY, along)
        t = offset / safe
        into = along < -_TINY
        later = into & (t > enter)
        enter[later], slope[later] = t[later], -along[later]
        leave = np.where(along > _TINY, np.minimum(leave, t), leave)
        leave[(np.abs(along) <= _TINY) & (offset < 0)] = -np.inf
    met = (enter < leave) & (enter > 0)
    return np.where(met, enter, np.inf), slope


def _ellipsoids(v: Array, part: Ints, placed: Placed) -> tuple[Array, Array]:
    half = np.array([one.half for one in placed.parts]).reshape(-1, 3)
    to_unit = placed.rotations.transpose(0, 2, 1) / half[:, :, None]  # to a sphere of radius 1
    center = np.einsum("pij,pj->pi", to_unit, placed.centers)[part]
    way = np.einsum("nij,nj->ni", to_unit[part], v)
    a = np.einsum("ni,ni->n", way, way)
    b = np.einsum("ni,ni->n", way, center)
    inner = b * b - a * (np.einsum("ni,ni->n", center, center) - 1)
    t = (b - np.sqrt(np.maximum(inner, 0))) / a
    met = (inner > 0) & (t > 0)
    normal = np.einsum("nji,nj->ni", to_unit[part], t[:, None] * way - center)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), _TINY)
    return np.where(met, t, np.inf), np.abs(np.einsum("ni,ni->n", normal, v))


def placed_parts(
    things: Sequence[tuple[Sequence[Part], Array, Array]],
) -> Placed:
    """Parts of things, each given with its place [3] and its rotation [3, 3]."""
    parts, centers, rotations, owner = [], [], [], []
    for number, (own, place, turn) in enumerate(things):
        for part in own:
            parts.append(part)
            centers.append(turn @ part.center + place)
            rotations.append(turn @ part.rotation)
            owner.append(number)
    return Placed(
        parts,
        np.array(centers).reshape(-1, 3),
        np.array(rotations).reshape(-1, 3, 3),
        np.array(owner, np.int64),
    )
