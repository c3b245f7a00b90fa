"""Samples of a surface in a frame of their own, and which of them others meet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from geodistill.checks import InputError

_NEIGHBOURS = 9  # with itself
_CHOICES = 4  # nearest samples among which the features choose


@dataclass(frozen=True, eq=False)
class Cloud:
    """Samples about their center, with a root-mean-square radius of 1."""

    points: np.ndarray  # float64 [S, 3]
    areas: np.ndarray  # float64 [S], sum 1
    features: np.ndarray  # float64 [S, D]
    normals: np.ndarray  # float64 [S, 3] unit, of either sign
    center: np.ndarray  # [3] in the shape's own frame
    size: float  # of the radius, there
    spacing: float  # between samples
    tolerance: float  # how far off the surface still matches
    spread: float  # median distance between the features of two samples; 0: none to speak of
    noise: float  # mean distance between the features of a sample and those beside it
    lost: float  # share of the area that has no match even in the samples beside it
    tree: Any  # scipy's KDTree of the points

    @property
    def reach(self) -> float:
        """How far away a match may be: samples lie at random on the surface."""
        return max(2.5 * self.spacing, 1.5 * self.tolerance)

    def match(self, moved: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sample that each moved sample [n, 3] meets, and how far away it is.

        Of the four nearest it is the one that is near both in space and to the features of the
        samples `source`, int [n], that were moved.
        """
        gap, near = self.tree.query(moved, k=_CHOICES)
        best = np.arange(len(moved)), self._choice(gap, near, source)
        return near[best], gap[best]

    def errors(self, moved: np.ndarray) -> tuple[float, float]:
        """e of all samples moved [S, 3] over the median feature distance, and the share of the
        area that has no match; both less what they are between neighbours that did not move."""
        gap, near = self.tree.query(moved, k=_CHOICES)
        missed = self.missed(moved, gap, near)
        lost = max(float(self.areas @ missed) - self.lost, 0.0)
        if not self.spread:
            return 0.0, lost
        match = near[np.arange(len(moved)), self._choice(gap, near, np.arange(len(moved)))]
        change = np.linalg.norm(self.features - self.features[match], axis=1)
        error = max(float(self.areas @ change) - self.noise, 0.0) / (self.spread - self.noise)
        return error, lost

    def missed(self, moved: np.ndarray, gap: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Which points [n, 3] are off the planes through all their nearest samples, or far away."""
        off = moved[:, None] - self.points[near]
        height = np.abs((off * self.normals[near]).sum(2)).min(1)
        return (height > self.tolerance) | (gap[:, 0] > self.reach)

    def _choice(self, gap: np.ndarray, near: np.ndarray, source: np.ndarray) -> np.ndarray:
        if not self.spread:
            return np.zeros(len(near), np.int64)
        change = np.linalg.norm(self.features[near] - self.features[source][:, None], axis=2)
        return ((gap / self.spacing) ** 2 + (change / self.spread) ** 2).argmin(1)


def cloud_of(
    positions: Tensor, areas: Tensor, features: Tensor, normals: Tensor | None, tolerance: float
) -> Cloud:
    """Normals that are not given are those of the planes through each sample's neighbours.

    Raises InputError when the samples are all at one place or have no area."""
    from scipy.spatial import KDTree

    points, share = positions.double().cpu().numpy(), areas.double().cpu().numpy()
    if not share.sum() > 0 or share.min() < 0:
        raise InputError("the samples' areas must be at least 0, with a positive sum")
    share = share / share.sum()
    center = share @ points
    size = float(np.sqrt(share @ ((points - center) ** 2).sum(1)))
    if not size > 0:
        raise InputError("the samples are all at one place")
    points = (points - center) / size
    tree = KDTree(points)
    gap, near = (np.asarray(part) for part in tree.query(points, k=_NEIGHBOURS))
    facing = _fitted(points[near]) if normals is None else normals.double().cpu().numpy()
    # A disc that holds eight neighbours holds eight samples' worth of surface.
    spacing = float(np.median(gap[:, -1]) * np.sqrt(np.pi / (_NEIGHBOURS - 1)))
    values = features.double().cpu().numpy()
    every = values[:: max(len(values) // 512, 1)]
    apart = np.linalg.norm(every[:, None] - every[None], axis=2)
    spread = float(np.median(apart[np.triu_indices(len(every), 1)]))
    beside = np.linalg.norm(values[near[:, 1:_CHOICES]] - values[:, None], axis=2)
    noise = float(share @ beside.min(1))
    if spread <= max(1.5 * noise, 1e-4):
        spread = noise = 0.0
    cloud = Cloud(
        points, share, values, facing, center, size, spacing, tolerance, spread, noise, 0.0, tree
    )
    lost = cloud.missed(points, gap[:, 1 : 1 + _CHOICES], near[:, 1 : 1 + _CHOICES])
    return replace(cloud, lost=float(share @ lost))


def _fitted(groups: np.ndarray) -> np.ndarray:
    """Normals [S, 3] of the planes through groups of points [S, k, 3]."""
    offsets = groups - groups.mean(1, keepdims=True)
    return np.linalg.eigh(np.einsum("ski,skj->sij", offsets, offsets))[1][:, :, 0]
