"""How good a detector is on the scans of a data set, by the data set's own metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from geodistill.detect.scenes import Detections
from geodistill.io.kitti import Labels, write_labels
from geodistill.log import progress
from geodistill.metrics.kitti import KittiReport, evaluate
from geodistill.nn.detector import Detector
from geodistill.runs import make_folder


@torch.no_grad()
def detect(detector: Detector, dataset: Any, frames: Sequence[str]) -> list[Detections]:
    """What a detector finds in frames of a data set."""
    training = detector.training
    detector.eval()
    found = []
    with progress(len(frames), "detecting, scans") as bar:
        for frame in frames:
            voxels = detector.prepare([dataset.scene(frame).points])
            found += detector.detections(detector(voxels))
            bar.advance()
    detector.train(training)
    return found


def measure(
    dataset: Any, frames: Sequence[str], found: Sequence[Detections], classes: Sequence[str]
) -> KittiReport:
    """Average precision of detections by the data set's metric."""
    labels = [dataset.labels(frame) for frame in frames]
    return evaluate(labels, predictions(dataset, frames, found, classes), classes)


def predictions(
    dataset: Any, frames: Sequence[str], found: Sequence[Detections], classes: Sequence[str]
) -> list[Labels]:
    """Detections as the metric reads them."""
    return [
        dataset.predictions(frame, one, classes) for frame, one in zip(frames, found, strict=True)
    ]


def write_predictions(folder: Path, frames: Sequence[str], found: Sequence[Labels]) -> None:
    """One file for each frame, NAME.txt."""
    make_folder(folder)
    for frame, one in zip(frames, found, strict=True):
        write_labels(folder / f"{frame}.txt", one)


def flat(report: KittiReport) -> dict[str, float]:
    """Values such as "Car/3d/AP40/moderate" and "Car/count/moderate"."""
    counts = {f"{name}/count/{level}": n for (name, level), n in report.counts.items()}
    return {**counts, **report.values()}


def headline(values: dict[str, float], classes: Sequence[str]) -> float:
    """The one number by which runs are compared: the mean of the classes' moderate 3D AP40."""
    return sum(values[f"{name}/3d/AP40/moderate"] for name in classes) / len(classes)
