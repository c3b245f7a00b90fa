"""As-rigid-as-possible polish: a posed surface relaxed towards locally rigid motion.

Source: Sorkine & Alexa, As-Rigid-As-Possible Surface Modeling (SGP 2007).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import UsageError, check
from geodistill.deform.surface import Surface

_COTANGENT = (1e-2, 1e2)


@dataclass(frozen=True, eq=False)
class _Cells:
    """The edges of a surface, each both ways: cell i holds those that start at i."""

    start: np.ndarray  # int64 [E]
    end: np.ndarray  # int64 [E]
    weight: np.ndarray  # float64 [E] cotangent weights, positive
    rest: np.ndarray  # float64 [E, 3] rest position of the start less that of the end
    sum: Any  # scipy CSR [P, E]: adds what belongs to each start


def polish(
    surface: Surface, posed: Tensor, fixed: Tensor, iterations: int, reach: float = math.inf
) -> tuple[Tensor, list[float]]:
    """Relax posed positions [P, 3] of a surface, keeping those where `fixed`, bool [P], holds.

    The others are drawn back to where they were posed, so that only what is smaller than about
    `reach`, in the surface's unit, changes its shape; at an infinite reach they are free.

    Returns float64 [P, 3] and, before each iteration and at the end, the energy
    sum_ij w_ij |p'_i - p'_j - R_i (p_i - p_j)|² + sum_i 2 a_i / reach² |p'_i - posed_i|² with a_i
    the area about a position: it never rises. Each iteration fits a rotation to each vertex's edges
    and then solves for positions, with one factorisation for all. Cotangent weights are
    clamped to between 0.01 and 100, so that slivers and obtuse triangles keep the energy positive.
    Components without a fixed position stay as posed.

    650,000 positions take about 5 s and 2 GB to factorise and 2.5 s an iteration on one core. Fine
    meshes need more iterations than coarse ones for the same change of shape.

    Raises UsageError for fewer than one iteration or a reach that is not positive.
    """
    check(posed=(posed, "P 3"), fixed=(fixed, "P"), positions=(surface.positions, "P 3"))
    if iterations < 1:
        raise UsageError(f"the polish needs at least one iteration, got {iterations}")
    if not reach > 0:
        raise UsageError(f"the polish needs a positive reach, got {reach}")
    rest, start = surface.positions.numpy(), posed.double().numpy()
    faces, held = surface.faces.numpy(), fixed.numpy()
    pull = surface.areas.numpy() / reach**2
    result, energies = _relax(rest, faces, start, held, pull, iterations)
    return torch.from_numpy(result), energies


def _relax(
    rest: np.ndarray,
    faces: np.ndarray,
    posed: np.ndarray,
    held: np.ndarray,
    pull: np.ndarray,
    iterations: int,
) -> tuple[np.ndarray, list[float]]:
    from scipy.sparse import diags_array

    cells = _cells(rest, faces)
    laplacian = _laplacian(cells, len(rest))
    free = ~(held | _adrift(laplacian, held))
    if not free.any():
        return posed, [_energy(cells, posed, _rotations(cells, posed))]
    solve = _factorised(laplacian[free][:, free] + diags_array(pull[free]))
    boundary = laplacian[free][:, ~free]
    positions, energies = posed.copy(), []

    def energy(turned: np.ndarray) -> float:
        away = ((positions - posed) ** 2).sum(1)
        return _energy(cells, positions, turned) + 2 * float(pull @ away)

    for _ in range(iterations):
        turned = _rotations(cells, positions)
        energies.append(energy(turned))
        mean = (turned[cells.start] + turned[cells.end]) / 2
        right = cells.sum @ (cells.weight[:, None] * np.einsum("eij,ej->ei", mean, cells.rest))
        right += pull[:, None] * posed
        positions[free] = solve(right[free] - boundary @ positions[~free])
    energies.append(energy(_rotations(cells, positions)))
    return positions, energies


def _cells(rest: np.ndarray, faces: np.ndarray) -> _Cells:
    from scipy.sparse import coo_array, csr_array

    count = len(rest)
    starts, ends, cotangents = [], [], []
    for corner in range(3):
        a, b, c = (faces[:, (corner + turn) % 3] for turn in range(3))
        u, v = rest[a] - rest[c], rest[b] - rest[c]
        area = np.linalg.norm(np.cross(u, v), axis=1)
        cotangent = (u * v).sum(1) / np.maximum(area, 1e-300)
        starts += [a, b]
        ends += [b, a]
        cotangents += [cotangent, cotangent]
    flat = [np.concatenate(parts) for parts in (starts, ends, cotangents)]
    apart = flat[0] != flat[1]
    rows, columns, values = (part[apart] for part in flat)
    limits = np.clip(values / 2, -_COTANGENT[1], _COTANGENT[1])
    summed = coo_array((limits, (rows, columns)), shape=(count, count)).tocsr().tocoo()
    start, end = summed.row.astype(np.int64), summed.col.astype(np.int64)
    edges = len(start)
    adding = csr_array((np.ones(edges), (start, np.arange(edges))), shape=(count, edges))
    weight = np.clip(summed.data, *_COTANGENT)
    return _Cells(start, end, weight, rest[start] - rest[end], adding)


def _laplacian(cells: _Cells, count: int) -> Any:
    from scipy.sparse import csr_array, diags_array

    weights = csr_array((cells.weight, (cells.start, cells.end)), shape=(count, count))
    return (diags_array(weights.sum(1)) - weights).tocsr()


def _adrift(laplacian: Any, held: np.ndarray) -> np.ndarray:
    """Which positions hang on no held one, bool [P]."""
    from scipy.sparse import csgraph

    _, labels = csgraph.connected_components(laplacian, directed=False)
    return ~(np.bincount(labels, held) > 0)[labels]


def _factorised(matrix: Any) -> Any:
    from scipy.sparse.linalg import splu

    return splu(
        matrix.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    ).solve


def _rotations(cells: _Cells, positions: np.ndarray) -> np.ndarray:
    """The rotation [P, 3, 3] that best takes each position's edges from rest to where they are."""
    moved = positions[cells.start] - positions[cells.end]
    outer = cells.weight[:, None] * (moved[:, :, None] * cells.rest[:, None, :]).reshape(-1, 9)
    u, _, vt = np.linalg.svd((cells.sum @ outer).reshape(-1, 3, 3))
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return u @ vt


def _energy(cells: _Cells, positions: np.ndarray, turned: np.ndarray) -> float:
    moved = positions[cells.start] - positions[cells.end]
    off = moved - np.einsum("eij,ej->ei", turned[cells.start], cells.rest)
    return float((cells.weight * (off * off).sum(1)).sum())
