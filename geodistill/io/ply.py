"""PLY files as plain arrays: any elements and properties, text and binary (Turk 1994).

ply.elements["vertex"]["x"]              # [N] in the type that the file gives it
ply.elements["face"]["vertex_indices"]   # ListColumn(counts [F], values [sum of counts])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.columns import row_blocks
from geodistill.io.number_lines import NumberLines, number_lines
from geodistill.io.ply_header import (
    FORMATS,
    LONGEST_HEADER,
    TYPE_NAMES,
    Element,
    Header,
    Property,
    parse_header,
)
from geodistill.io.whole_file import read_start, read_whole

MAGIC = b"ply"


class ListColumn(NamedTuple):
    """A list property: row i holds `counts[i]` of the `values`, which follow row after row."""

    counts: np.ndarray  # int64 [N]
    values: np.ndarray  # [sum of counts]


Column = np.ndarray | ListColumn


@dataclass(frozen=True, eq=False)
class PlyFile:
    """What a PLY file holds.

    Attributes:
        elements: element name to property name to its column.
        comments: the comment and obj_info lines of the header.
        format: "ascii", "binary_little_endian" or "binary_big_endian".
    """

    elements: dict[str, dict[str, Column]]
    comments: tuple[str, ...]
    format: str


def read_ply(path: Path | str) -> PlyFile:
    """Read a PLY file. Bytes behind its last element are ignored, with one line that says so.

    Raises:
        InputError: missing, not a PLY file, a header or an element that is not as the format
            wants it, or fewer bytes than the header declares.
    """
    path = Path(path)
    data = read_whole(path, MAGIC, "a PLY file")
    header = parse_header(path, data)
    if header.format == "ascii":
        lines = number_lines(data[header.size :], header.lines + 1)
        elements, left = _read_text(path, header.elements, lines)
    else:
        body = memoryview(data)[header.size :]
        elements, left = _read_binary(path, header.elements, body, FORMATS[header.format])
    if left:
        unit = "lines" if header.format == "ascii" else "bytes"
        log.say(f"{path}: ignored {left} {unit} behind the last element")
    return PlyFile(elements, header.comments, header.format)


def read_ply_header(path: Path | str) -> Header:
    """What a PLY file declares, without reading its rows. Raises InputError like `read_ply`."""
    path = Path(path)
    return parse_header(path, read_start(path, LONGEST_HEADER, MAGIC, "a PLY file"))


# Binary


def _read_binary(
    path: Path, described: Sequence[Element], body: memoryview, order: str
) -> tuple[dict[str, dict[str, Column]], int]:
    """The elements, and how many bytes are left behind them."""
    elements, position = {}, 0
    for element in described:
        _expect_room(path, element, len(body) - position, element.smallest_row(), "bytes")
        rows = body[position:]
        counts = _uniform_counts(element, rows, order)
        if counts is not None:
            kind = row_type(element, counts, order)
            table = np.frombuffer(rows, kind, element.count) if kind.itemsize else np.empty(0, kind)
            elements[element.name] = _of_table(table, element.properties)
            position += element.count * kind.itemsize
        else:
            columns, size = _read_ragged(path, element, rows, order)
            elements[element.name] = columns
            position += size
    return elements, len(body) - position


def row_type(element: Element, counts: Sequence[int], order: str) -> np.dtype:
    """The layout of a row whose lists have the lengths `counts`."""
    fields, remaining = [], list(counts)
    for p in element.properties:
        if p.count_kind is None:
            fields.append((p.name, order + p.kind))
        else:
            fields.append((p.name + " n", order + p.count_kind))
            fields.append((p.name, order + p.kind, (remaining.pop(0),)))
    return np.dtype(fields)


def _of_table(table: np.ndarray, properties: Sequence[Property]) -> dict[str, Column]:
    """The columns of a structured array, contiguous and in the machine's byte order."""
    found: dict[str, np.ndarray] = {
        p.name: np.empty((len(table), *table.dtype[p.name].shape), p.kind) for p in properties
    }
    for rows in row_blocks(len(table)):
        part = table[rows]
        for name, values in found.items():
            values[rows] = part[name]
    lists = {p.name for p in properties if p.count_kind is not None}
    return {
        name: ListColumn(np.full(len(values), values.shape[1], np.int64), values.reshape(-1))
        if name in lists
        else values
        for name, values in found.items()
    }


def _uniform_counts(element: Element, rows: memoryview, order: str) -> list[int] | None:
    """The lengths of a row's lists where every row has the same, as in a triangle mesh."""
    if not any(p.count_kind for p in element.properties):
        return []
    if not element.count:
        return [0 for p in element.properties if p.count_kind]
    counts, position = [], 0
    for p in element.properties:
        if p.count_kind is not None:
            size = np.dtype(p.count_kind).itemsize
            if position + size > len(rows):
                return None
            counts.append(int(np.frombuffer(rows, order + p.count_kind, 1, position)[0]))
            position += size + max(0, counts[-1]) * np.dtype(p.kind).itemsize
        else:
            position += np.dtype(p.kind).itemsize
    if min(counts) < 0 or position * element.count > len(rows):
        return None
    table = np.frombuffer(rows, row_type(element, counts, order), element.count)
    lists = [p.name for p in element.properties if p.count_kind]
    same = all((table[name + " n"] == n).all() for name, n in zip(lists, counts, strict=True))
    return counts if same else None


def _read_ragged(
    path: Path, element: Element, rows: memoryview, order: str
) -> tuple[dict[str, Column], int]:
    """Walk from row to row, then gather each property's bytes at once."""
    byte_order = "little" if order == "<" else "big"
    steps = [
        (
            np.dtype(p.kind).itemsize,
            np.dtype(p.count_kind).itemsize if p.count_kind else 0,
            p.count_kind is not None and p.count_kind[0] == "i",
        )
        for p in element.properties
    ]
    starts: list[list[int]] = [[] for _ in steps]
    counts: list[list[int]] = [[] for _ in steps]
    position = 0
    for row in range(element.count):
        for index, (size, count_size, signed) in enumerate(steps):
            n = 1
            if count_size:
                count = rows[position : position + count_size]
                n = int.from_bytes(count, byte_order, signed=signed)
                position += count_size
            if n < 0 or position + n * size > len(rows):
                name = element.properties[index].name
                raise InputError(
                    f"{path} is truncated or damaged: row {row} of its element '{element.name}' "
                    f"has {n} values of {name}, with {max(0, len(rows) - position)} bytes left"
                )
            starts[index].append(position)
            counts[index].append(n)
            position += n * size
    columns: dict[str, Column] = {}
    letters = np.frombuffer(rows, np.uint8)
    for p, at, n, (size, _, _) in zip(element.properties, starts, counts, steps, strict=True):
        lengths = np.array(n, np.int64)
        gathered = letters[runs(np.array(at, np.int64), lengths * size)]
        values = gathered.view(order + p.kind).astype(p.kind)
        columns[p.name] = values if p.count_kind is None else ListColumn(lengths, values)
    return columns, position


def runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The indices starts[i], starts[i] + 1, ..., lengths[i] of them, for every i in turn."""
    ends = lengths.cumsum()
    return np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)


# Text


def _read_text(
    path: Path, described: Sequence[Element], lines: NumberLines
) -> tuple[dict[str, dict[str, Column]], int]:
    """The elements, and how many lines are left behind them. A row is a line."""
    with_rows = [element for element in described if element.properties]
    left = len(lines.words)
    for element in with_rows:
        _expect_room(path, element, left, 1, "lines")
        left -= element.count
    values = lines.values(len(lines.words) - left, str(path))
    elements: dict[str, dict[str, Column]] = {element.name: {} for element in described}
    line, word = 0, 0
    for element in with_rows:
        words = lines.words[line : line + element.count]
        numbers = lines.numbers[line : line + element.count]
        mine = values[word : word + int(words.sum())]
        elements[element.name] = _text_columns(path, element, mine, words, numbers)
        line, word = line + element.count, word + len(mine)
    return elements, left


def _text_columns(
    path: Path, element: Element, values: np.ndarray, words: np.ndarray, numbers: np.ndarray
) -> dict[str, Column]:
    row_ends = words.cumsum()
    at, columns = row_ends - words, {}
    for p in element.properties:
        _expect_words(path, element, at < row_ends, words, numbers)
        n = np.ones(len(words), np.int64)
        if p.count_kind is not None:
            n = _converted(path, element, p.name, values[at], p.count_kind, numbers).astype(int)
            at = at + 1
            _expect_words(path, element, (n >= 0) & (at + n <= row_ends), words, numbers)
        column = _converted(
            path, element, p.name, values[runs(at, n)], p.kind, np.repeat(numbers, n)
        )
        columns[p.name] = column if p.count_kind is None else ListColumn(n, column)
        at = at + n
    _expect_words(path, element, at == row_ends, words, numbers)
    return columns


def _expect_words(
    path: Path, element: Element, fits: np.ndarray, words: np.ndarray, numbers: np.ndarray
) -> None:
    if not fits.all():
        row = int(np.argmin(fits))
        raise InputError(
            f"{path}, line {numbers[row]}: its {words[row]} values do not make a row of element "
            f"'{element.name}' ({', '.join(p.name for p in element.properties)})"
        )


def _converted(
    path: Path, element: Element, name: str, values: np.ndarray, kind: str, numbers: np.ndarray
) -> np.ndarray:
    """Values in their own type; numbers that an integer type cannot hold are refused."""
    if kind[0] == "f":
        with np.errstate(over="ignore"):
            return values.astype(kind)
    limits = np.iinfo(kind)
    fits = (values >= limits.min) & (values <= limits.max) & (np.trunc(values) == values)
    if not fits.all():
        first = int(np.argmin(fits))
        raise InputError(
            f"{path}, line {numbers[first]}: {values[first]:g} does not fit the type "
            f"{TYPE_NAMES[kind]} of '{name}' in element '{element.name}'"
        )
    return values.astype(kind)


def _expect_room(path: Path, element: Element, left: int, row: int, unit: str) -> None:
    if element.count * row > left:
        raise InputError(
            f"{path} is truncated or damaged: its element '{element.name}' declares "
            f"{element.count} rows, at least {element.count * row} {unit}, but {left} {unit} "
            "are left; copy or make it again"
        )
