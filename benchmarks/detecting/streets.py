"""The simulator: how many scans a second, and how near to a real scan they are."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from rows import Row, at_least

from geodistill.detect.datasets.kitti import Kitti
from geodistill.simulate.lidar.statistics import REAL, statistics
from geodistill.simulate.lidar.write import Simulation, write_dataset

FRAMES, RATE = 300, 10.0


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "streets"
        started = time.perf_counter()
        write_dataset(root, Simulation(frames=FRAMES), len(os.sched_getaffinity(0)))
        spent = time.perf_counter() - started
        dataset = Kitti(root)
        found = statistics(dataset, dataset.frames("trainval"))
    cores = len(os.sched_getaffinity(0))
    rate = at_least(f"simulated scans a second, {cores} processes", FRAMES / spent, RATE)
    numbers = [
        Row(f"simulated scans, {name}", f"{found[name]:.4g}", "", None, f"KITTI 000008: {real:g}")
        for name, real in REAL.items()
    ]
    return [rate, *numbers]
