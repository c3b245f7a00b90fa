"""Relations between grids over one unit cube, of one resolution and another."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def nodes_near(occupancy: Tensor, resolution: int, centred: bool = True) -> Tensor:
    """Grid nodes that some point of an occupied cell is interpolated from.

    Args:
        occupancy: bool [G, G, G] cells.
        resolution: nodes per axis.
        centred: nodes lie at the centres of `resolution` cells per axis (Plenoxels); otherwise
            the first and last node lie on the cube's faces (TensoRF).

    Returns:
        bool [R, R, R].
    """
    low, high = _support(occupancy.shape[0], resolution, centred)
    nodes = occupancy
    for axis in range(3):
        start = torch.zeros_like(nodes.narrow(axis, 0, 1), dtype=torch.int32)
        running = torch.cat([start, nodes.cumsum(axis, dtype=torch.int32)], axis)
        nodes = running.index_select(axis, high) > running.index_select(axis, low)
    return nodes


def resize_planes(planes: list[Tensor], size: int) -> list[Tensor]:
    """Bilinear resampling with the end nodes kept. [R, R, K] -> [size, size, K]"""
    return [
        F.interpolate(p.permute(2, 0, 1)[None], (size, size), mode="bilinear", align_corners=True)[
            0
        ]
        .permute(1, 2, 0)
        .contiguous()
        for p in planes
    ]


def resize_lines(lines: list[Tensor], size: int) -> list[Tensor]:
    """Linear resampling with the end nodes kept. [R, K] -> [size, K]"""
    return [
        F.interpolate(v.t()[None], size, mode="linear", align_corners=True)[0].t().contiguous()
        for v in lines
    ]


def _support(size: int, resolution: int, centred: bool) -> tuple[Tensor, Tensor]:
    """For each node of an axis, the half-open range of cells that its hat function touches."""
    node = torch.arange(resolution, dtype=torch.float64)
    if centred:
        position, spacing = (node + 0.5) * (size / resolution), size / resolution
    else:
        position, spacing = node * (size / (resolution - 1)), size / (resolution - 1)
    low = torch.floor(position - spacing + 1e-9).clamp(0, size).long()
    high = torch.ceil(position + spacing - 1e-9).clamp(0, size).long()
    return low, high
