"""PLY as such: elements, each with columns of numbers and columns of lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geodistill.checks import InputError
from geodistill.io.meshes.arrays import numbers

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"},
}
_NAMES = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int"} | {
    "u4": "uint",
    "f4": "float",
    "f8": "double",
}
_HEADER_END = re.compile(rb"\nend_header[ \t]*\r?\n")
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True)
class ListColumn:
    """Lists of numbers: how many each row has, int64 [N], and all of them end to end."""

    sizes: np.ndarray
    values: np.ndarray


Column = np.ndarray | ListColumn


@dataclass(frozen=True)
class _Property:
    name: str
    kind: str  # numpy letters of the value
    count: str  # of the list's length; empty for a number


@dataclass(frozen=True)
class _Element:
    name: str
    rows: int
    properties: list[_Property]


def parse_ply(data: bytes, path: Path) -> tuple[dict[str, dict[str, Column]], list[str]]:
    """Columns by element and name, in the file's own types (float64 for text), and the comments.

    Raises InputError for a header that is none and for a body that is cut short.
    """
    end = _HEADER_END.search(data)
    if not data.startswith(b"ply") or end is None:
        raise InputError(f"{path} has no whole PLY header: check its name or copy it again")
    order, elements, comments = _header(data[: end.start()].decode("utf-8", "replace"), path)
    body: _Text | _Binary
    body = _Binary(data, end.end(), order, path) if order else _Text(data[end.end() :], path)
    return {
        e.name: body.element(e) if e.rows and e.properties else _nothing(e) for e in elements
    }, comments


def _nothing(element: _Element) -> dict[str, Column]:
    empty = np.zeros(0)
    return {
        p.name: ListColumn(empty.astype(np.int64), empty) if p.count else empty
        for p in element.properties
    }


def _typed(values: np.ndarray, kind: str) -> np.ndarray:
    """Numbers read as text in their declared type, but with all digits that were written."""
    with np.errstate(invalid="ignore"):
        return values if kind[0] == "f" else values.astype(kind)


def _header(text: str, path: Path) -> tuple[str, list[_Element], list[str]]:
    order, elements, comments = None, [], []
    for line in text.splitlines()[1:]:
        words = line.split()
        try:
            if not words or words[0] == "obj_info":
                continue
            if words[0] == "comment":
                comments.append(line.strip()[len("comment") :].strip())
            elif words[0] == "format":
                order = _FORMATS[words[1]]
            elif words[0] == "element":
                if (rows := int(words[2])) < 0:
                    raise ValueError
                elements.append(_Element(words[1], rows, []))
            elif words[0] == "property" and words[1] == "list":
                count, kind = _TYPES[words[2]], _TYPES[words[3]]
                elements[-1].properties.append(_Property(words[4], kind, count))
            elif words[0] == "property":
                elements[-1].properties.append(_Property(words[2], _TYPES[words[1]], ""))
            else:
                raise ValueError
        except (KeyError, IndexError, ValueError):
            raise InputError(
                f"{path} has a PLY header line that is not understood: '{line[:60]}'"
            ) from None
    if order is None:
        raise InputError(f"{path} has a PLY header without a format line: export it again")
    return order, elements, comments


class _Binary:
    """Reads element after element from packed bytes."""

    def __init__(self, data: bytes, start: int, order: str, path: Path) -> None:
        self.data, self.at, self.order, self.path = data, start, order, path

    def element(self, element: _Element) -> dict[str, Column]:
        lists = [p for p in element.properties if p.count]
        lengths = self._first_lengths(element) if lists else {}
        fields: list[tuple] = []
        for number, p in enumerate(element.properties):
            if p.count:
                fields.append((f"count{number}", self.order + p.count))
            shape = (lengths.get(number, 0),) if p.count else ()
            fields.append((f"value{number}", self.order + p.kind, shape))
        packed = np.dtype(fields)
        if len(self.data) - self.at < packed.itemsize * element.rows and not lists:
            self._truncated(element)
        rows = min(element.rows, (len(self.data) - self.at) // max(packed.itemsize, 1))
        table = np.frombuffer(self.data, packed, rows, self.at)
        alike = rows == element.rows and all(
            (table[f"count{number}"] == length).all() for number, length in lengths.items()
        )
        if not alike:
            return self._unlike(element)
        self.at += packed.itemsize * element.rows
        result: dict[str, Column] = {}
        for number, p in enumerate(element.properties):
            values = table[f"value{number}"].astype(p.kind)
            result[p.name] = (
                ListColumn(np.full(rows, values.shape[1]), values.reshape(-1))
                if p.count
                else values
            )
        return result

    def _first_lengths(self, element: _Element) -> dict[int, int]:
        """The lengths of the lists in the first row, by number of the property."""
        lengths, at = {}, self.at
        for number, p in enumerate(element.properties):
            if p.count:
                size, at = self._length(p, at, element)
                lengths[number] = size
                at += size * np.dtype(p.kind).itemsize
            else:
                at += np.dtype(p.kind).itemsize
        return lengths

    def _length(self, p: _Property, at: int, element: _Element) -> tuple[int, int]:
        """The length that stands at a place, and the place behind it."""
        width = int(p.count[1])
        if at + width > len(self.data):
            self._truncated(element)
        if p.count[0] == "f":
            raise InputError(f"{self.path}: the lists of {p.name} have lengths that are fractions")
        order = "big" if self.order == ">" else "little"
        size = int.from_bytes(self.data[at : at + width], order, signed=p.count[0] == "i")
        if size < 0:
            raise InputError(f"{self.path}: a list of {p.name} has {size} values: it is damaged")
        if at + width + size * int(p.kind[1]) > len(self.data):
            self._truncated(element)
        return size, at + width

    def _unlike(self, element: _Element) -> dict[str, Column]:
        """Rows whose lists are not equally long, one after the other."""
        single: dict[str, list[bytes]] = {p.name: [] for p in element.properties}
        sizes: dict[str, list[int]] = {p.name: [] for p in element.properties if p.count}
        data, at = self.data, self.at
        for _ in range(element.rows):
            for p in element.properties:
                width = int(p.kind[1])
                if p.count:
                    size, at = self._length(p, at, element)
                    sizes[p.name].append(size)
                    width *= size
                single[p.name].append(data[at : at + width])
                at += width
            if at > len(data):
                self._truncated(element)
        self.at = at
        result: dict[str, Column] = {}
        for p in element.properties:
            joined = b"".join(single[p.name])
            values = np.frombuffer(joined, self.order + p.kind).astype(p.kind)
            result[p.name] = (
                ListColumn(np.array(sizes[p.name], np.int64), values) if p.count else values
            )
        return result

    def _truncated(self, element: _Element) -> None:
        raise InputError(
            f"{self.path} is truncated: it ends within the {element.rows} rows of {element.name}"
        )


class _Text:
    """Reads element after element from numbers as text."""

    def __init__(self, text: bytes, path: Path) -> None:
        values = numbers(text)
        if values is None:
            raise InputError(f"{path} has a word among its numbers: export it again")
        self.values, self.at, self.path = values, 0, path

    def element(self, element: _Element) -> dict[str, Column]:
        width = self._width(element)
        table = self.values[self.at : self.at + width * element.rows]
        if len(table) == width * element.rows:
            alike = self._alike(element, table.reshape(element.rows, width))
            if alike is not None:
                self.at += width * element.rows
                return alike
        columns: dict[str, list[np.ndarray]] = {p.name: [] for p in element.properties}
        sizes: dict[str, list[int]] = {p.name: [] for p in element.properties if p.count}
        for _ in range(element.rows):
            for p in element.properties:
                size = 1
                if p.count:
                    size = self._size(p, self.at, element)
                    sizes[p.name].append(size)
                    self.at += 1
                columns[p.name].append(self.values[self.at : self.at + size])
                self.at += size
            if self.at > len(self.values):
                self._truncated(element)
        joined = {
            p.name: _typed(np.concatenate(columns[p.name]), p.kind) for p in element.properties
        }
        return {
            n: ListColumn(np.array(sizes[n], np.int64), c) if n in sizes else c
            for n, c in joined.items()
        }

    def _width(self, element: _Element) -> int:
        """The numbers in the first row."""
        at = self.at
        for p in element.properties:
            at += 1 + self._size(p, at, element) if p.count else 1
        return at - self.at

    def _size(self, p: _Property, at: int, element: _Element) -> int:
        if at >= len(self.values):
            self._truncated(element)
        size = self.values[at]
        if not 0 <= size < len(self.values) or size % 1:
            raise InputError(f"{self.path}: a list of {p.name} has {size:g} values: it is damaged")
        return int(size)

    def _alike(self, element: _Element, table: np.ndarray) -> dict[str, Column] | None:
        """The columns where every row has lists as long as the first, or None."""
        result: dict[str, Column] = {}
        at = 0
        for p in element.properties:
            if not p.count:
                result[p.name], at = _typed(table[:, at], p.kind), at + 1
                continue
            size = int(table[0, at])
            if not (table[:, at] == size).all():
                return None
            values = _typed(table[:, at + 1 : at + 1 + size].reshape(-1), p.kind)
            result[p.name] = ListColumn(np.full(len(table), size), values)
            at += 1 + size
        return result

    def _truncated(self, element: _Element) -> None:
        raise InputError(
            f"{self.path} is truncated: it ends within the {element.rows} rows of {element.name}"
        )


def format_ply(
    elements: Mapping[str, Mapping[str, np.ndarray]], comments: Sequence[str] = ()
) -> list[bytes]:
    """A binary little-endian PLY in pieces. A column [N, C] becomes lists of C values."""
    head = ["ply", "format binary_little_endian 1.0", *(f"comment {text}" for text in comments)]
    bodies = []
    for name, columns in elements.items():
        rows = len(next(iter(columns.values())))
        head.append(f"element {name} {rows}")
        fields: list[tuple] = []
        for number, (column, values) in enumerate(columns.items()):
            kind = values.dtype.str[1:]
            if values.ndim == 2:
                head.append(f"property list uchar {_NAMES[kind]} {column}")
                fields.append((f"count{number}", "u1"))
            else:
                head.append(f"property {_NAMES[kind]} {column}")
            fields.append((f"value{number}", "<" + kind, values.shape[1:]))
        table = np.zeros(rows, np.dtype(fields))
        for number, values in enumerate(columns.values()):
            table[f"value{number}"] = values
            if values.ndim == 2:
                table[f"count{number}"] = values.shape[1]
        bodies.append(table.tobytes())
    return ["\n".join([*head, "end_header", ""]).encode(), *bodies]
