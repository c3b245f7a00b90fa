"""How good a detector is on the scans of a data set, by the data set's own metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from geodistill.detect.scenes import Detections
from geodistill.io.kitti import Labels, write_labels
from geodistill.log import progress
from geodistill.metrics import kitti
from geodistill.nn.detector import Detector
from geodistill.runs import make_folder


@torch.no_grad()
def detect(detector: Detector, dataset: Any, frames: Sequence[str]) -> list[Detections]:
    """What a detector, in eval mode, finds in frames of a data set."""
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
    dataset: Any,
    frames: Sequence[str],
    found: Sequence[Detections],
    classes: Sequence[str],
    folder: Path | None = None,
) -> dict[str, float]:
    """Flat values of the data set's metric, such as "Car/3d/AP40/moderate".

    Args:
        folder: where predictions are written, one file a frame; None for nowhere.
    """
    predictions = [
        dataset.predictions(frame, one, classes) for frame, one in zip(frames, found, strict=True)
    ]
    if folder is not None:
        _write(folder, frames, predictions)
    labels = [dataset.labels(frame) for frame in frames]
    report = kitti.evaluate(labels, predictions, classes)
    counts = {f"{name}/count/{level}": n for (name, level), n in report.counts.items()}
    return {**counts, **report.values()}


def headline(values: dict[str, float], classes: Sequence[str]) -> float:
    """The one number by which runs are compared: the mean of the classes' moderate 3D AP40."""
    return sum(values[f"{name}/3d/AP40/moderate"] for name in classes) / len(classes)


def _write(folder: Path, frames: Sequence[str], predictions: Sequence[Labels]) -> None:
    make_folder(folder)
    for frame, one in zip(frames, predictions, strict=True):
        write_labels(folder / f"{frame}.txt", one)
