"""Points as lines of text: x y z and further columns, between blanks, commas or semicolons.

Names of the columns stand in the first line, or in a comment before the first point (CloudCompare
writes one). Without names, three columns behind x y z are colours when they are whole numbers up to
255 or lie in [0, 1], and normals when they have length 1; what is left is column_4, column_5, ...
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.columns import NORMAL, RGB, XYZ
from geodistill.io.number_lines import format_lines, number_lines
from geodistill.io.whole_file import read_whole

_COMMENT = re.compile(rb"(?:#|//)[^\n]*")
_SEPARATORS = bytes.maketrans(b",;", b"  ")


def read_text_columns(path: Path) -> dict[str, np.ndarray]:
    """Column name to float64 [N].

    Raises InputError with the number of the line that is no row of numbers, or that has another
    number of columns than the first.
    """
    text = read_whole(path).replace(b"\r\n", b"\n").replace(b"\r", b"\n").translate(_SEPARATORS)
    names, is_comment, start, first = _names(text)
    lines = number_lines(_COMMENT.sub(b"", text[start:]), first)
    if not len(lines.words):
        raise InputError(f"{path} holds no points: it has no line of numbers")
    wide = int(lines.words[0])
    ragged = np.flatnonzero(lines.words != wide)
    if len(ragged):
        at = ragged[0]
        raise InputError(
            f"{path}, line {lines.numbers[at]}: {lines.words[at]} values, but line "
            f"{lines.numbers[0]} has {wide}"
        )
    if wide < 3:
        raise InputError(f"{path}, line {lines.numbers[0]}: {wide} values are no point x y z")
    table = lines.values(len(lines.words), str(path)).reshape(-1, wide)
    if names and len(names) != wide and not is_comment:
        raise InputError(
            f"{path}, line {first - 1}: {len(names)} names, but the points have {wide} values"
        )
    if len(names) != wide:
        names = _guessed(table, path)
    if len({*names}) != wide:
        raise InputError(f"{path}, line {first - 1}: a column's name appears twice")
    return {name: table[:, i] for i, name in enumerate(names)}


def text_of(columns: dict[str, np.ndarray]) -> bytes:
    """The columns with a comment of their names; `read_text_columns` gives the same values."""
    return f"# {' '.join(columns)}\n".encode() + format_lines([*columns.values()])


def _names(text: bytes) -> tuple[list[str], bool, int, int]:
    """Names of columns (or none), whether a comment has them, and where and in which line the
    points begin."""
    names, start, number = [], 0, 1
    while start < len(text):
        end = text.find(b"\n", start) + 1 or len(text)
        line = text[start:end].strip()
        comment = line.startswith((b"#", b"//"))
        words = [word.strip("\"'") for word in line.lstrip(b"#/").decode(errors="replace").split()]
        named = {*XYZ} <= {word.lower() for word in words}
        if not comment and named:
            return words, False, end, number + 1
        if line and not comment:
            break
        if named:
            names = words
        start, number = end, number + 1
    return names, True, start, number


def _guessed(table: np.ndarray, path: Path) -> list[str]:
    names, wide = [*XYZ], table.shape[1]
    while wide - len(names) >= 3:
        triple = table[:, len(names) : len(names) + 3]
        inside = triple.min() >= 0
        unit = np.abs(np.linalg.norm(triple, axis=1) - 1).max() < 0.01
        whole = inside and 1 < triple.max() <= 255 and (np.rint(triple) == triple).all()
        if "nx" not in names and unit:
            names += NORMAL
        elif "red" not in names and (whole or (inside and triple.max() <= 1)):
            names += RGB
        else:
            break
    if len(names) < wide:
        others = [f"column_{i + 1}" for i in range(len(names), wide)]
        log.say(f"{path} does not name its columns: took {', '.join(others)} as attributes")
        names += others
    return names
