"""Data sets of scans with boxes, each in its own layout."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from geodistill.checks import InputError
from geodistill.detect.scenes import Detections, Scene

LAYOUTS = {
    "training/velodyne": "geodistill.detect.datasets.kitti:Kitti",
    "v1.0-*/sample_annotation.json": "geodistill.detect.datasets.nuscenes:Nuscenes",
    "sample_annotation.json": "geodistill.detect.datasets.nuscenes:Nuscenes",
    "scans": "geodistill.detect.datasets.custom:Custom",
    "points": "geodistill.detect.datasets.custom:Custom",
}
"""A file or folder (a pattern) by which a data set is known, and its class."""


class Dataset(Protocol):
    @property
    def root(self) -> Path:
        """Its folder."""
        ...

    @property
    def metric(self) -> str:
        """By which detections in it are measured: "kitti" or "nuscenes"."""
        ...

    @property
    def views(self) -> tuple[str, ...]:
        """What KITTI's metric compares of its boxes: of "2d", "bev" and "3d"."""
        ...

    def frames(self, split: str) -> list[str]:
        """Names of the frames of a split. Raises UsageError for a split that there is not."""
        ...

    def scene(self, frame: str) -> Scene:
        """Raises InputError naming the file that is missing or is not what it should be."""
        ...

    def digest(self, frames: Sequence[str]) -> str:
        """A fingerprint of the frames' labels and of the sizes of their scans, wherever the folder
        is."""
        ...

    def labels(self, frame: str) -> Any:
        """What the metric compares predictions with: `Labels`, or `Objects` of nuScenes."""
        ...

    def predictions(self, frame: str, found: Detections, classes: Sequence[str]) -> Any:
        """Detections as the metric compares them, of the same kind."""
        ...

    def write(
        self,
        folder: Path,
        frames: Sequence[str],
        found: Sequence[Detections],
        classes: Sequence[str],
    ) -> None:
        """Detections as files: as the benchmark wants them, or as the data set has its labels."""
        ...


def open_dataset(root: Path) -> Dataset:
    """The data set in a folder, by its layout.

    Raises InputError for a folder that is none.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder of a data set of scans")
    for pattern, name in LAYOUTS.items():
        if any(root.glob(pattern)):
            module, _, kind = name.partition(":")
            return getattr(import_module(module), kind)(root)
    known = ", ".join(LAYOUTS)
    raise InputError(f"{root} is no data set of scans: none of {known} is in it")


def digest_of(files: Iterable[Path], scans: Iterable[Path], others: Iterable[str] = ()) -> str:
    """Of the names of files, the contents of small ones and the sizes of scans; one that is missing
    counts as empty. And of other things that examples depend on."""
    found = hashlib.sha256()
    for path in files:
        data = path.read_bytes() if path.is_file() else b""
        found.update(f"{path.name} {len(data)} ".encode() + data)
    for path in scans:
        found.update(f"{path.name} {path.stat().st_size if path.is_file() else 0} ".encode())
    for one in others:
        found.update(one.encode())
    return found.hexdigest()[:32]
