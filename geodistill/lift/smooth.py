"""Features without detail finer than the teacher's patches."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill import kernels
from geodistill.checks import UsageError, check

MOST_CELLS = 128
"""Along the longest side of the grid."""


def smoothed(
    features: Tensor, mass: Tensor, positions: Tensor, width: float, normals: Tensor | None = None
) -> Tensor:
    """Local means on a surface, over about a standard deviation of `width`.

    Elements are spread over the corners of a grid's cells, and what the corners hold is
    interpolated at the elements again. Each corner holds six means, one for each direction along an
    axis that normals can have a share of, so that the two sides of a thin sheet stay apart.
    Source: Chen, Paris and Durand, "Real-time Edge-Aware Image Processing with the Bilateral Grid",
    2007, with the normal in place of the intensity.

    Args:
        features: [N, C].
        mass: [N] >= 0, how much each counts. Elements of zero take what is around them; where there
            is nothing they stay as they are.
        positions: [N, 3].
        width: in units of the positions.
        normals: [N, 3] of unit length, or None where there are none.

    Raises UsageError for a width that is not positive.
    """
    check(features=(features, "N C"), mass=(mass, "N"), positions=(positions, "N 3"))
    if not width > 0:
        raise UsageError(f"the width must be positive, got {width}")
    index, weights, cells = _corners(positions, width)
    if normals is not None:
        check(positions=(positions, "N 3"), normals=(normals, "N 3"))
        side = 2 * torch.arange(3) + (normals < 0)
        index = (6 * index[:, :, None] + side[:, None]).reshape(len(index), -1)
        weights = (weights[:, :, None] * normals.square()[:, None]).reshape(len(index), -1)
        cells = 6 * cells
    index, cells = _compact(index, cells)
    weights = weights.float().contiguous()
    counted = mass.float()[:, None]
    total = kernels.scatter(features.float() * counted, index, weights, cells)
    amount = kernels.scatter(counted, index, weights, cells)
    around = kernels.gather(amount, index, weights)
    mean = kernels.gather(total, index, weights) / around.clamp_min(1e-30)
    return torch.where(around > 0, mean, features.float())


def _corners(positions: Tensor, width: float) -> tuple[Tensor, Tensor, int]:
    """The corners [N, 8] of each position's cell, their trilinear weights, and how many exist.

    Spreading and interpolating are a tent each, of variance h^2 / 6 for cells of side h.
    """
    low, high = positions.amin(dim=0), positions.amax(dim=0)
    side = max(width * 3**0.5, float((high - low).max()) / MOST_CELLS)
    place = (positions - low) / side
    count = (place.amax(dim=0).floor().long() + 2).tolist()
    base = place.floor().long()
    part = place - base
    offsets = torch.cartesian_prod(*[torch.arange(2)] * 3)
    index = base[:, None] + offsets
    weights = torch.where(offsets.bool(), part[:, None], 1 - part[:, None]).prod(dim=-1)
    number = (index[..., 0] * count[1] + index[..., 1]) * count[2] + index[..., 2]
    return number, weights, count[0] * count[1] * count[2]


def _compact(index: Tensor, cells: int) -> tuple[Tensor, int]:
    """Numbers of only those cells that are used, int32 of the same shape."""
    used = torch.zeros(cells, dtype=torch.bool)
    used[index.reshape(-1)] = True
    return (used.cumsum(0) - 1).int()[index], int(used.sum())
