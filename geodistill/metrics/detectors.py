"""How good a detector is on the scans of a data set, by the data set's own metric."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from geodistill.checks import UsageError
from geodistill.detect.datasets import Dataset
from geodistill.detect.scenes import Detections
from geodistill.log import progress
from geodistill.metrics import kitti, nuscenes
from geodistill.metrics.kitti import KittiReport
from geodistill.metrics.nuscenes import NuscenesReport
from geodistill.nn.detector import Detector

Report = KittiReport | NuscenesReport


@torch.no_grad()
def detect(detector: Detector, dataset: Dataset, frames: Sequence[str]) -> list[Detections]:
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
    dataset: Dataset,
    frames: Sequence[str],
    found: Sequence[Detections],
    detected: Sequence[str],
    names: Sequence[str] | None = None,
    overlaps: dict[str, float] | None = None,
) -> Report:
    """How good detections are by the data set's metric.

    Args:
        detected: the detector's classes.
        names: of the classes that are measured; None: all of these.
        overlaps: see `kitti.evaluate`; nuScenes' metric has none.
    """
    names = detected if names is None else names
    labels = [dataset.labels(frame) for frame in frames]
    pairs = zip(frames, found, strict=True)
    predicted = [dataset.predictions(frame, one, detected) for frame, one in pairs]
    if dataset.metric == "nuscenes":
        return nuscenes.evaluate(labels, predicted, names)
    return kitti.evaluate(labels, predicted, names, overlaps, dataset.views)


def expect_measurable(dataset: Dataset, frames: Sequence[str]) -> None:
    """Read what measuring on frames needs, so that what is wrong with it is said before a training.

    Raises InputError naming the file.
    """
    with progress(len(frames), "held-out scans") as bar:
        for frame in frames:
            dataset.scene(frame)
            dataset.labels(frame)
            bar.advance()


def expect_overlaps(dataset: Dataset, overlaps: dict[str, float] | None) -> None:
    """Raise UsageError for overlaps with a metric that has none."""
    if dataset.metric == "nuscenes" and overlaps is not None:
        raise UsageError("the nuScenes metric is of distances: overlaps do not go with it")


def flat(report: Report) -> dict[str, float]:
    """Values such as "Car/3d/AP40/moderate" and "Car/count/moderate", or "car/AP", "car/count" and
    "mAP". And "score", the one number by which runs are compared: the mean of the classes'
    moderate 3D AP40, of those that have moderate objects, or nuScenes' mAP."""
    values = report.values()
    if isinstance(report, NuscenesReport):
        counts = {f"{name}/count": n for name, n in report.counts.items()}
        return {"score": values["mAP"], **counts, **values}
    counts = {f"{name}/count/{level}": n for (name, level), n in report.counts.items()}
    there = [name for (name, level), n in report.counts.items() if level == "moderate" and n]
    score = sum(values[f"{name}/3d/AP40/moderate"] for name in there) / max(len(there), 1)
    return {"score": score, **counts, **values}
