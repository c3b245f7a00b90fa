"""What FieldArrays mean, through geometry.fields, at places of the world."""

from __future__ import annotations

import numpy as np
import torch

from geodistill.geometry.fields import Field
from geodistill.geometry.fields.foreign import field_from_arrays
from geodistill.io.fields import FieldArrays


def evaluate(arrays: FieldArrays, x: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Density per world length [N] and colour [N, 3] at x seen along d, without occupancy."""
    everywhere = np.ones((4, 4, 4), bool)
    return densities_and_colors(field_from_arrays({**arrays, "occupancy": everywhere}, "a"), x, d)


@torch.no_grad()
def densities_and_colors(
    field: Field, x: np.ndarray, d: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    places, directions = torch.from_numpy(x), torch.from_numpy(d).float()
    return field.density(places).numpy(), field.color(places, directions).numpy()
