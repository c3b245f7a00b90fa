"""KITTI's object benchmark as scenes, and detections as its predictions.

What the benchmark labels is what the left colour camera sees: only points in its view are kept, and
a detection outside of it is none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import InputError, UsageError
from geodistill.detect.boxes import corners, wrap
from geodistill.detect.datasets import digest_of
from geodistill.detect.scenes import Detections, Scene
from geodistill.io.images import image_info
from geodistill.io.kitti import Labels, read_labels, write_labels
from geodistill.io.kitti_frames import (
    IMAGE_SIZE,
    Calibration,
    read_calibration,
    read_split,
)
from geodistill.io.scans import read_scan
from geodistill.io.whole_file import read_whole
from geodistill.runs import make_folder

NEAR_M = 0.1  # what is nearer to the camera's plane is not projected


@dataclass(frozen=True)
class Kitti:
    """Attributes:
    root: the folder that holds training/ and ImageSets/.
    """

    root: Path
    metric = "kitti"
    views = ("2d", "bev", "3d")

    @cached_property
    def folder(self) -> Path:
        return self.root / "training"

    def frames(self, split: str) -> list[str]:
        """Raises UsageError for a split that there is not, and for the benchmark's own `test`."""
        names = read_split(self.root, split)
        own = not (self.root / "testing").is_dir()
        if split == "test" and not (own and all(self._scan_file(n).is_file() for n in names)):
            raise UsageError(
                f"{self.root}: the frames of 'test' are not in {self.folder.name}/; those of the "
                "benchmark have no labels: name another split"
            )
        return names

    def scene(self, frame: str) -> Scene:
        """Raises InputError naming the file that is missing or is not what it should be."""
        calibration, size = self.calibration(frame), self.image_size(frame)
        points = read_scan(self._scan_file(frame))
        points = points[in_view(points[:, :3], calibration, size)]
        labels = self.labels(frame)
        named = np.array([name != "DontCare" for name in labels.names], bool)
        for number in np.flatnonzero(named & (labels.sizes <= 0).any(1))[:1]:
            height, width, length = labels.sizes[number]
            raise InputError(
                f"{self.folder / 'label_2' / frame}.txt: object {number + 1}, a "
                f"{labels.names[number]}, is {height:g} x {width:g} x {length:g} m: its height, "
                "width and length must be above 0"
            )
        boxes = lidar_boxes(labels, calibration)
        trails = self._trails(frame, len(labels))
        return Scene(
            frame,
            torch.from_numpy(points),
            boxes[torch.from_numpy(named)],
            tuple(name for name in labels.names if name != "DontCare"),
            torch.from_numpy(pastable(labels)[named]),
            None if trails is None else trails[torch.from_numpy(named)],
        )

    def _trails(self, frame: str, count: int) -> Tensor | None:
        """Where the objects are in neighbouring frames, which simulated data sets know."""
        path = self._trail_file(frame)
        if not path.is_file():
            return None
        try:
            boxes = json.loads(read_whole(path))["boxes"]
            if len(boxes) == count:
                trails = torch.tensor(boxes, dtype=torch.float32).reshape(
                    count, -1 if count else 0, 7
                )
                if not trails.isfinite().all():
                    raise ValueError
                return trails
        except (ValueError, KeyError, TypeError, RuntimeError):
            raise InputError(
                f"{path} is no file of trails: each label of {frame} needs boxes of 7 numbers that "
                "are finite"
            ) from None
        raise InputError(
            f"{path} has the trails of {len(boxes)} labels, and {frame} has {count}: change both, "
            "or remove the folder of trails"
        )

    def digest(self, frames: Sequence[str]) -> str:
        parts = (("label_2", "txt"), ("calib", "txt"))
        files = [self.folder / part / f"{frame}.{ext}" for frame in frames for part, ext in parts]
        trails = [path for path in map(self._trail_file, frames) if path.is_file()]
        sizes = [  # they say which points are in view
            f"{frame} {self.image_size(frame)}" for frame in frames if self._image_file(frame)
        ]
        return digest_of([*files, *trails], [self._scan_file(frame) for frame in frames], sizes)

    def _trail_file(self, frame: str) -> Path:
        return self.folder / "trails" / f"{frame}.json"

    def _scan_file(self, frame: str) -> Path:
        return self.folder / "velodyne" / f"{frame}.bin"

    def _image_file(self, frame: str) -> Path | None:
        named = (self.folder / "image_2" / f"{frame}{end}" for end in (".png", ".jpg"))
        return next((path for path in named if path.is_file()), None)

    def labels(self, frame: str) -> Labels:
        return read_labels(self.folder / "label_2" / f"{frame}.txt")

    def calibration(self, frame: str) -> Calibration:
        return read_calibration(self.folder / "calib" / f"{frame}.txt")

    def image_size(self, frame: str) -> tuple[int, int]:
        """Height and width; those of most images where the frame has none."""
        path = self._image_file(frame)
        return IMAGE_SIZE if path is None else image_info(path).size

    def predictions(self, frame: str, found: Detections, classes: Sequence[str]) -> Labels:
        """Detections as the benchmark wants them; those outside of the image are left out."""
        return kitti_predictions(found, classes, self.calibration(frame), self.image_size(frame))

    def write(
        self,
        folder: Path,
        frames: Sequence[str],
        found: Sequence[Detections],
        classes: Sequence[str],
    ) -> None:
        """Detections as the benchmark's files, NAME.txt for each frame."""
        make_folder(folder)
        for frame, one in zip(frames, found, strict=True):
            write_labels(folder / f"{frame}.txt", self.predictions(frame, one, classes))


def lidar_boxes(labels: Labels, calibration: Calibration) -> Tensor:
    """Boxes float32 [N, 7] of labels, in the LiDAR's frame."""
    lidar_from_camera = np.linalg.inv(calibration.camera_from_lidar)
    at = labels.location @ lidar_from_camera[:3, :3].T + lidar_from_camera[:3, 3]
    height, width, length = labels.sizes.T
    yaw = wrap(torch.from_numpy(-labels.rotation_y - math.pi / 2)).numpy()
    middle = at[:, 2] + height / 2
    columns = [at[:, 0], at[:, 1], middle, length, width, height, yaw]
    return torch.from_numpy(np.column_stack(columns).astype(np.float32))


def camera_columns(boxes: Tensor, calibration: Calibration) -> tuple[np.ndarray, ...]:
    """The inverse of `lidar_boxes`: sizes [N, 3], location [N, 3] and rotation_y [N]; and alpha
    [N], the rotation beside the ray from the camera."""
    x, y, z, length, width, height, yaw = boxes.double().numpy().T
    bottom = np.column_stack([x, y, z - height / 2])
    camera = calibration.camera_from_lidar
    location = bottom @ camera[:3, :3].T + camera[:3, 3]
    rotation = wrap(torch.from_numpy(-yaw - math.pi / 2)).numpy()
    alpha = wrap(torch.from_numpy(rotation - np.arctan2(location[:, 0], location[:, 2]))).numpy()
    return np.column_stack([height, width, length]), location, rotation, alpha


def image_boxes(
    boxes: Tensor, calibration: Calibration, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Around the corners of boxes [N, 7] in the image: float64 [N, 4] left, top, right, bottom, not
    clipped, and whether any of it is before the camera and in the image, bool [N]."""
    camera = calibration.camera_from_lidar
    around = corners(boxes.double()).numpy() @ camera[:3, :3].T + camera[:3, 3]  # [N, 8, 3]
    before = around[..., 2] > NEAR_M
    around[..., 2] = np.maximum(around[..., 2], NEAR_M)
    pixels, _ = calibration.project(around)
    found = np.concatenate([pixels.min(1), pixels.max(1)], 1)
    height, width = size
    seen = (found[:, 2] > 0) & (found[:, 3] > 0) & (found[:, 0] < width) & (found[:, 1] < height)
    return found, seen & before.any(1)


def clipped(boxes_px: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes [N, 4] within the image's last pixels."""
    height, width = size
    return np.clip(boxes_px, 0, [width - 1, height - 1, width - 1, height - 1])


def kitti_predictions(
    found: Detections,
    classes: Sequence[str],
    calibration: Calibration,
    size: tuple[int, int],
) -> Labels:
    """Detections in the LiDAR's frame as predictions in the camera's."""
    around, seen = image_boxes(found.boxes, calibration, size)
    kept = torch.from_numpy(seen)
    found = Detections(found.boxes[kept], found.scores[kept], found.labels[kept])
    sizes, location, rotation, alpha = camera_columns(found.boxes, calibration)
    unknown = np.full(len(found), -1.0)
    bbox, scores = clipped(around[seen], size), found.scores.double().numpy()
    names = found.names(classes)
    return Labels(names, unknown, unknown, alpha, bbox, sizes, location, rotation, scores)


def in_view(points: np.ndarray, calibration: Calibration, size: tuple[int, int]) -> np.ndarray:
    """Whether points [N, 3] of the LiDAR's frame are in the camera's image: bool [N]."""
    camera = calibration.camera_from_lidar
    pixels, depth = calibration.project(points @ camera[:3, :3].T + camera[:3, 3])
    height, width = size
    inside = (pixels >= 0) & (pixels < [width, height])
    return inside.all(1) & (depth > NEAR_M)


def pastable(labels: Labels) -> np.ndarray:
    """Objects that the benchmark's hard level counts: bool [N]."""
    height = labels.bbox[:, 3] - labels.bbox[:, 1]
    return (height > 25) & (labels.occlusion <= 2) & (labels.truncation <= 0.5)
