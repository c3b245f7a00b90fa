"""The simulator: how many scans a second, and how near to a real scan they are. Its scans."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from converting.machine import cores
from rows import Row, at_least
from torch import Tensor

from geodistill.detect.datasets.kitti import Kitti
from geodistill.detect.scenes import Scene
from geodistill.fit.detector.batches import Batch
from geodistill.nn.anchor_detector import AnchorDetector
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
    numbers = [
        Row(f"simulated scans, {name}", f"{found[name]:.4g}", "", None, f"KITTI 000008: {real:g}")
        for name, real in REAL.items()
    ]
    return [rate, *numbers]


def simulated_batch(detector: AnchorDetector, scans: int) -> Batch:
    """What a detector trains on, of so many scans."""
    found = [_scene(k) for k in range(scans)]
    boxes, labels = [], []
    for _, own, classes in found:
        boxes.append(own[classes >= 0])
        labels.append(classes[classes >= 0])
    voxels = detector.prepare([points for points, _, _ in found])
    return Batch(voxels, boxes, labels, detector.targets(boxes, labels), None)


def _scene(number: int) -> tuple[Tensor, Tensor, Tensor]:
    found = simulate(SENSORS["hdl-64e"], 0, number)
    scene = Scene(
        str(number),
        torch.from_numpy(found.points),
        found.boxes.float(),
        found.labels.names,
        torch.ones(len(found.boxes), dtype=torch.bool),
    )
    return scene.points, scene.boxes, scene.labels(("Pedestrian", "Cyclist", "Car"))
