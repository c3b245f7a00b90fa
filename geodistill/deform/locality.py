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

_NEARLY_NONE = 1e-9  # of the surface's diagonal


def path_graph(surface: Surface) -> Any:
    """The graph whose shortest paths are surface distances: a scipy CSR array [P, P].

    Separate components are joined where they come nearest, by edges of that length; positions of no
    face by edges of nearly none, so that they are nowhere far away. Non-manifold edges join all
    their faces.
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
    used = torch.zeros(count, dtype=torch.bool)
    used[surface.faces.flatten()] = True
    gaps[~(used[one] & used[two])] = _NEARLY_NONE * surface.diagonal
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
    """Both ends, int32, and the length of every edge, and of every line across one.

    Half-edge h is side h % 3 of face h // 3. Lengths are float32, of centred positions.
    """
    count, faces = len(surface.positions), surface.faces.int()
    start, end, apex = (faces.roll(-turn, 1).flatten() for turn in range(3))
    low, high = surface.bounds
    centred = (surface.positions - (low + high) / 2).float()
    corners = centred.index_select(0, surface.faces.flatten()).view(-1, 3, 3)
    sides = (corners - corners.roll(-1, 1)).square_().sum(2).sqrt_()
    key = torch.minimum(start, end).long().mul_(count).add_(torch.maximum(start, end))
    order = _order(key, count * count)
    key = key.index_select(0, order)
    same = key[1:] == key[:-1]
    unique = order[torch.cat([torch.ones(1, dtype=torch.bool), ~same])]
    one, two = order[:-1][same], order[1:][same]
    tops = _tops(sides)
    turned = start.index_select(0, one) == start.index_select(0, two)
    length = _across(tops.index_select(0, one), tops.index_select(0, two), turned)
    left, right = apex.index_select(0, one), apex.index_select(0, two)
    straight = (length.isfinite() & (left != right)).nonzero()[:, 0]
    return (
        torch.cat([start.index_select(0, unique), left.index_select(0, straight)]),
        torch.cat([end.index_select(0, unique), right.index_select(0, straight)]),
        torch.cat([sides.view(-1).index_select(0, unique), length.index_select(0, straight)]),
    )


def _order(key: Tensor, most: int) -> Tensor:
    """The places that sort a key int64 [n] of numbers below `most`."""
    bits = len(key).bit_length()
    if most.bit_length() + bits > 63:
        return torch.from_numpy(np.argsort(key.numpy()))
    # Key and place in one number sort twice as fast as places by their key.
    tagged = (key << bits).add_(torch.arange(len(key)))
    return torch.from_numpy(np.sort(tagged.numpy())).bitwise_and_((1 << bits) - 1)


def _tops(sides: Tensor) -> Tensor:
    """Of every half-edge, from the sides [F, 3] of all faces: where the apex lies in the plane of
    its face, along the half-edge and away from it, and the half-edge's length. [3 F, 3]"""
    opposite, back = sides.roll(-1, 1), sides.roll(1, 1)
    along = (sides.square() + (back - opposite) * (back + opposite)) / (2 * sides)
    away = (back.square() - along.square()).clamp_min_(0).sqrt_()
    return torch.stack([along, away, sides], 2).view(-1, 3)


def _across(one: Tensor, two: Tensor, turned: Tensor) -> Tensor:
    """Length of the line between the apices of two half-edges of one edge, unfolded: of their tops
    [E, 3], and whether [E] they start at the same end.

    NaN where the line leaves the two faces.
    """
    (x1, y1, base), (x2, y2, _) = one.unbind(1), two.unbind(1)
    x2 = torch.where(turned, x2, base - x2)
    crossing = x1 + (x2 - x1) * y1 / (y1 + y2)
    inside = (crossing > 0) & (crossing < base)
    return torch.where(inside, torch.hypot(x1 - x2, y1 + y2), torch.nan)


def _symmetric(start: Tensor, end: Tensor, length: Tensor, count: int) -> Any:
    """A CSR array with every edge both ways. Repeated edges stay apart: adding would be wrong."""
    from scipy.sparse import csr_array

    rows, columns = torch.cat([start, end]).int(), torch.cat([end, start]).int()
    order = _order(rows.long(), count)
    offsets = np.zeros(count + 1, np.int32)
    offsets[1:] = torch.bincount(rows, minlength=count).cumsum(0).numpy()
    data = length.repeat(2).index_select(0, order).double()
    return csr_array((data.numpy(), columns.index_select(0, order).numpy(), offsets), (count,) * 2)
