"""Own scans with boxes, without images or calibration, in one of two layouts.

Plain:                scans/NAME.{bin,npy,pcd}, boxes/NAME.json, splits/SPLIT.txt
OpenPCDet's custom:   points/NAME.{npy,bin,pcd}, labels/NAME.txt, ImageSets/SPLIT.txt

They are measured by KITTI's metric from above and in 3D. Its levels of difficulty are there by the
size and occlusion in an image; here by the points that an object has: at least 50 for easy, 15 for
moderate, 5 for hard; objects with fewer count at no level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import InputError, shown, suggest
from geodistill.detect.boxes import CONVENTIONS, from_convention, inside, to_convention
from geodistill.detect.datasets import digest_of
from geodistill.detect.datasets.kitti import camera_columns
from geodistill.detect.scenes import Detections, Scene
from geodistill.io.box_files import json_boxes, read_json_boxes, read_text_boxes, write_json_boxes
from geodistill.io.json_values import json_object
from geodistill.io.kitti import UNKNOWN_ALPHA, Labels
from geodistill.io.kitti_frames import Calibration, read_split
from geodistill.io.scans import SUFFIXES, read_points
from geodistill.io.whole_file import read_whole
from geodistill.runs import make_folder

SETTINGS = "dataset.json"
LEAST_POINTS = (50, 15, 5)
"""Of an object that counts at the easy, moderate and hard level."""
CAMERA = Calibration(
    np.zeros((3, 4)), np.array([[0, -1.0, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
)
"""Of no camera: its frame alone, x right, y down and z forward of a scan's forward, left, up."""
BBOX_PX = (0.0, 0.0, 100.0, 100.0)  # large enough for each level


class Layout(NamedTuple):
    scans: str
    boxes: str
    suffix: str
    splits: str
    read: Callable[[Path], tuple[tuple[str, ...], np.ndarray]]


PLAIN = Layout("scans", "boxes", ".json", "splits", read_json_boxes)
OPENPCDET = Layout("points", "labels", ".txt", "ImageSets", read_text_boxes)


@dataclass(frozen=True)
class Settings:
    """Of dataset.json, which a data set may have.

    Attributes:
        values: of a point: x, y, z, intensity, and what else there is. With 3 the intensity is 0.
        intensity_scale: what intensities are divided by, that they be from 0 to 1.
        boxes: whose convention they are in, see `detect.boxes.CONVENTIONS`.
    """

    values: int = 4
    intensity_scale: float = 1.0
    boxes: str = "openpcdet"


@dataclass(frozen=True)
class Custom:
    """Attributes:
    root: the folder that holds those of a layout.
    """

    root: Path
    metric = "kitti"
    views = ("bev", "3d")

    @cached_property
    def layout(self) -> Layout:
        return PLAIN if (self.root / PLAIN.scans).is_dir() else OPENPCDET

    @cached_property
    def settings(self) -> Settings:
        """Raises InputError where dataset.json is not what it should be."""
        path = self.root / SETTINGS
        if not path.is_file():
            return Settings()
        found = json_object(read_whole(path), path)
        known = ("values", "intensity_scale", "boxes")
        strange = next((key for key in found if key not in known), None)
        if strange is not None:
            raise InputError(
                f"{path}: nothing is called {shown(strange)}{suggest(strange, known)}; known: "
                + ", ".join(known)
            )
        values, scale = found.get("values", 4), found.get("intensity_scale", 1)
        if type(values) is not int or not 3 <= values <= 64:
            raise InputError(f"{path}: values must be a whole number from 3 to 64")
        if type(scale) not in (int, float) or not 0 < scale < 1e9:
            raise InputError(f"{path}: intensity_scale must be a number above 0")
        boxes = found.get("boxes", Settings.boxes)
        if not isinstance(boxes, str) or boxes not in CONVENTIONS:
            raise InputError(
                f"{path}: boxes must be one of {', '.join(CONVENTIONS)}, got {shown(boxes)}"
            )
        return Settings(values, float(scale), boxes)

    def frames(self, split: str) -> list[str]:
        """Raises UsageError for a split that there is not."""
        return read_split(self.root, split, self.layout.splits)

    def scene(self, frame: str) -> Scene:
        """Raises InputError naming the file that is missing or is not what it should be."""
        points, (names, boxes) = self._points(frame), self._boxes(frame)
        return Scene(frame, points, boxes, names, torch.ones(len(names), dtype=torch.bool))

    def digest(self, frames: Sequence[str]) -> str:
        boxes = (self._box_file(frame) for frame in frames)
        scans = (path for frame in frames for path in self._scan_files(frame))
        return digest_of([self.root / SETTINGS, *boxes], scans)

    def labels(self, frame: str) -> Labels:
        """For KITTI's metric: as occlusion the level at which an object counts, 3 for none."""
        names, boxes = self._boxes(frame)
        counts = inside(self._points(frame)[:, :3], boxes).sum(0).numpy()
        levels = (counts < np.array(LEAST_POINTS)[:, None]).sum(0).astype(float)
        return Labels(names, np.zeros(len(boxes)), levels, *_fields(boxes))

    def predictions(self, frame: str, found: Detections, classes: Sequence[str]) -> Labels:
        """Detections as KITTI's metric wants them."""
        unknown, scores = np.full(len(found), -1.0), found.scores.double().numpy()
        return Labels(found.names(classes), unknown, unknown, *_fields(found.boxes), scores=scores)

    def write(
        self,
        folder: Path,
        frames: Sequence[str],
        found: Sequence[Detections],
        classes: Sequence[str],
    ) -> None:
        """Detections as boxes/NAME.json has labels, in the data set's convention."""
        make_folder(folder)
        for frame, one in zip(frames, found, strict=True):
            boxes = to_convention(one.boxes, self.settings.boxes).numpy()
            written = json_boxes(one.names(classes), boxes, one.scores.numpy())
            write_json_boxes(folder / f"{frame}.json", written)

    def _points(self, frame: str) -> Tensor:
        paths = [path for path in self._scan_files(frame) if path.is_file()]
        if len(paths) != 1:
            there = " and ".join(path.name for path in paths) or "none of " + ", ".join(SUFFIXES)
            folder = self.root / self.layout.scans
            raise InputError(f"{folder} must have one scan of the frame {frame}, it has {there}")
        values, scale = self.settings.values, self.settings.intensity_scale
        if paths[0].suffix == ".pcd" and values > 4:
            raise InputError(
                f"{paths[0]}: of a .pcd file x, y, z and intensity are read, and {SETTINGS} says "
                f"{values} values"
            )
        points = torch.from_numpy(read_points(paths[0], values, scale))
        return points if values > 3 else torch.nn.functional.pad(points, (0, 1))

    def _scan_files(self, frame: str) -> list[Path]:
        """Of which there should be one."""
        return [self.root / self.layout.scans / f"{frame}{end}" for end in SUFFIXES]

    def _box_file(self, frame: str) -> Path:
        return self.root / self.layout.boxes / f"{frame}{self.layout.suffix}"

    def _boxes(self, frame: str) -> tuple[tuple[str, ...], Tensor]:
        path = self._box_file(frame)
        if not path.is_file():
            raise InputError(
                f"{path} is missing: a scan without objects has an empty "
                + ("list, []" if self.layout is PLAIN else "file")
            )
        names, boxes = self.layout.read(path)
        own = from_convention(torch.from_numpy(boxes), self.settings.boxes)
        return names, own.float()


def _fields(boxes: Tensor) -> tuple[np.ndarray, ...]:
    """Of `Labels`, from the observation angle, which is unknown, to rotation_y."""
    sizes, location, rotation, _ = camera_columns(boxes, CAMERA)
    alpha = np.full(len(boxes), UNKNOWN_ALPHA)
    bbox = np.tile(BBOX_PX, (len(boxes), 1))
    return alpha, bbox, sizes, location, rotation
