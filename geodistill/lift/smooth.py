"""Features without detail finer than the teacher's patches."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill import kernels
from geodistill.checks import UsageError, check

MOST_CELLS = 1 << 20
"""Along the longest side of the grid: three such numbers fit one of 64 bits."""


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
    index = index.int().contiguous()
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
    low = positions.amin(dim=0)
    extent = float((positions.amax(dim=0) - low).max())
    place = (positions - low) / max(width * 3**0.5, extent / MOST_CELLS)
    base = place.floor().long()
    part = (place - base).float()
    offsets = torch.cartesian_prod(*[torch.arange(2)] * 3)
    cells, cell = _numbered(base).unique(return_inverse=True)
    corners, corner = (cells[:, None] + _numbered(offsets)).unique(return_inverse=True)
    weights = torch.where(offsets.bool(), part[:, None], 1 - part[:, None]).prod(dim=-1)
    return corner[cell], weights, len(corners)


def _numbered(place: Tensor) -> Tensor:
    """One number for each place int64 [..., 3] from 0 to `MOST_CELLS`; sums stay sums."""
    x, y, z = place.unbind(-1)
    return (x << 42) + (y << 21) + z
