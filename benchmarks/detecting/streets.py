"""The simulator: how many scans a second, and how near to a real scan they are. Its scans."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from rows import Row, at_least

from geodistill.detect.augment import example
from geodistill.detect.datasets.kitti import Kitti
from geodistill.detect.scenes import Scene
from geodistill.fit.detector.batches import Batch
from geodistill.nn.anchor_detector import AnchorDetector
from geodistill.runs.environment import cores
from geodistill.simulate.lidar.frame import simulate
from geodistill.simulate.lidar.sensor import SENSORS
from geodistill.simulate.lidar.statistics import REAL, statistics
from geodistill.simulate.lidar.write import Simulation, write_dataset

FRAMES, RATE = 300, 10.0


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "streets"
        started = time.perf_counter()
        write_dataset(root, Simulation(frames=FRAMES), cores())
        spent = time.perf_counter() - started
        dataset = Kitti(root)
        found = statistics(dataset, dataset.frames("trainval"))
    rate = at_least(f"simulated scans a second, {cores()} processes", FRAMES / spent, RATE)
    numbers = []
    for name, real in REAL.items():
        said = f"{found[name]:,.{0 if real > 100 else 3}f}"
        numbers.append(Row(f"simulated scans, {name}", said, "", None, f"KITTI 000008: {real:g}"))
    return [rate, *numbers]


def simulated_batch(detector: AnchorDetector, scans: int) -> Batch:
    """What a detector trains on, of so many scans."""
    found = [example(_scene(k), detector.classes) for k in range(scans)]
    boxes, labels = [one.boxes for one in found], [one.labels for one in found]
    inputs = detector.prepare([one.points for one in found])
    return Batch(inputs, boxes, labels, detector.targets(boxes, labels), None)


def _scene(number: int) -> Scene:
    found = simulate(SENSORS["hdl-64e"], 0, number)
    pastable = torch.ones(len(found.boxes), dtype=torch.bool)
    points, boxes = torch.from_numpy(found.points), found.boxes.float()
    return Scene(str(number), points, boxes, found.labels.names, pastable)
