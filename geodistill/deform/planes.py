"""Candidate mirror planes of a cloud of samples, and their refinement.

A plane is [4]: its unit normal n and its offset d, with n · x = d.
"""

from __future__ import annotations

import numpy as np

from geodistill.deform.cloud import Cloud

SAME_RAD = np.deg2rad(3.0)
_VOTERS = 300
_VOTES = 20_000
_DIRECTIONS = 700
_PEAKS = 48
_APART = np.cos(0.2)  # peaks are at least 0.2 radians from one another
_SHARP = 1 / 0.1**2  # a vote counts for directions within about 0.1 radians
_FAR = 0.15  # planes pass the center within this many radii
_SIDE = 0.2  # nearer pairs say little about a direction
_STEPS = 14
_USED = 600
_ANCHOR = 0.1  # weight of point-to-point residuals, which hold a plane that could slide freely
_HOPELESS = 0.4  # share of the weight; a mirror plane has nearly all of it
_COARSE = 0.4  # scale of the robust weights at the first step, in radii


def reflected(plane: np.ndarray, points: np.ndarray) -> np.ndarray:
    """R x = x - 2 n (n · x - d) of points [n, 3]."""
    return points - 2 * (points @ plane[:3] - plane[3])[:, None] * plane[:3]


def same_plane(one: np.ndarray, two: np.ndarray, angle: float = SAME_RAD) -> bool:
    """Whether two planes are within an angle and 0.1 radii."""
    cosine = one[:3] @ two[:3]
    return abs(cosine) > np.cos(angle) and abs(one[3] - np.sign(cosine) * two[3]) < 0.1


def candidates(cloud: Cloud) -> list[np.ndarray]:
    """The principal planes, and the planes that pairs of mutually similar points vote for.

    A pair votes for the plane midway between its points when their features are alike and the
    plane mirrors the one's normal to the other's. Votes are summed over directions evenly spread;
    the highest peaks win, each with the mean offset of its voters.
    """
    covariance = (cloud.points * cloud.areas[:, None]).T @ cloud.points
    planes = [np.append(axis, 0.0) for axis in np.linalg.eigh(covariance)[1].T]
    normal, offset, weight = _votes(cloud)
    directions = _hemisphere(_DIRECTIONS)
    total, offsets = np.zeros(_DIRECTIONS), np.zeros(_DIRECTIONS)
    for index, direction in enumerate(directions):
        cosine = normal @ direction
        near = np.exp(_SHARP * (cosine * cosine - 1)) * weight
        total[index] = near.sum()
        offsets[index] = near @ (np.sign(cosine) * offset) / max(total[index], 1e-300)
    for _ in range(_PEAKS):
        peak = int(total.argmax())
        if not total[peak] > 0:
            break
        planes.append(np.append(directions[peak], offsets[peak]))
        total[np.abs(directions @ directions[peak]) > _APART] = 0
    return planes


def refined(cloud: Cloud, plane: np.ndarray) -> np.ndarray | None:
    """Gauss-Newton steps on the distance of mirrored samples from the surfaces they meet.

    Samples are reweighted at each step: Geman and McClure's weight of their distance, at a scale
    that shrinks to the tolerance, times how alike the features are that meet. None where hardly
    any of the shape meets itself when the scale is half-way down.
    """
    chosen = np.arange(0, len(cloud.points), max(len(cloud.points) // _USED, 1))
    x, area = cloud.points[chosen], cloud.areas[chosen]
    scales = np.geomspace(_COARSE, cloud.tolerance, _STEPS)
    for step, scale in enumerate(scales):
        moved = reflected(plane, x)
        match, gap = cloud.match(moved, chosen)
        weight = area / (1 + (gap / max(scale, cloud.spacing)) ** 2) ** 2
        if step == _STEPS // 2 and weight.sum() < _HOPELESS * area.sum():
            return None
        if cloud.spread:
            change = np.linalg.norm(cloud.features[chosen] - cloud.features[match], axis=1)
            weight = weight * np.exp(-((change / (0.5 * cloud.spread)) ** 2))
        plane = _step(plane, x, moved - cloud.points[match], cloud.normals[match], weight)
    return plane


def _step(
    plane: np.ndarray, x: np.ndarray, off: np.ndarray, normals: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """One damped step in two turns of the normal and the offset."""
    n, d = plane[:3], plane[3]
    first = np.cross(n, np.eye(3)[np.abs(n).argmin()])
    first /= np.linalg.norm(first)
    basis = np.stack([first, np.cross(n, first)])
    height = x @ n - d
    turns = -2 * (basis[None] * height[:, None, None] + n * (x @ basis.T)[:, :, None])
    jacobian = np.concatenate([turns, np.broadcast_to(2 * n, (len(x), 1, 3))], 1)  # [S, 3, xyz]
    along = np.einsum("spx,sx->sp", jacobian, normals)
    residual = (off * normals).sum(1)
    hessian = np.einsum("s,sp,sq->pq", weight, along, along)
    hessian += _ANCHOR * np.einsum("s,spx,sqx->pq", weight, jacobian, jacobian)
    gradient = np.einsum("s,sp,s->p", weight, along, residual)
    gradient += _ANCHOR * np.einsum("s,spx,sx->p", weight, jacobian, off)
    hessian += np.eye(3) * (1e-6 * np.trace(hessian) + 1e-300)
    move = -np.linalg.solve(hessian, gradient)
    normal = n + move[:2] @ basis
    length = np.linalg.norm(normal)
    return np.append(normal / length, (d + move[2]) / length)


def _votes(cloud: Cloud) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normals [n, 3], offsets [n] and weights [n] of the planes between pairs."""
    chosen = np.arange(0, len(cloud.points), max(len(cloud.points) // _VOTERS, 1))
    i, j = (chosen[index] for index in np.triu_indices(len(chosen), 1))
    between = cloud.points[i] - cloud.points[j]
    length = np.linalg.norm(between, axis=1)
    normal = between / np.maximum(length, 1e-300)[:, None]
    offset = (normal * (cloud.points[i] + cloud.points[j])).sum(1) / 2
    mirrored = cloud.normals[i] - 2 * (cloud.normals[i] * normal).sum(1)[:, None] * normal
    agree = np.abs((mirrored * cloud.normals[j]).sum(1))
    keep = (length > _SIDE) & (np.abs(offset) < _FAR) & (agree > 0.8)
    weight = cloud.areas[i] * cloud.areas[j] * agree**8
    if cloud.spread:
        change = np.linalg.norm(cloud.features[i] - cloud.features[j], axis=1)
        weight = weight * np.exp(-((change / (0.35 * cloud.spread)) ** 2))
    few = np.flatnonzero(keep)[:: max(int(keep.sum()) // _VOTES, 1)]
    return normal[few], offset[few], weight[few]


def _hemisphere(count: int) -> np.ndarray:
    """Directions evenly spread over half a sphere: a Fibonacci lattice."""
    index = np.arange(count)
    height = (index + 0.5) / count
    azimuth = index * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(azimuth), ring * np.sin(azimuth), height], 1)
