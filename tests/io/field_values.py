"""What a field in arrays is in the user's world, through geodistill's own fields."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from geodistill.geometry.fields.foreign import field_from_arrays
from geodistill.io.fields import FieldArrays


def values(arrays: FieldArrays, world: np.ndarray, directions: np.ndarray):
    """Density per world unit [N], without the occupancy grid, and colour [N, 3]."""
    field = field_from_arrays({**arrays, "occupancy": np.ones((1, 1, 1), bool)}, "the test's file")
    with torch.no_grad():
        x, d = torch.from_numpy(world), torch.from_numpy(directions)
        return field.density(x).numpy().astype(float), field.color(x, d).numpy().astype(float)


def occupied(arrays: FieldArrays, world: np.ndarray) -> np.ndarray:
    """Which places [N, 3] the occupancy grid keeps."""
    grid, matrix = arrays["occupancy"], arrays["world_from_field"]
    assert grid is not None
    u = (world - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T
    cell = np.floor((u + 1) * (len(grid) / 2)).astype(int)
    return grid[tuple(cell.T)]


def directions(count: int, seed: int = 0) -> np.ndarray:
    d = np.random.default_rng(seed).normal(size=(count, 3))
    return d / np.linalg.norm(d, axis=1, keepdims=True)


def mutations(content: bytes, seeds: int):
    """The content with flipped, inserted, removed and overwritten bytes, and cut off."""
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        damaged = bytearray(content)
        # headers lie at the front of one format and at the end of the other
        near = min(len(content), 4096)
        at = int(rng.choice([rng.integers(near), rng.integers(len(content) - near, len(content))]))
        size = int(rng.integers(1, 9))
        kind = seed % 5
        if kind == 0:
            damaged[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            damaged[at : at + size] = rng.bytes(size)
        elif kind == 2:
            damaged[at:at] = rng.bytes(size)
        elif kind == 3:
            del damaged[at : at + size]
        else:
            del damaged[at:]
        yield bytes(damaged)


def write(files: dict[str, bytes | list[bytes]], path: Path) -> Path:
    (content,) = files.values()
    path.write_bytes(content if isinstance(content, bytes) else b"".join(content))
    return path
