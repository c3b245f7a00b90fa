"""Sheets of scans seen from above."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geodistill.detect.datasets import Dataset
from geodistill.detect.picture import COLORS, LABELLED, Outlines, bird_view, outlines_of, range_view
from geodistill.detect.scenes import Detections, Scene
from geodistill.nn.detector import Detector

AREA = (0.0, -25.0, 50.0, 25.0)
CLASSES = ("Car", "Pedestrian", "Cyclist", "Van", "Truck")


def labelled_sheet(dataset: Dataset, frames: Sequence[str]) -> Tensor:
    """Scans with their labels, a colour for each class, from above and from the sensor; two beside
    each other."""
    views = []
    for frame in frames:
        scene = dataset.scene(frame)
        names = [*CLASSES, *(name for name in dict.fromkeys(scene.names) if name not in CLASSES)]
        outlines = [
            Outlines(
                scene.boxes[[k for k, own in enumerate(scene.names) if own == name]],
                COLORS[number % len(COLORS)],
            )
            for number, name in enumerate(names)
        ]
        above = bird_view(scene.points, outlines, AREA)
        views.append(torch.cat([above, range_view(scene.points, outlines)[:, : above.shape[1]]]))
    return sheet(views)


def detected_sheet(
    dataset: Dataset, frames: Sequence[str], found: Sequence[Detections], detector: Detector
) -> Tensor:
    """The first four scans of these, with their labels and what a detector found."""
    views = [
        compared(dataset.scene(frame), one, detector.classes, detector.area)
        for frame, one in zip(frames[:4], found, strict=False)
    ]
    return sheet(views)


def compared(
    scene: Scene,
    found: Detections,
    classes: Sequence[str],
    area: tuple[float, float, float, float],
) -> Tensor:
    """A scan in the area of a detector, with its labels (white, dashed) and what was found."""
    known = [k for k, name in enumerate(scene.names) if name in classes]
    labels = Outlines(scene.boxes[known], LABELLED, dashed=True)
    return bird_view(scene.points, [*outlines_of(found, classes), labels], area)


def sheet(views: Sequence[Tensor], gap: int = 8) -> Tensor:
    """Pictures of one size two beside each other, with lines between them."""
    rows = []
    for k in range(0, len(views), 2):
        pair = [*views[k : k + 2]]
        if len(pair) == 1 and len(views) > 1:
            pair.append(torch.ones_like(pair[0]))
        parts = [pair[0]]
        for other in pair[1:]:
            parts += [torch.ones(len(other), gap, 3), other]
        rows.append(torch.cat(parts, 1))
    parts = [rows[0]]
    for row in rows[1:]:
        parts += [torch.ones(gap, row.shape[1], 3), row]
    return torch.cat(parts)
