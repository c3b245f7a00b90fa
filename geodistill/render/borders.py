"""Where one surface ends in an image, and another or nothing begins."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill.checks import UsageError, check

JUMP = 4.0
"""Neighbouring pixels this many times farther apart than the pixels beside them belong to different
surfaces."""


def edge_distance_px(hit: Tensor, position: Tensor, limit: int) -> Tensor:
    """Distance to the nearest silhouette or occlusion edge, at most `limit`. [H, W] in pixels

    Args:
        hit: bool [H, W], where anything is seen.
        position: [H, W, 3], where in the world.
        limit: in pixels.

    0 for pixels beside an edge, at which one surface ends and another or nothing begins: neighbours
    are on different surfaces where they are `JUMP` times farther apart in space than the pixels
    beside them. The border of the image is no edge.
    """
    check(hit=(hit, "H W"), position=(position, "H W 3"))
    if limit < 1:
        raise UsageError(f"limit must be at least 1 pixel, got {limit}")
    place = position.detach()
    edge = _beside_jumps(hit, place) | _beside_jumps(hit.T, place.transpose(0, 1)).T
    # The exact transform, one axis after the other (Felzenszwalb and Huttenlocher, 2012).
    squared = torch.where(edge, 0.0, float(limit * limit))
    for axis, border in ((0, (0, 0, limit, limit)), (1, (limit, limit, 0, 0))):
        around = F.pad(squared, border, value=torch.inf)
        for step in range(2 * limit + 1):
            moved = around.narrow(axis, step, squared.shape[axis])
            squared = torch.minimum(squared, moved + (step - limit) ** 2)
    return squared.sqrt()


def _beside_jumps(hit: Tensor, place: Tensor) -> Tensor:
    """Pixels with an edge to their left or right. bool [H, W]"""
    both = hit[:, 1:] & hit[:, :-1]
    apart = (place[:, 1:] - place[:, :-1]).norm(dim=-1) * both
    beside = torch.maximum(F.pad(apart[:, :-1], (1, 0)), F.pad(apart[:, 1:], (0, 1)))
    edge = (hit[:, 1:] != hit[:, :-1]) | (both & (beside > 0) & (apart > JUMP * beside))
    return F.pad(edge, (0, 1)) | F.pad(edge, (1, 0))
