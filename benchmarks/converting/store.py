"""Where measurements are kept: one line of JSON per cell; fields and pictures in a cache."""

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
from converting.speed import conversion_seconds
from geodistill.checks import InputError
from geodistill.runs import atomic_write, jsonable

FORMAT = 2
"""Raise it when the meaning of a record changes."""
ENTRY_POINTS = {
    "fit": ("geodistill.fit.field", "geodistill.metrics.fidelity"),
    "convert": ("geodistill.distill.pvd", "geodistill.metrics.fidelity"),
    "scratch": ("geodistill.fit.field", "geodistill.metrics.fidelity"),
    "remake": (
        "geodistill.convert.splat_field",
        "geodistill.distill.meshes",
        "geodistill.distill.pvd",
        "geodistill.distill.splats",
        "geodistill.metrics.fidelity",
    ),
}
SUFFIXES = {"splats": ".ply", "mesh": ".glb", "points": ".ply"}
"""Of the files of scenes that are no fields."""
SAME_LIMIT = 1.25
"""What was limited by a conversion's time stands while its limit is within this factor of what it
would be now."""


class Store:
    """Records of cells: what was measured, with which code, and the newest figures.

    Attributes:
        folder: where fields, pictures and unfinished runs are.
        scenes: folder of the data sets.
        records: file of the records, which need nothing else to be read.
        keep_stale: accept records of older code where there is none of today's.
        max_others: cores that other processes may have used during an acceptable measurement.
    """

    def __init__(
        self,
        folder: Path,
        scenes: Path,
        records: Path | None = None,
        keep_stale: bool = False,
        max_others: float | None = None,
    ) -> None:
        self.folder, self.scenes = folder, scenes
        self.records = records or folder / "records.jsonl"
        self._known = _read(self.records)
        self.keep_stale, self.max_others = keep_stale, max_others
        self._code = {kind: sources.fingerprint(*names) for kind, names in ENTRY_POINTS.items()}
        self._scene_marks: dict[str, str] = {}

    def fingerprint(self, cell: Cell) -> str:
        """What a record of this cell made now would depend on besides the cell itself."""
        if cell.kind in ("convert", "remake"):
            assert cell.teacher is not None
            taught = self.record(cell.teacher)
            origin = taught["field_digest"] if taught else "none"
        else:
            origin = self._scene_mark(cell.scene)
        return digest(f"{FORMAT} {self._code[cell.kind]} {origin}".encode())

    def path(self, cell: Cell, suffix: str, fingerprint: str | None = None) -> Path:
        return self.folder / f"{cell.name}.{fingerprint or self.fingerprint(cell)}{suffix}"

    def record(self, cell: Cell) -> dict[str, Any] | None:
        """The record that stands for the cell, or None. `stale` in it says if the code is older."""
        record = self._known.get(cell.name)
        if record is None or not self.stands(cell, record):
            return None
        stale = record["fingerprint"] != self.fingerprint(cell)
        return {**record, "stale": stale} if self.keep_stale or not stale else None

    def has_made(self, cell: Cell) -> bool:
        """Whether what a recorded cell has made is still in the cache."""
        record = self.record(cell)
        if record is None:
            return False
        made = self.made(cell, record)
        return (made / "DONE").is_file() if cell.kind == "fit" else made.is_file()

    def made(self, cell: Cell, record: Mapping[str, Any] | None = None) -> Path:
        """What a cell has made, or that a record is about: a run folder of a fit, else a file."""
        suffix = SUFFIXES.get(cell.target.architecture, ".safetensors")
        fingerprint = record["fingerprint"] if record else None
        return self.path(cell, ".run" if cell.kind == "fit" else suffix, fingerprint)

    def save(self, cell: Cell, record: Mapping[str, Any]) -> None:
        """Keep a record; fields and pictures of the cell made by older code are given up."""
        fingerprint = record["fingerprint"]
        # Another process may have measured other cells meanwhile.
        self._known = {**_read(self.records), cell.name: jsonable(record)}
        lines = [json.dumps({"name": n, **r}) for n, r in sorted(self._known.items())]
        self.records.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self.records, ("\n".join(lines) + "\n").encode())
        for old in self.folder.glob(f"{cell.name}.*"):
            # The run folder of a curve is no more than a place to resume from.
            if fingerprint in old.name.split(".") and cell.kind != "scratch":
                continue
            if old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    old.unlink()

    def expected_seconds(self, cell: Cell) -> float:
        """How long the cell took last time, or is assumed to take."""
        known = self._known.get(cell.name)
        return cell.assumed_seconds() if known is None else float(known["cell_seconds"])

    def stands(self, cell: Cell, record: Mapping[str, Any]) -> bool:
        """Whether a record of this cell still says what the cell asks."""
        others = record.get("others_cores")
        if self.max_others is not None and others is not None and others > self.max_others:
            return False
        return cell.reference is None or self._answers(cell, record)

    def _answers(self, cell: Cell, record: Mapping[str, Any]) -> bool:
        """Whether the limit is what the reference conversion makes of it now, and a curve from
        scratch reaches what that conversion reached, or went on as long as it had to."""
        assert cell.reference is not None and cell.limit is not None
        reference = self.record(cell.reference)
        if reference is None:
            return False
        taken = reference["seconds"]
        if cell.kind == "scratch":
            taken = conversion_seconds(record, reference)
        now = cell.limit.amount * taken
        if not now / SAME_LIMIT <= record["budget_seconds"] <= now * SAME_LIMIT:
            return False
        if cell.kind != "scratch":
            return True
        best = max(psnr for _, _, psnr in record["curve"])
        return best >= reference["truth_psnr_db"] or record["ended"] == "limit"

    def _scene_mark(self, scene: str) -> str:
        if scene not in self._scene_marks:
            root = self.scenes / scene
            files = [root / f"transforms_{split}.json" for split in ("train", "test")]
            files += sorted([*root.glob("train/*.png"), *root.glob("test/*.png")])
            content = b"".join(file.read_bytes() for file in files if file.is_file())
            self._scene_marks[scene] = digest(content)
        return self._scene_marks[scene]


def digest(content: bytes) -> str:
    """Eight hex digits that change with the content."""
    return hashlib.sha256(content).hexdigest()[:8]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Records by name.

    Raises:
        InputError: a line is no record.
    """
    if not path.exists():
        return {}
    known = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            known[record.pop("name")] = record
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError(f"{path}, line {number} is no record of a measurement") from None
    return known
