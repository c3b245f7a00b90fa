"""Distance along the surface, by shortest paths over edges and over pairs of faces.

Paths along the edges alone are up to 41 % too long on a regular grid. With the straight line
between the two corners opposite to each edge, unfolded into the plane of its two faces, they are
at most 8.3 % too long there; a path is never shorter than the surface's own geodesic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import UsageError
from geodistill.deform.components import bridges
from geodistill.deform.surface import Surface


def path_graph(surface: Surface) -> Any:
    """The graph whose shortest paths are surface distances: a scipy CSR array [P, P].

    Separate components are joined where they come nearest, by edges of that length. Non-manifold
    edges join all their faces.
    """
    from scipy.sparse import csgraph

    count = len(surface.positions)
    start, end, length = _edges(surface)
    graph = _symmetric(start, end, length, count)
    if len(csgraph.breadth_first_order(graph, 0, return_predecessors=False)) == count:
        return graph
    points = surface.positions.numpy()
    one, two = bridges(points, csgraph.connected_components(graph, directed=False)[1])
    gaps = torch.from_numpy(np.linalg.norm(points[one] - points[two], axis=1)).float()
    one, two = torch.from_numpy(one), torch.from_numpy(two)
    return _symmetric(
        torch.cat([start, one]), torch.cat([end, two]), torch.cat([length, gaps]), count
    )


def surface_distance(graph: Any, sources: Tensor) -> Tensor:
    """Distances float64 [P] from the nearest of the source positions, int64 [n]."""
    from scipy.sparse import csgraph

    if not len(sources):
        raise UsageError("a surface distance needs at least one source")
    distances = csgraph.dijkstra(graph, indices=sources.numpy(), min_only=True)
    return torch.from_numpy(distances)


def localise(weights: Tensor, distances: Tensor, power: float) -> Tensor:
    """w (1 - G)^power with G = distance / largest distance; all [P]. A power of 0 changes nothing.

    Raises UsageError for a negative power.
    """
    if not 0 <= power < np.inf:
        raise UsageError(f"the power of locality must be at least 0, got {power}")
    fall = (1 - distances / distances.max().clamp_min(1e-300)).clamp_min_(0)
    return weights * fall.pow_(power).to(weights)


def _edges(surface: Surface) -> tuple[Tensor, Tensor, Tensor]:
    """Both ends and the length of every edge, and of every line across one.

    Half-edge h is side h % 3 of face h // 3. Lengths are float32, of centred positions.
    """
    count = len(surface.positions)
    start, end, apex = (surface.faces.roll(-turn, 1).flatten() for turn in range(3))
    corners = (surface.positions - surface.positions.mean(0)).float()[surface.faces]
    sides = (corners - corners.roll(-1, 1)).square_().sum(2).sqrt_().flatten()
    key = (torch.minimum(start, end) * count).add_(torch.maximum(start, end))
    order = torch.from_numpy(np.argsort(key.numpy()))
    key = key[order]
    same = key[1:] == key[:-1]
    unique = order[torch.cat([torch.ones(1, dtype=torch.bool), ~same])]
    one, two = order[:-1][same], order[1:][same]
    length = _across(start, sides, one, two)
    straight = length.isfinite() & (apex[one] != apex[two])
    return (
        torch.cat([start[unique], apex[one[straight]]]),
        torch.cat([end[unique], apex[two[straight]]]),
        torch.cat([sides[unique], length[straight]]),
    )


def _across(start: Tensor, sides: Tensor, one: Tensor, two: Tensor) -> Tensor:
    """Length of the line between the apices of two half-edges of one edge, unfolded.

    NaN where the line leaves the two faces.
    """
    base = sides[one]
    x1, y1 = _apex(sides, one, base)
    x2, y2 = _apex(sides, two, base)
    x2 = torch.where(start[one] == start[two], x2, base - x2)
    crossing = x1 + (x2 - x1) * y1 / (y1 + y2)
    inside = (crossing > 0) & (crossing < base)
    return torch.where(inside, torch.hypot(x1 - x2, y1 + y2), torch.nan)


def _apex(sides: Tensor, half: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """Where the apex lies in the plane of its face: along the half-edge, and away from it."""
    turn = half % 3
    opposite = sides[torch.where(turn == 2, half - 2, half + 1)]
    back = sides[torch.where(turn == 0, half + 2, half - 1)]
    along = (base.square() + (back - opposite) * (back + opposite)) / (2 * base)
    return along, (back.square() - along.square()).clamp_min_(0).sqrt_()


def _symmetric(start: Tensor, end: Tensor, length: Tensor, count: int) -> Any:
    """A CSR array with every edge both ways. Repeated edges stay apart: adding would be wrong."""
    from scipy.sparse import csr_array

    rows, columns = torch.cat([start, end]).int().numpy(), torch.cat([end, start]).int().numpy()
    order = np.argsort(rows)
    offsets = np.zeros(count + 1, np.int32)
    offsets[1:] = np.bincount(rows, minlength=count).cumsum()
    data = torch.cat([length, length]).double().numpy()[order]
    return csr_array((data, columns[order], offsets), (count, count))
