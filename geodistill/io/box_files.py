"""Boxes of one scan in a file: JSON, or text as OpenPCDet's custom data sets have it.

Both hold the class and x, y and z of the middle, length, width, height in metres and the yaw in
radians from x towards y, in the scan's frame.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geodistill.checks import InputError, shown
from geodistill.io.whole_file import read_any, read_whole
from geodistill.runs.files import atomic_write

FIELDS = {"center": 3, "size": 3, "yaw": 0}
"""Of a box in JSON: how many numbers each has, 0 for one that is no list."""
_WORDS = 8
_MOST = 1e6  # nothing in a scan is as far away


def read_json_boxes(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Classes and boxes float64 [M, 7] of [{"class": "Car", "center": [x, y, z],
    "size": [l, w, h], "yaw": r}, ...], or of {"boxes": [...]}; other fields are left out.

    Raises InputError naming the box and its field.
    """
    try:
        found = json.loads(read_whole(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no valid JSON ({error}): write it again") from None
    if isinstance(found, dict):
        found = found.get("boxes")
    if not isinstance(found, list):
        raise InputError(f"{path} must hold a list of boxes: an empty one says there are none")
    rows = [_box(box, f"{path}, box {number}") for number, box in enumerate(found, 1)]
    return tuple(name for name, _ in rows), _table([values for _, values in rows])


def json_boxes(names: Sequence[str], boxes: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
    """Boxes [M, 7] with their classes and scores, as they are written: to a millimetre."""
    return [
        {
            "class": name,
            "score": round(float(score), 4),
            "center": [round(float(value), 3) for value in box[:3]],
            "size": [round(float(value), 3) for value in box[3:6]],
            "yaw": round(math.remainder(box[6], 2 * math.pi), 4),
        }
        for name, box, score in zip(names, boxes, scores, strict=True)
    ]


def write_json_boxes(path: Path, boxes: list[dict[str, Any]]) -> None:
    """What `read_json_boxes` reads, atomically."""
    atomic_write(path, (json.dumps(boxes, indent=1) + "\n").encode())


def read_text_boxes(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Classes and boxes float64 [M, 7] of lines "x y z length width height yaw class".

    Raises InputError naming the line. An empty file says that there are no boxes.
    """
    data = read_any(path)
    names, rows = [], []
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = f"{path}, line {number}"
        if len(words) != _WORDS:
            raise InputError(
                f"{where}: {len(words)} columns where x y z length width height yaw class are 8"
            )
        try:
            values = [float(word) for word in words[:7]]
        except ValueError:
            raise InputError(f"{where}: 7 numbers and a class are expected") from None
        _expect_box(values, where)
        names.append(words[7])
        rows.append(values)
    return tuple(names), _table(rows)


def _box(box: Any, where: str) -> tuple[str, list[float]]:
    if not isinstance(box, dict):
        raise InputError(f"{where} is {shown(box)}, no object")
    missing = next((field for field in ("class", *FIELDS) if field not in box), None)
    if missing is not None:
        raise InputError(f"{where} has no field {missing}: class, center, size and yaw are needed")
    name = box["class"]
    if not isinstance(name, str) or len(name.split()) != 1:
        raise InputError(f"{where}: its class is {shown(name)}; it must be one word")
    values = []
    for field, count in FIELDS.items():
        own = box[field] if count else [box[field]]
        if not isinstance(own, list) or len(own) != max(count, 1) or not all(map(_is_number, own)):
            wanted = f"{count} finite numbers" if count else "a finite number"
            raise InputError(f"{where}: its {field} must be {wanted}")
        values += own
    _expect_box(values, where)
    return name, values


def _expect_box(values: list[float], where: str) -> None:
    if not all(-_MOST < value < _MOST for value in values):
        raise InputError(f"{where}: its numbers must be finite, and below a million")
    if min(values[3:6]) <= 0:
        raise InputError(f"{where}: a size of {min(values[3:6]):g}; all three must be above 0")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and bool(-_MOST < value < _MOST)


def _table(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, 7)
