"""Grids that fields are read from: hash tables, planes and lines, sparse voxels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geodistill.checks import UsageError, check
from geodistill.kernels import reference
from geodistill.kernels.arguments import check_three
from geodistill.kernels.hashspec import HashSpec
from geodistill.kernels.table import implementation


def hash_encode(x: Tensor, table: Tensor, spec: HashSpec) -> Tensor:
    """Encode points by trilinear look-ups in a multi-resolution hash table. Gradients: table, x.

    x: [N, 3] in [0, 1]; what lies outside is clamped.  table: [spec.entries, spec.features].
    Returns [N, spec.levels * spec.features], level after level.
    Source: Mueller et al., "Instant Neural Graphics Primitives", 2022.
    """
    check(x=(x, "N 3"), table=(table, f"{spec.entries} {spec.features}"))
    run = implementation("hash_encode", x, table)
    if spec.features not in (1, 2, 4, 8):
        run = reference.hash_encode
    return run(x, table, spec)


def plane_line(x: Tensor, planes: Sequence[Tensor], lines: Sequence[Tensor]) -> Tensor:
    """Products of plane and line samples, the vector-matrix form. Gradients: planes, lines, x.

    x: [N, 3] in [-1, 1], clamped; node 0 of an axis is at -1 and its last node at +1.
    planes: 3 x [H, W, C], plane k spans the axes PLANE_AXES[k] = (x, y), (x, z), (y, z): columns
    run along the first of them, rows along the second.  lines: 3 x [L, C] along z, y, x.
    Returns [N, 3, C].  Source: Chen et al., "TensoRF", 2022, eq. 3 (channels stored last).
    """
    check_three("planes", planes)
    check_three("lines", lines)
    check(
        x=(x, "N 3"),
        **{f"planes[{k}]": (plane, "_ _ C") for k, plane in enumerate(planes)},
        **{f"lines[{k}]": (line, "_ C") for k, line in enumerate(lines)},
    )
    return implementation("plane_line", x, *planes, *lines)(x, planes, lines)


def line_product(x: Tensor, lines: Sequence[Tensor]) -> Tensor:
    """Products of three line samples, the CP form. Gradients: lines, x.

    x: [N, 3] in [-1, 1], clamped.  lines: 3 x [L, C] along z, y, x, as in `plane_line`.
    Returns [N, C].  Source: Chen et al., "TensoRF", 2022, eq. 2.
    """
    check_three("lines", lines)
    check(x=(x, "N 3"), **{f"lines[{k}]": (line, "_ C") for k, line in enumerate(lines)})
    return implementation("line_product", x, *lines)(x, lines)


def voxel_interp(x: Tensor, links: Tensor, values: Tensor) -> Tensor:
    """Trilinear interpolation in a sparse voxel grid. Gradients: values, x.

    x: [N, 3] in grid units, node i at coordinate i; clamped to the grid.
    links: int32 [X, Y, Z], row of each node in `values`, negative where the node is empty (zero).
    values: [M, C].  Returns [N, C].  Source: Fridovich-Keil et al., "Plenoxels", 2022.
    """
    check(x=(x, "N 3"), links=(links, "_ _ _"), values=(values, "_ _"))
    if links.dtype != torch.int32:
        raise UsageError(f"links must be int32, got {links.dtype}: pass links.int()")
    return implementation("voxel_interp", x, values)(x, links, values)
