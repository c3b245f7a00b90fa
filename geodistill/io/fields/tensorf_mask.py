"""TensoRF's mask of empty space: bits at nodes, depth by height by width (z, y, x).

Between nodes it is interpolated linearly, and all above zero is not empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError
from geodistill.io.fields.boxes import placed
from geodistill.io.fields.occupancy import (
    CELLS,
    cells_from_nodes,
    nodes_from_cells,
    within_box,
)
from geodistill.io.fields.values import finite

_MOST = 2**28


def occupancy_of(
    path: Path, checkpoint: Mapping[str, Any], world_from_field: NDArray, box: Sequence[float]
) -> NDArray[np.bool_] | None:
    """The cells that the mask of a checkpoint reaches into; None where it has no mask.

    Raises InputError for a mask that contradicts itself.
    """
    if "alphaMask.aabb" not in checkpoint:
        return None
    where = f"{path}: its alphaMask"
    aabb = finite(checkpoint, "alphaMask.aabb", str(path), (2, 3))
    placed(aabb[0], aabb[1], where)
    nodes = _nodes(checkpoint, where)
    low, high = ((corner - world_from_field[:3, 3]) / world_from_field[0, 0] for corner in aabb)
    cells = cells_from_nodes(nodes, low, (high - low) / (np.array(nodes.shape) - 1))
    return within_box(cells, box) if box else cells


def mask_entries(
    occupancy: NDArray[np.bool_], low: NDArray, high: NDArray
) -> dict[str, NDArray | tuple[int, ...]]:
    """The mask that says the same as occupied cells [G, G, G] of the cube from low to high [3].

    "alphaMask.shape", "alphaMask.mask" and "alphaMask.aabb" of a checkpoint, the last one as an
    array [2, 3].
    """
    cells = occupancy
    if len(cells) > CELLS:
        spacing = 2.0 / len(cells)
        cells = cells_from_nodes(cells, [spacing / 2 - 1] * 3, [spacing] * 3, 0.5)
    nodes = nodes_from_cells(cells).transpose(2, 1, 0)
    return {
        "alphaMask.shape": (1, 1, *nodes.shape),
        "alphaMask.mask": np.packbits(nodes.reshape(-1)),
        "alphaMask.aabb": np.stack([low, high]).astype(np.float32),
    }


def _nodes(checkpoint: Mapping[str, Any], where: str) -> NDArray[np.bool_]:
    """bool [X, Y, Z]"""
    import torch

    shape, bits = checkpoint.get("alphaMask.shape"), checkpoint.get("alphaMask.mask")
    if isinstance(bits, torch.Tensor):
        bits = bits.numpy() if bits.dtype == torch.uint8 else None
    sizes = [n if isinstance(n, int) else -1 for n in shape] if isinstance(shape, tuple) else []
    if len(sizes) < 3 or not isinstance(bits, np.ndarray) or bits.dtype != np.uint8:
        raise InputError(f"{where} has no shape [depth, height, width] or no bits: it is damaged")
    count = math.prod(sizes)
    fits = min(sizes[-3:]) >= 2 and not set(sizes[:-3]) - {1} and count <= _MOST
    if not fits or bits.shape != (-(-count // 8),):
        raise InputError(
            f"{where} of shape {sizes} does not fit its {bits.size} bytes of bits: it is damaged"
        )
    return np.unpackbits(bits, count=count).view(bool).reshape(sizes[-3:]).transpose(2, 1, 0)
