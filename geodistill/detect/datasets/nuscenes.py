"""nuScenes in its own layout as scenes: key frames with the sweeps before them, moved to where the
vehicle is.

A frame is a sample, named by its token. Scans, boxes and detections are in the frame of the
sample's LiDAR (x right, y forward, z up); the metric compares in the global frame.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import InputError, UsageError, suggest
from geodistill.detect.boxes import inside
from geodistill.detect.datasets.nuscenes_results import write_results
from geodistill.detect.datasets.nuscenes_splits import splits
from geodistill.detect.objects import Objects
from geodistill.detect.scenes import Detections, Scene
from geodistill.geometry.splats import rotation_matrices
from geodistill.io.kitti_frames import split_names
from geodistill.io.nuscenes import Tables, read_tables
from geodistill.io.scans import read_scan
from geodistill.runs import make_folder

NAMES = {
    "movable_object.barrier": "barrier",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
}
"""The benchmark's classes of the categories that it measures."""
RACK, RACKED = "static_object.bicycle_rack", ("bicycle", "motorcycle")
VALUES = 5
OWN_M = 1.0  # what is nearer, along both axes, is the vehicle itself
MOST_DETECTIONS = 500
LONGEST_S = 1.5  # between two samples, for a velocity


@dataclass(frozen=True)
class Nuscenes:
    """Attributes:
    root: the folder that holds v1.0-*/ and samples/, or that version's folder in it.
    sweeps: how many turns of the LiDAR make a scan, its own and those before it.
    """

    root: Path
    sweeps: int = 10
    metric = "nuscenes"
    views = ()

    @cached_property
    def version(self) -> Path:
        """The folder of the tables. Raises UsageError where several could be meant."""
        if (self.root / "sample_annotation.json").is_file():
            return Path(os.path.abspath(self.root))  # what links are named counts
        found = sorted(path.parent for path in self.root.glob("v1.0-*/sample_annotation.json"))
        if not found:
            raise InputError(f"{self.root} is no folder of nuScenes: it has no v1.0-*/")
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise UsageError(f"{self.root} has {names}: name one of these folders, as {found[0]}")
        return found[0]

    @cached_property
    def tables(self) -> Tables:
        return read_tables(self.version)

    @cached_property
    def _samples(self) -> dict[str, int]:
        return {token: place for place, token in enumerate(self.tables.samples)}

    @cached_property
    def _key_sweeps(self) -> dict[int, int]:
        """Of samples, places among the sweeps."""
        places = np.flatnonzero(self.tables.sweeps.key)
        return dict(zip(self.tables.sweeps.sample[places].tolist(), places.tolist(), strict=True))

    @cached_property
    def _boxes_of(self) -> tuple[np.ndarray, np.ndarray]:
        """Annotations sample by sample, and where each sample begins."""
        own = self.tables.annotations.sample
        order = np.argsort(own, kind="stable")
        return order, np.searchsorted(own[order], np.arange(len(self.tables.samples) + 1))

    @cached_property
    def _neighbours(self) -> tuple[np.ndarray, np.ndarray]:
        """Of annotations: the same object's before it and after it, its own where there is none."""
        tables = self.tables
        own, time = tables.annotations.instance, tables.sample_time_us[tables.annotations.sample]
        order = np.lexsort((time, own))
        same = np.flatnonzero(np.diff(own[order]) == 0)
        before, after = (np.arange(len(order)) for _ in range(2))
        before[order[same + 1]], after[order[same]] = order[same], order[same + 1]
        return before, after

    def frames(self, split: str) -> list[str]:
        """Tokens of the samples of a split: of splits/SPLIT.txt, names of scenes one a line, where
        there is such a file, or else as the benchmark splits the version.

        Raises UsageError for a split that there is not.
        """
        scenes = self._scenes(split)
        tables = self.tables
        places = [k for k, name in enumerate(tables.scenes) if name in scenes]
        chosen = np.isin(tables.sample_scene, places)
        if not chosen.any():
            raise InputError(f"{self.version} has no sample of the split '{split}'")
        return [tables.samples[place] for place in np.flatnonzero(chosen).tolist()]

    def _scenes(self, split: str) -> set[str]:
        everything = set(self.tables.scenes)
        path = self.version.parent / "splits" / f"{split}.txt"
        if path.is_file():
            named = set(split_names(path))
            lost = sorted(named - everything)
            if lost:
                raise InputError(f"{path}: {lost[0]} is no scene of {self.version}")
            return named
        known = splits(self.version.name, everything)
        if split not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise UsageError(
                f"{self.version} has no split '{split}'{suggest(split, known)} (known: {listed}): "
                f"write the names of its scenes into {path}, one a line"
            )
        return known[split]

    def scene(self, frame: str) -> Scene:
        """Points have five values: the last is how long ago they were measured, in seconds.

        Raises InputError naming the file that is missing or is not what it should be.
        """
        tables, key = self.tables, self._key_sweep(frame)
        own = self._annotations(frame)
        boxes = self._lidar_boxes(key, own)
        before, after = (self._lidar_boxes(key, part[own]) for part in self._neighbours)
        return Scene(
            frame,
            torch.from_numpy(self._points(key)),
            boxes,
            tuple(NAMES.get(kind, kind) for kind in self._categories(own)),
            torch.from_numpy(tables.annotations.points[own, 0] > 0),
            torch.stack([before, after], 1),
        )

    def digest(self, frames: Sequence[str]) -> str:
        """Of the boxes of frames and those of the frames around, their classes, the sizes of their
        own turns of the LiDAR, and how many make a scan."""
        found = hashlib.sha256(f"{self.sweeps}".encode())
        for frame in frames:
            own = self._annotations(frame)
            names = " ".join(self._categories(own))
            found.update(f" {frame} {len(own)} {names} ".encode())
            for part in (own, *(around[own] for around in self._neighbours)):
                found.update(self.tables.annotations.boxes[part].tobytes())
            found.update(self.tables.annotations.points[own].tobytes())
            path = self.version.parent / self.tables.sweeps.files[self._key_sweep(frame)]
            found.update(f" {path.stat().st_size if path.is_file() else 0}".encode())
        return found.hexdigest()[:32]

    def labels(self, frame: str) -> Objects:
        """What the metric counts, in the global frame: of bicycles and motorcycles those that are
        in no rack."""
        tables, key = self.tables, self._key_sweep(frame)
        found = tables.annotations
        own = self._annotations(frame)
        kinds = self._categories(own)
        several = found.attribute[own] < 0
        if any(kind in NAMES and wrong for kind, wrong in zip(kinds, several, strict=True)):
            raise InputError(f"{self.version}: an object of {frame} has several attributes")
        boxes = found.boxes[own]
        objects = Objects(
            tuple(NAMES.get(kind, kind) for kind in kinds),
            boxes[:, :3],
            boxes[:, [4, 3, 5]],
            _yaws(_rotations(boxes[:, 6:])),
            self._distances(key, boxes),
            self._velocities(own),
            tuple(found.attributes[k] if k >= 0 else "" for k in found.attribute[own].tolist()),
            points=found.points[own].sum(1),
        )
        return self._free_of_racks(frame, objects)

    def predictions(self, frame: str, found: Detections, classes: Sequence[str]) -> Objects:
        """Detections as the metric compares them: the best 500, in the global frame, without
        velocities and attributes."""
        best = slice(MOST_DETECTIONS)
        key = self._key_sweep(frame)
        boxes = found.boxes[best].double().numpy()
        pose = self._global_from_lidar([key])[0]
        turned = np.zeros((len(boxes), 3))
        turned[:, 0], turned[:, 1] = np.cos(boxes[:, 6]), np.sin(boxes[:, 6])
        turned = turned @ pose[:3, :3].T
        centers = boxes[:, :3] @ pose[:3, :3].T + pose[:3, 3]
        objects = Objects(
            found.names(classes)[best],
            centers,
            boxes[:, 3:6],
            np.arctan2(turned[:, 1], turned[:, 0]),
            self._distances(key, centers),
            scores=found.scores[best].double().numpy(),
        )
        return self._free_of_racks(frame, objects)

    def write(
        self,
        folder: Path,
        frames: Sequence[str],
        found: Sequence[Detections],
        classes: Sequence[str],
    ) -> None:
        """Detections as the benchmark's one file, results.json."""
        make_folder(folder)
        pairs = zip(frames, found, strict=True)
        objects = [self.predictions(frame, one, classes) for frame, one in pairs]
        write_results(folder / "results.json", frames, objects)

    def _key_sweep(self, frame: str) -> int:
        sample = self._samples.get(frame)
        if sample is None:
            raise UsageError(f"{self.version} has no sample {frame}: frames are tokens of samples")
        if sample not in self._key_sweeps:
            raise InputError(f"{self.version} has no LiDAR scan of the sample {frame}")
        return self._key_sweeps[sample]

    def _annotations(self, frame: str) -> np.ndarray:
        order, starts = self._boxes_of
        sample = self._samples[frame]
        return order[starts[sample] : starts[sample + 1]]

    def _categories(self, own: np.ndarray) -> list[str]:
        found = self.tables.annotations
        return [found.categories[k] for k in found.instance[own].tolist()]

    def _points(self, key: int) -> np.ndarray:
        sweeps = self.tables.sweeps
        first = max(int(np.searchsorted(sweeps.scene, sweeps.scene[key])), key - self.sweeps + 1)
        places = range(key, first - 1, -1)
        poses = self._global_from_lidar([*places])
        parts = []
        for place, pose in zip(places, np.linalg.inv(poses[0]) @ poses, strict=True):
            path = self.version.parent / sweeps.files[place]
            points = read_scan(path, VALUES)
            points = points[(np.abs(points[:, :2]) >= OWN_M).any(1)]
            points[:, :3] = points[:, :3] @ pose[:3, :3].T + pose[:3, 3]
            points[:, 3] /= 255
            points[:, 4] = 1e-6 * (sweeps.time_us[key] - sweeps.time_us[place])
            parts.append(points)
        return np.concatenate(parts)

    def _global_from_lidar(self, places: list[int]) -> np.ndarray:
        """float64 [L, 4, 4] of sweeps."""
        sweeps = self.tables.sweeps
        vehicle, lidar = sweeps.global_from_vehicle[places], sweeps.vehicle_from_lidar[places]
        return _matrices(vehicle) @ _matrices(lidar)

    def _lidar_boxes(self, key: int, own: np.ndarray) -> Tensor:
        """float32 [M, 7] of annotations, in the frame of a sweep."""
        boxes = self.tables.annotations.boxes[own]
        pose = self._global_from_lidar([key])[0]
        centers = (boxes[:, :3] - pose[:3, 3]) @ pose[:3, :3]
        yaws = _yaws(pose[:3, :3].T @ _rotations(boxes[:, 6:]))
        table = np.column_stack([centers, boxes[:, [4, 3, 5]], yaws])
        return torch.from_numpy(table.astype(np.float32))

    def _distances(self, key: int, centers: np.ndarray) -> np.ndarray:
        """Along the ground from the vehicle's origin, which is not the LiDAR."""
        away = centers[:, :2] - self.tables.sweeps.global_from_vehicle[key, :2]
        return np.hypot(away[:, 0], away[:, 1])

    def _velocities(self, own: np.ndarray) -> np.ndarray:
        """float64 [M, 2] in the global frame, between the samples before and after; NaN where there
        is neither, or they are too far apart."""
        tables = self.tables
        before, after = (part[own] for part in self._neighbours)
        at, sample = tables.annotations.boxes[:, :2], tables.annotations.sample
        time = tables.sample_time_us[sample]
        seconds = 1e-6 * (time[after] - time[before])
        spans = (before != own).astype(np.int64) + (after != own)
        known = (spans > 0) & (seconds > 0) & (seconds <= LONGEST_S * spans)
        found = np.full((len(own), 2), np.nan)
        found[known] = (at[after] - at[before])[known] / seconds[known, None]
        return found

    def _free_of_racks(self, frame: str, objects: Objects) -> Objects:
        """Without the bicycles and motorcycles in racks, which nobody has labelled one by one."""
        found = self.tables.annotations
        own = self._annotations(frame)
        racks = own[np.array([kind == RACK for kind in self._categories(own)], bool)]
        boxes = found.boxes[racks]
        yaws = _yaws(_rotations(boxes[:, 6:]))
        table = torch.from_numpy(np.column_stack([boxes[:, :3], boxes[:, [4, 3, 5]], yaws]))
        racked = inside(torch.from_numpy(objects.centers), table).any(1).numpy()
        return objects.chosen(~(racked & np.isin(objects.names, RACKED)))


def _rotations(quaternions: np.ndarray) -> np.ndarray:
    """float64 [N, 3, 3] of w, x, y, z [N, 4]."""
    return rotation_matrices(torch.from_numpy(quaternions)).numpy()


def _matrices(poses: np.ndarray) -> np.ndarray:
    """float64 [N, 4, 4] of translations and quaternions [N, 7]."""
    found = np.tile(np.eye(4), (len(poses), 1, 1))
    found[:, :3, :3], found[:, :3, 3] = _rotations(poses[:, 3:]), poses[:, :3]
    return found


def _yaws(rotations: np.ndarray) -> np.ndarray:
    """float64 [N], where the first axes of [N, 3, 3] point seen from above."""
    return np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])
