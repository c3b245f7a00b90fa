"""The KITTI metric on as many frames as its val split has."""

from __future__ import annotations

import time

import numpy as np
from rows import Row, at_most

from geodistill.io.kitti import Labels, label_table, make_labels
from geodistill.metrics.kitti import CLASSES, evaluate

FRAMES, SECONDS = 3769, 15.0
NAMES = (*CLASSES, "Van", "DontCare")
SIGMAS = (0, 0, 0.1, *4 * (2.0,), *3 * (0.03,), *3 * (0.08,), 0.05)
"""By which detections miss what labels have: truncation, occlusion, alpha, pixels, size, place,
yaw."""


def rows() -> list[Row]:
    random = np.random.default_rng(0)
    labels = [_frame(random, int(random.integers(4, 13))) for _ in range(FRAMES)]
    found = [_found(random, one) for one in labels]
    started = time.process_time()
    evaluate(labels, found)
    spent = time.process_time() - started
    count = sum(map(len, labels)), sum(map(len, found))
    what = f"KITTI metric, {FRAMES:,} frames, {count[0]:,} labels, {count[1]:,} detections"
    return [at_most(what, spent, SECONDS, "CPU-s", "mmdetection3d, OpenPCDet: need CUDA")]


def _frame(random: np.random.Generator, count: int) -> Labels:
    at = random.uniform([-20, 1.2, 5], [20, 1.9, 65], (count, 3))
    size = random.uniform([1.4, 0.5, 0.8], [1.9, 1.8, 4.2], (count, 3))
    px = 721.5 * np.column_stack([at[:, 0] - 1, at[:, 1] - size[:, 0], at[:, 0] + 1, at[:, 1]])
    px = px / at[:, 2:] + [609, 172, 609, 172]
    turn = random.uniform(-3, 3, count)
    levels = [random.uniform(0, 0.6, count), random.integers(0, 4, count).astype(float), turn]
    names = tuple(str(random.choice(NAMES)) for _ in range(count))
    return make_labels(names, np.column_stack([*levels, px, size, at, turn]))


def _found(random: np.random.Generator, labels: Labels) -> Labels:
    """The labels, moved a little, and as many wrong ones."""
    more = _frame(random, len(labels) + 3)
    names = tuple(name if name in CLASSES else "Car" for name in (*labels.names, *more.names))
    moved = random.normal(label_table(labels), SIGMAS)
    columns = np.concatenate([moved, label_table(more)])
    return make_labels(names, np.column_stack([columns, random.uniform(0, 1, len(names))]))
