"""A small KITTI tree: boxes of points on a plane, cars and pedestrians of their usual sizes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from geodistill.detect.datasets.kitti import camera_columns, clipped, image_boxes
from geodistill.detect.overlap import shared_area
from geodistill.io.kitti import make_labels, write_labels
from geodistill.io.kitti_frames import (
    IMAGE_SIZE,
    Calibration,
    write_calibration,
)
from geodistill.io.scans import write_scan
from geodistill.runs import make_folder

SIZES = {"Car": (3.9, 1.6, 1.56), "Pedestrian": (0.8, 0.6, 1.73), "Cyclist": (1.76, 0.6, 1.73)}
GROUND_M = -1.73

CALIBRATION = Calibration(
    np.array([[721.5, 0, 609.6, 44.9], [0, 721.5, 172.9, 0.2], [0, 0, 1, 0.003]]),
    np.array([[0, -1.0, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]]),
)


def write_kitti(root: Path, train: int, val: int, seed: int = 0, reach_m: float = 35.0) -> Path:
    """Write frames 000000 ..; the folder is returned."""
    for part in ("velodyne", "label_2", "calib"):
        make_folder(root / "training" / part)
    make_folder(root / "ImageSets")
    names = [f"{k:06d}" for k in range(train + val)]
    for k, name in enumerate(names):
        random = np.random.default_rng([seed, k])
        boxes, classes = _boxes(random, reach_m)
        points = _points(random, boxes, reach_m)
        write_scan(root / "training" / "velodyne" / f"{name}.bin", points)
        write_calibration(root / "training" / "calib" / f"{name}.txt", CALIBRATION)
        write_labels(root / "training" / "label_2" / f"{name}.txt", labelled(boxes, classes))
    (root / "ImageSets" / "train.txt").write_text("\n".join(names[:train]) + "\n")
    (root / "ImageSets" / "val.txt").write_text("\n".join(names[train:]) + "\n")
    return root


def labelled(boxes: torch.Tensor, classes: list[str]):
    """Labels of boxes that are wholly visible."""
    around, _ = image_boxes(boxes, CALIBRATION, IMAGE_SIZE)
    sizes, location, rotation, alpha = camera_columns(boxes, CALIBRATION)
    none = np.zeros(len(boxes))
    px = clipped(around, IMAGE_SIZE)
    return make_labels(
        tuple(classes), np.column_stack([none, none, alpha, px, sizes, location, rotation])
    )


def _boxes(random: np.random.Generator, reach_m: float) -> tuple[torch.Tensor, list[str]]:
    boxes, classes = torch.zeros(0, 7), []
    while len(boxes) < 6:
        name = list(SIZES)[int(random.integers(3))]
        x = random.uniform(6, reach_m)
        y = random.uniform(-0.5, 0.5) * x
        size = torch.tensor(SIZES[name]) * float(random.uniform(0.9, 1.1))
        box = torch.tensor([x, y, GROUND_M + float(size[2]) / 2, *size, 0.0])
        box[6] = random.uniform(-math.pi, math.pi)
        wider = box[None] + torch.tensor([0, 0, 0, 1.0, 1.0, 0, 0])
        if not (shared_area(wider, boxes) > 0).any():
            boxes, classes = torch.cat([boxes, box[None].float()]), [*classes, name]
    return boxes, classes


def _points(random: np.random.Generator, boxes: torch.Tensor, reach_m: float) -> np.ndarray:
    parts = []
    for box in boxes.numpy():
        on = random.uniform(-0.5, 0.5, (150, 3))
        axis = random.integers(3, size=150)
        on[np.arange(150), axis] = np.sign(on[np.arange(150), axis]) * 0.49
        local = on * box[3:6]
        cos, sin = math.cos(box[6]), math.sin(box[6])
        x, y = local[:, 0] * cos - local[:, 1] * sin, local[:, 0] * sin + local[:, 1] * cos
        parts.append(np.column_stack([x, y, local[:, 2]]) + box[:3])
    x = random.uniform(3, reach_m, 1500)
    ground = np.column_stack([x, x * random.uniform(-0.6, 0.6, 1500), np.full(1500, GROUND_M)])
    xyz = np.concatenate([*parts, ground])
    return np.column_stack([xyz, random.uniform(0, 1, len(xyz))]).astype(np.float32)
