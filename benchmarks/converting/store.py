"""Where measurements are kept: one JSON file per cell and code fingerprint, results beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converting import sources
from converting.cells import Cell
from geodistill.runs import atomic_write, jsonable

FORMAT = 1
"""Raise it when the meaning of a record changes."""
ENTRY_POINTS = {
    "fit": ("geodistill.fit.field", "geodistill.metrics.fidelity"),
    "convert": ("geodistill.distill.pvd", "geodistill.metrics.fidelity"),
    "scratch": ("geodistill.fit.field", "geodistill.metrics.fidelity"),
}
SAME_LIMIT = 1.25
"""A run from scratch stays valid while its limit is within this factor of what it would be now."""


class Store:
    """Records of cells, found by what was measured and by the code that it depends on.

    Attributes:
        folder: where the files are.
        scenes: folder of the data sets.
        keep_stale: accept records of older code where there is none of today's.
        max_others: cores that other processes may have used during an acceptable measurement.
    """

    def __init__(
        self,
        folder: Path,
        scenes: Path,
        keep_stale: bool = False,
        max_others: float | None = None,
    ) -> None:
        self.folder, self.scenes = folder, scenes
        self.keep_stale, self.max_others = keep_stale, max_others
        self._code = {kind: sources.fingerprint(*names) for kind, names in ENTRY_POINTS.items()}
        self._scene_marks: dict[str, str] = {}

    def fingerprint(self, cell: Cell) -> str:
        """What a record of this cell made now would depend on besides the cell itself."""
        if cell.kind == "convert":
            assert cell.teacher is not None
            taught = self.record(cell.teacher)
            origin = f"{taught['fingerprint']} {taught['date']}" if taught else "none"
        else:
            origin = self._scene_mark(cell.scene)
        return _digest(f"{FORMAT} {self._code[cell.kind]} {origin}".encode())

    def path(self, cell: Cell, suffix: str, fingerprint: str | None = None) -> Path:
        return self.folder / f"{cell.name}.{fingerprint or self.fingerprint(cell)}{suffix}"

    def record(self, cell: Cell) -> dict[str, Any] | None:
        """The record that stands for the cell, or None. `stale` in it says if the code is older."""
        current = self.fingerprint(cell)
        record = _read(self.path(cell, ".json", current))
        if record is not None and self._stands(cell, record):
            return {**record, "stale": False}
        if not self.keep_stale:
            return None
        known = [r for r in self._all(cell) if self._stands(cell, r)]
        if not known:
            return None
        return {**max(known, key=lambda r: r["date"]), "stale": True}

    def field_file(self, cell: Cell, record: Mapping[str, Any]) -> Path:
        """The field that a record is about: a run folder of a fit, a file of a conversion."""
        suffix = ".run" if cell.kind == "fit" else ".safetensors"
        return self.path(cell, suffix, record["fingerprint"])

    def save(self, cell: Cell, record: Mapping[str, Any]) -> None:
        """Keep a record; fields and pictures of the cell made by older code are given up."""
        fingerprint = record["fingerprint"]
        text = json.dumps(jsonable(record), indent=1) + "\n"
        atomic_write(self.path(cell, ".json", fingerprint), text.encode())
        for old in self.folder.glob(f"{cell.name}.*"):
            # The run folder of a curve is no more than a place to resume from.
            if fingerprint in old.name.split(".") and cell.kind != "scratch":
                continue
            if old.suffix == ".run":
                shutil.rmtree(old, ignore_errors=True)
            elif old.suffix in (".safetensors", ".png"):
                with contextlib.suppress(OSError):
                    old.unlink()

    def expected_seconds(self, cell: Cell) -> float:
        """How long the cell took last time, or is assumed to take."""
        known = self._all(cell)
        if not known:
            return cell.assumed_seconds()
        return float(max(known, key=lambda r: r["date"])["cell_seconds"])

    def _all(self, cell: Cell) -> list[dict[str, Any]]:
        found = (_read(path) for path in self.folder.glob(f"{cell.name}.*.json"))
        return [record for record in found if record is not None]

    def _stands(self, cell: Cell, record: Mapping[str, Any]) -> bool:
        """Whether a record of this cell still says what the cell asks."""
        others = record.get("others_cores")
        if self.max_others is not None and others is not None and others > self.max_others:
            return False
        if cell.kind == "fit":
            return (self.field_file(cell, record) / "DONE").is_file()
        return cell.kind != "scratch" or self._answers(cell, record)

    def _answers(self, cell: Cell, record: Mapping[str, Any]) -> bool:
        """Whether a curve reaches what its conversion reached, or went on as long as it had to."""
        assert cell.reference is not None and cell.limit is not None
        reference = self.record(cell.reference)
        if reference is None:
            return False
        now = cell.limit.amount * reference["seconds"]
        if not now / SAME_LIMIT <= record["limit_seconds"] <= now * SAME_LIMIT:
            return False
        best = max(psnr for _, _, psnr in record["curve"])
        return best >= reference["truth_psnr_db"] or record["ended"] == "limit"

    def _scene_mark(self, scene: str) -> str:
        if scene not in self._scene_marks:
            names = ("scene.json", "transforms_train.json", "transforms_test.json")
            files = [self.scenes / scene / name for name in names]
            content = b"".join(file.read_bytes() for file in files if file.is_file())
            self._scene_marks[scene] = _digest(content)
        return self._scene_marks[scene]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
