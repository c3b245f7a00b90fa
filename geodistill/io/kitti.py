"""Files of the KITTI object benchmark: labels and predictions, one object a line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geodistill.checks import InputError, shown
from geodistill.io.whole_file import read_any
from geodistill.runs.files import atomic_write

COLUMNS = 15
"""Of a label; a prediction has its score behind them."""
UNKNOWN_ALPHA = -10.0
MOST = 1e9
"""The largest absolute value of a number in labels, predictions and calibrations."""
_DIGITS = 4  # behind the point, of labels


@dataclass(frozen=True, eq=False)
class Labels:
    """Objects of one frame, in the order of their lines.

    Attributes:
        names: of their classes, N of them.
        truncation: float64 [N], the part outside of the image, 0 to 1.
        occlusion: float64 [N], 0 (visible) to 2 (largely occluded), 3 for unknown.
        alpha: float64 [N], the observation angle in radians, or
            `UNKNOWN_ALPHA`.
        bbox: float64 [N, 4], left, top, right, bottom in pixels.
        sizes: float64 [N, 3], height, width, length in metres.
        location: float64 [N, 3], the middle of the bottom in the rectified camera's frame (x
            right, y down, z forward), in metres.
        rotation_y: float64 [N], about the camera's y axis, in radians.
        scores: float64 [N]; None for labels.
    """

    names: tuple[str, ...]
    truncation: np.ndarray
    occlusion: np.ndarray
    alpha: np.ndarray
    bbox: np.ndarray
    sizes: np.ndarray
    location: np.ndarray
    rotation_y: np.ndarray
    scores: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)


def make_labels(names: tuple[str, ...], table: np.ndarray) -> Labels:
    """Labels of columns 2 to 15, or 16 where there are scores: float64 [N, 14 or 15]."""
    truncation, occlusion, alpha = table.T[:3]
    bbox, sizes, location = table[:, 3:7], table[:, 7:10], table[:, 10:13]
    scores = table[:, 14] if table.shape[1] == COLUMNS else None
    return Labels(names, truncation, occlusion, alpha, bbox, sizes, location, table[:, 13], scores)


def label_table(labels: Labels) -> np.ndarray:
    """The inverse of `make_labels`."""
    columns = [
        *(labels.truncation, labels.occlusion, labels.alpha),
        *(labels.bbox, labels.sizes, labels.location, labels.rotation_y),
        *([] if labels.scores is None else [labels.scores]),
    ]
    return np.column_stack(columns)


def read_labels(path: Path, scored: bool = False) -> Labels:
    """Read a file of labels, or with `scored` one of predictions. An empty one has no objects.

    Labels may have a 16th column too, which is left out.

    Raises InputError naming the line where it is no such file.
    """
    data = read_any(path)
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text, as files of KITTI labels are") from None
    wanted = (COLUMNS + 1,) if scored else (COLUMNS, COLUMNS + 1)
    names, rows = [], []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) not in wanted:
            raise InputError(
                f"{path}, line {number}: {len(words)} columns where KITTI "
                + ("predictions have 16, the last their score" if scored else "labels have 15")
            )
        names.append(words[0])
        where = f"{path}, line {number}"
        rows.append([_number(word, where) for word in words[1 : wanted[0]]])
    return make_labels(tuple(names), np.array(rows).reshape(len(rows), wanted[0] - 1))


def write_labels(path: Path, labels: Labels) -> None:
    """Write labels or predictions, atomically: of these nine digits, so that they score as they did
    before they were written. Raises InputError where the system refuses."""
    form = f".{_DIGITS}f" if labels.scores is None else ".9g"
    lines = []
    for name, row in zip(labels.names, label_table(labels), strict=True):
        truncation, occlusion, *others = row.tolist()
        numbers = [f"{value:{form}}" for value in others]
        lines.append(" ".join([name, f"{truncation:.2f}", f"{occlusion:.0f}", *numbers]) + "\n")
    atomic_write(path, "".join(lines).encode())


def _number(word: str, where: str) -> float:
    try:
        found = float(word)
    except ValueError:
        found = math.nan
    if not abs(found) <= MOST:
        raise InputError(
            f"{where}: {shown(word)} where a finite number is expected, of at most {MOST:g}"
        )
    return found
