"""Prepared batches in a folder, with what teachers say of them: students that learn from the same
scans share them.

A batch is a function of the recipe and the step, so what is stored is what would be made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geodistill import config, log
from geodistill.checks import InputError, UsageError
from geodistill.detect.targets import Targets, targets_of
from geodistill.fit.detector.batches import Batch, Feed
from geodistill.io.json_values import json_object
from geodistill.io.whole_file import read_whole
from geodistill.nn.anchor_detector import AnchorDetector
from geodistill.nn.bev import Predictions
from geodistill.nn.detector import Detector
from geodistill.nn.point_clouds import PointBatch
from geodistill.nn.point_detector import PointDetector
from geodistill.nn.voxels import Voxels
from geodistill.runs import atomic_write, load_tensors, make_folder, save_tensors
from geodistill.runs.files import remove_leftovers
from geodistill.runs.lock import Lock

KEY, LOCK = "cache.json", ".lock"
Outputs = dict[str, Any]
"""Of a teacher, by tap: tensors or predictions."""


@dataclass(frozen=True, eq=False)
class Store:
    """Attributes:
    folder: with a file for each step.
    key: what the batches are made by; other settings make others.
    teachers: fingerprints, in the order of the recipe's.
    taps: of each teacher, sorted, the parts whose outputs are compared.
    """

    folder: Path
    key: str
    teachers: tuple[str, ...] = ()
    taps: tuple[tuple[str, ...], ...] = ()

    def path(self, step: int) -> Path:
        return self.folder / f"{step // 1000:03d}" / f"{step:06d}.safetensors"

    def has(self, step: int) -> bool:
        return self.path(step).is_file()

    def open(self) -> Lock:
        """Make the folder, or see that it holds the same; for this process alone, until the lock is
        released.

        Raises UsageError for a folder of other settings, of other teachers or other parts of them,
        and where another process is writing into it.
        """
        self._expect_room()
        make_folder(self.folder)
        lock = Lock(self.folder / LOCK)
        try:
            self._expect_room()
            for folder in (self.folder, *(path for path in self.folder.iterdir() if path.is_dir())):
                remove_leftovers(folder)
            if not (self.folder / KEY).is_file():
                made = {"batches": self.key, "teachers": self.teachers, "taps": self.taps}
                atomic_write(self.folder / KEY, (json.dumps(made, indent=1) + "\n").encode())
        except BaseException:
            lock.release()
            raise
        return lock

    def close(self, lock: Lock) -> None:
        """Release it; a folder that got no batch may become another cache."""
        if not any(self.folder.glob("*/*.safetensors")):
            (self.folder / KEY).unlink(missing_ok=True)
            for path in self.folder.glob("[0-9][0-9][0-9]"):
                with suppress(OSError):  # what somebody put into it stays
                    path.rmdir()
        lock.release()

    def _expect_room(self) -> None:
        path = self.folder / KEY
        teachers, taps = list(self.teachers), [list(own) for own in self.taps]
        if path.is_file():
            found = self._found()
            if found["teachers"] != teachers:
                raise self._other(found["teachers"])
            if found["taps"] != taps:
                raise UsageError(
                    f"{self.folder} holds the outputs of its teachers at {_listed(found['taps'])}, "
                    f"not at {_listed(taps)}: make another cache"
                )
        elif self.folder.is_dir() and any(p.name[0] != "." for p in self.folder.iterdir()):
            raise UsageError(f"{self.folder} holds something that is no cache: choose another -o")

    def expect(self, steps: int) -> None:
        """Raise where the folder is no cache, of fewer steps, or of other batches or teachers than
        a student's.

        Where either has no teacher, the batches alone are shared; outputs that are not in it are
        computed, which is said.
        """
        if not (self.folder / KEY).is_file():
            raise InputError(f"{self.folder} is no cache: make it by geodistill cache")
        found = self._found()
        held = found["teachers"]
        if held and self.teachers and held != list(self.teachers):
            raise self._other(held)
        known = found["taps"] if held else [()] * len(self.taps)
        pairs = zip(self.taps, known, strict=False)  # of a student without a teacher there is none
        if missing := [sorted({*own} - {*kept}) for own, kept in pairs if {*own} - {*kept}]:
            log.say(f"{self.folder} has no outputs at {_listed(missing)}: teachers compute them")
        for step in range(steps):
            self._expect(step)

    def _expect(self, step: int) -> None:
        if not self.has(step):
            raise InputError(
                f"{self.path(step)} does not exist: the cache is of fewer steps; the same "
                "geodistill cache with as many epochs as the training makes those that are missing"
            )

    def _found(self) -> dict[str, Any]:
        """What the folder's own file says. Raises InputError where it is damaged, or of a cache
        whose parts are unknown, and UsageError for other batches."""
        try:
            found = json_object(read_whole(self.folder / KEY), KEY)
        except InputError:
            raise InputError(f"{self.folder / KEY} is damaged: make the cache again") from None
        held, taps = found.get("teachers"), found.get("taps")
        if not (
            isinstance(held, list)
            and isinstance(taps, list)
            and len(held) == len(taps)
            and all(isinstance(own, list) for own in taps)
        ):
            raise InputError(
                f"{self.folder / KEY} does not say which outputs of which teachers are there, as "
                "of an older version: make the cache again"
            )
        if found.get("batches") != self.key:
            raise UsageError(
                f"{self.folder} holds the batches of other settings: the data, its frames, seed, "
                "batch, augmentation, grid and anchors must be the same"
            )
        return found

    def _other(self, held: Sequence[str]) -> UsageError:
        def named(teachers: Sequence[str]) -> str:
            return ", ".join(teachers) or "none"

        return UsageError(
            f"{self.folder} holds the outputs of another teacher ({named(held)}) than "
            f"{named(self.teachers)}: make another cache"
        )

    def write(self, step: int, batch: Batch, outputs: Sequence[Outputs]) -> None:
        tensors = _batch_tensors(batch)
        for number, own in enumerate(outputs):
            for tap, value in own.items():
                for part, tensor in _parts(value).items():
                    kept = tensor.half()
                    if not kept.isfinite().all():
                        raise InputError(
                            f"teacher {number} puts out NaN at {tap}, or numbers that half "
                            "precision cannot hold: train with it without a cache"
                        )
                    tensors[f"teacher.{number}.{tap}.{part}"] = kept
        make_folder(self.path(step).parent)
        save_tensors(self.path(step), tensors, {})

    def read(self, step: int, detector: Detector) -> Batch:
        """Raises InputError for a step that is missing or damaged."""
        self._expect(step)
        try:
            tensors, _ = load_tensors(self.path(step))
        except InputError as error:
            reason = str(error).removesuffix("make it again").rstrip(":; ")
            raise InputError(f"{reason}: delete it, and give its geodistill cache again") from None
        try:
            return _batch_of(tensors, detector)
        except KeyError as error:
            raise InputError(
                f"{self.path(step)} is no batch, as it has no {error}: delete it, and give its "
                "geodistill cache again"
            ) from None


def _listed(taps: Sequence[Sequence[str]]) -> str:
    return "; ".join(", ".join(own) for own in taps) or "no part"


def store_key(feed: Feed, detector: Detector) -> str:
    """Of the settings that batches depend on."""
    change = feed.augmentation
    plain = config.to_dict(
        {
            "frames": list(feed.frames),
            "labels": feed.dataset.digest(feed.frames),
            "augmentation": None if change is None else config.to_dict(change),
            "size": feed.size,
            "seed": feed.seed,
            "places": detector.places,
            "learnt": detector.learnt,
        }
    )
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:32]


def _batch_tensors(batch: Batch) -> dict[str, Tensor]:
    inputs = batch.inputs
    tensors = {"points": inputs.points, "counts": inputs.counts.int()}
    if isinstance(inputs, Voxels):
        tensors |= {"voxel": inputs.voxel.int(), "cells": inputs.cells.int()}
    else:
        tensors["seed"] = torch.tensor(inputs.seed)
    for k, (boxes, labels, own) in enumerate(
        zip(batch.boxes, batch.labels, batch.targets, strict=True)
    ):
        tensors |= {f"{k}.boxes": boxes, f"{k}.labels": labels}
        if isinstance(own, Targets):
            tensors[f"{k}.object"] = own.object.to(torch.int16)
        if batch.trails is not None:
            tensors[f"{k}.trails"] = batch.trails[k]
    return tensors


def _batch_of(tensors: dict[str, Tensor], detector: Detector) -> Batch:
    device = detector.device
    tensors = {name: value.to(device) for name, value in tensors.items()}
    scans = sum(name.endswith(".boxes") for name in tensors)
    boxes = [tensors[f"{k}.boxes"] for k in range(scans)]
    labels = [tensors[f"{k}.labels"].long() for k in range(scans)]
    points, counts = tensors["points"], tensors["counts"].long()
    inputs: Voxels | PointBatch
    if isinstance(detector, PointDetector):
        inputs = detector.batch(points, counts, int(tensors["seed"]))
        targets = detector.targets(boxes, labels)
    else:
        cells = tensors["voxel"].long(), tensors["cells"].long()
        inputs = Voxels(points, *cells, counts, scans, detector.settings.grid)
        assert isinstance(detector, AnchorDetector)
        offset = detector.settings.offset
        targets = [
            targets_of(tensors[f"{k}.object"].long(), detector.anchors, own, labels[k], offset)
            for k, own in enumerate(boxes)
        ]
    trails = [tensors[f"{k}.trails"] for k in range(scans) if f"{k}.trails" in tensors]
    return Batch(inputs, boxes, labels, targets, trails or None, _taught(tensors))


def _parts(value: Any) -> dict[str, Tensor]:
    if isinstance(value, Predictions):
        return {"logits": value.logits, "codes": value.codes, "halves": value.halves}
    return {"output": value}


def _taught(tensors: dict[str, Tensor]) -> dict[tuple[int, str], Any]:
    """Outputs by the number of the teacher and the tap."""
    found: dict[tuple[int, str], dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("teacher."):
            _, number, rest = name.split(".", 2)
            tap, part = rest.rsplit(".", 1)
            found.setdefault((int(number), tap), {})[part] = value.float()
    return {key: _whole(parts) for key, parts in found.items()}


def _whole(parts: dict[str, Tensor]) -> Any:
    """What `_parts` has taken apart."""
    return parts["output"] if "output" in parts else Predictions(**parts)
