"""Neighbours in clouds of points."""

from __future__ import annotations

import torch
from torch import Tensor

_PAIRS = 1 << 22


def farthest_points(points: Tensor, count: int) -> Tensor:
    points = points.detach()
    clouds = torch.arange(len(points), device=points.device)
    nearest = points.new_full(points.shape[:2], torch.inf)
    last = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    taken = torch.empty(len(points), count, dtype=torch.int32, device=points.device)
    for k in range(count):
        taken[:, k] = last
        nearest = torch.minimum(nearest, _squares(points, points[clouds, last][:, None]))
        last = nearest.max(1).indices  # of equal ones the first
    return taken


def ball_query(points: Tensor, centers: Tensor, radius: float, most: int) -> Tensor:
    points, centers = points.detach(), centers.detach()
    count = points.shape[1]
    number = torch.arange(count, device=points.device)
    found = []
    for part in centers.split(max(1, _PAIRS // max(1, points[..., 0].numel())), 1):
        near = _squares(points[:, None], part[:, :, None]) < radius * radius
        own = torch.where(near, number, count).topk(min(most, count), largest=False).values
        own = torch.nn.functional.pad(own, (0, most - own.shape[2]), value=count)
        first = torch.where(own[..., :1] == count, 0, own[..., :1])
        found.append(torch.where(own == count, first, own))
    return torch.cat(found, 1).int()


def nearest_neighbors(points: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    points, queries = points.detach(), queries.detach()
    found = []
    for part in queries.split(max(1, _PAIRS // max(1, points[..., 0].numel())), 1):
        left = _squares(points[:, None], part[:, :, None])
        ranks = []
        for _ in range(count):
            least = left.min(2, keepdim=True)  # of equal ones the first
            ranks.append((least.indices, least.values))
            left.scatter_(2, least.indices, torch.inf)
        found.append([torch.cat(column, 2) for column in zip(*ranks, strict=True)])
    index, squares = (torch.cat(column, 1) for column in zip(*found, strict=True))
    return index.int(), squares


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances, rounded after each operation."""
    x, y, z = (a - b).unbind(-1)
    return x * x + y * y + z * z
