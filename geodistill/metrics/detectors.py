"""How good a detector is on the scans of a data set, by the data set's own metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from geodistill.checks import UsageError
from geodistill.detect.scenes import Detections
from geodistill.log import progress
from geodistill.metrics import kitti, nuscenes
from geodistill.metrics.kitti import KittiReport
from geodistill.metrics.nuscenes import NuscenesReport
from geodistill.metrics.nuscenes_results import write_results
from geodistill.nn.detector import Detector
from geodistill.runs import make_folder

Report = KittiReport | NuscenesReport


@torch.no_grad()
def detect(detector: Detector, dataset: Any, frames: Sequence[str]) -> list[Detections]:
    """What a detector finds in frames of a data set."""
    training = detector.training
    detector.eval()
    found = []
    with progress(len(frames), "detecting, scans") as bar:
        for frame in frames:
            inputs = detector.prepare([dataset.scene(frame).points])
            found += detector.detections(detector(inputs))
            bar.advance()
    detector.train(training)
    return found


def measure(
    dataset: Any, frames: Sequence[str], found: Sequence[Detections], classes: Sequence[str]
) -> Report:
    """How good detections are by the data set's metric."""
    return compared(dataset, frames, predictions(dataset, frames, found, classes), classes)


def compared(
    dataset: Any,
    frames: Sequence[str],
    predicted: Sequence[Any],
    classes: Sequence[str],
    overlaps: dict[str, float] | None = None,
) -> Report:
    """Predictions beside the labels of frames.

    Raises UsageError for overlaps with a metric that has none.
    """
    expect_overlaps(dataset, overlaps)
    if dataset.metric == "nuscenes":
        truths = [dataset.truths(frame) for frame in frames]
        return nuscenes.evaluate(truths, predicted, classes)
    labels = [dataset.labels(frame) for frame in frames]
    return kitti.evaluate(labels, predicted, classes, overlaps, dataset.views)


def expect_measurable(dataset: Any, frames: Sequence[str]) -> None:
    """Read what measuring on frames needs, so that what is wrong with it is said before a training.

    Raises InputError naming the file.
    """
    with progress(len(frames), "held-out scans") as bar:
        for frame in frames:
            dataset.scene(frame)
            (dataset.truths if dataset.metric == "nuscenes" else dataset.labels)(frame)
            bar.advance()


def expect_overlaps(dataset: Any, overlaps: dict[str, float] | None) -> None:
    """Raise UsageError for overlaps with a metric that has none."""
    if dataset.metric == "nuscenes" and overlaps is not None:
        raise UsageError("the nuScenes metric is of distances: overlaps do not go with it")


def predictions(
    dataset: Any, frames: Sequence[str], found: Sequence[Detections], classes: Sequence[str]
) -> list[Any]:
    """Detections as the metric reads them: `Labels` or `Objects`."""
    return [
        dataset.predictions(frame, one, classes) for frame, one in zip(frames, found, strict=True)
    ]


def write_detections(
    folder: Path,
    dataset: Any,
    frames: Sequence[str],
    found: Sequence[Detections],
    classes: Sequence[str],
) -> None:
    """As the benchmark wants them, one file for each frame (NAME.txt) for KITTI, results.json for
    nuScenes; of own scans as JSON, boxes as in their labels (NAME.json)."""
    make_folder(folder)
    if dataset.metric == "nuscenes":
        objects = predictions(dataset, frames, found, classes)
        write_results(folder / "results.json", frames, objects)
        return
    for frame, one in zip(frames, found, strict=True):
        dataset.write(folder, frame, one, classes)


def flat(report: Report) -> dict[str, float]:
    """Values such as "Car/3d/AP40/moderate" and "Car/count/moderate", or "car/AP", "car/count" and
    "mAP". And "score", the one number by which runs are compared: the mean of the classes'
    moderate 3D AP40, or nuScenes' mAP."""
    values = report.values()
    if isinstance(report, NuscenesReport):
        counts = {f"{name}/count": n for name, n in report.counts.items()}
        return {"score": values["mAP"], **counts, **values}
    counts = {f"{name}/count/{level}": n for (name, level), n in report.counts.items()}
    names = dict.fromkeys(name for name, _ in report.counts)
    score = sum(values[f"{name}/3d/AP40/moderate"] for name in names) / len(names)
    return {"score": score, **counts, **values}
