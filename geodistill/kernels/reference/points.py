"""The nearest points whose discs cover each pixel."""

from __future__ import annotations

import torch
from torch import Tensor

_PAIRS = 1 << 21


def nearest_points(
    points: Tensor, radius: float, K: Tensor, size: tuple[int, int], near: float, most: int
) -> Tensor:
    points = points.detach()
    # Equal depths rank by index; a number past the last rank stands for no point.
    order = points[:, 2].argsort(stable=True)
    ranked = points[order]
    none = len(points)
    found = torch.full((most, size[0] * size[1]), none, device=points.device)
    for pixel, rank in _covered(ranked, radius, K, size, near):
        for k in range(most):
            # What is nearer takes the place; what was there moves on to the next.
            before = found[k].clone()
            found[k].scatter_reduce_(0, pixel, rank, "amin")
            if k + 1 < most:
                moved = before != found[k]
                pixel = torch.cat([pixel, moved.nonzero()[:, 0]])
                rank = torch.cat([rank, before[moved]])
                later = rank > found[k][pixel]
                pixel, rank = pixel[later], rank[later]
    index = torch.cat([order, order.new_full((1,), -1)])[found]
    depth = torch.cat([ranked[:, 2], ranked.new_full((1,), torch.inf)])[found]
    index = torch.where(depth > depth[0] + radius, -1, index)
    return index.T.reshape(*size, most).int()


def _covered(points: Tensor, radius: float, K: Tensor, size: tuple[int, int], near: float):
    """Pairs (pixels, ranks) of pixels and the points whose discs cover their centres, in parts."""
    wide = torch.float32 if points.device.type == "mps" else torch.float64
    x, y, z = points.to(wide).unbind(-1)
    (fx, skew, cx), (_, fy, cy), _ = K.tolist()
    usable = points.isfinite().all(-1) & (z >= near)
    z = torch.where(usable, z, 1.0)
    half = 1.000001 * radius / z
    bounds = []
    for centre, extent, side in (
        ((fx * x + skew * y) / z + cx, (abs(fx) + abs(skew)) * half, size[1]),
        (fy * y / z + cy, abs(fy) * half, size[0]),
    ):
        low = (centre - extent - 1e-6 - 0.5).nan_to_num().clamp(0, side).ceil().long()
        high = (centre + extent + 1e-6 - 0.5).nan_to_num().clamp(-1, side - 1).floor().long()
        bounds += [low, (high - low + 1).clamp_min(0) * usable]
    x0, columns, y0, rows = bounds
    ends = (columns * rows).cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _PAIRS):
        pair = torch.arange(start, min(start + _PAIRS, total), device=points.device)
        point = torch.searchsorted(ends, pair, right=True)
        offset = pair - (ends - columns * rows)[point]
        row, column = y0[point] + offset // columns[point], x0[point] + offset % columns[point]
        ray_y = (row + 0.5 - cy) / fy
        ray_x = (column + 0.5 - cx - skew * ray_y) / fx
        dx, dy = ray_x * z[point] - x[point], ray_y * z[point] - y[point]
        inside = dx.square() + dy.square() <= radius * radius
        yield (row * size[1] + column)[inside], point[inside]
