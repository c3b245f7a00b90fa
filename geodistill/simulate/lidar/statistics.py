"""What scans are like in numbers, beside those of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geodistill.detect.datasets import Dataset
from geodistill.nn.pointpillars import KITTI_GRID as PILLARS
from geodistill.nn.second import KITTI_GRID as VOXELS
from geodistill.nn.voxels import voxelize

REAL = {
    "points": 17_238.0,
    "pillars": 3_945.0,
    "points per pillar": 4.3,
    "single-point pillars": 0.36,
    "voxels": 13_092.0,
    "single-point voxels": 0.80,
}
"""Of a scan of KITTI (000008)."""
RINGS_M = (0, 10, 20, 30, 40, 50, 70)


def statistics(dataset: Dataset, frames: Sequence[str]) -> dict[str, Any]:
    """Means over scans, as `REAL` has them; the share of points at each distance; objects of each
    class in a scan."""
    rows, rings, names = [], np.zeros(len(RINGS_M) - 1), []
    for frame in frames:
        scene = dataset.scene(frame)
        pillars = voxelize([scene.points], PILLARS).counts
        voxels = voxelize([scene.points], VOXELS).counts
        rows.append(
            [
                *(len(scene.points), len(pillars), float(pillars.float().mean())),
                float((pillars == 1).float().mean()),
                *(len(voxels), float((voxels == 1).float().mean())),
            ]
        )
        away = scene.points[:, :2].norm(dim=1).numpy()
        rings += np.histogram(away, RINGS_M)[0] / max(len(away), 1) / len(frames)
        names += scene.names
    found: dict[str, Any] = dict(zip(REAL, np.mean(rows, 0).tolist(), strict=True))
    ranges = zip(RINGS_M[:-1], RINGS_M[1:], rings, strict=True)
    found["points by distance"] = {f"{a} to {b} m": round(float(n), 4) for a, b, n in ranges}
    found["objects"] = {name: names.count(name) / len(frames) for name in sorted(set(names))}
    return found
