"""Writing PLY files; reading them is in ply.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geodistill.checks import ShapeError, UsageError
from geodistill.io.columns import row_blocks
from geodistill.io.number_lines import format_lines
from geodistill.io.ply import Column, ListColumn, row_type, runs
from geodistill.io.ply_header import FORMATS, TYPE_NAMES, Element, Property
from geodistill.runs import atomic_write


def write_ply(
    path: Path | str,
    elements: Mapping[str, Mapping[str, Column]],
    comments: Sequence[str] = (),
    format: str = "binary_little_endian",
) -> None:
    """Write elements atomically, as `ply_bytes` makes them.

    Raises what that raises, and InputError when the file cannot be written.
    """
    pieces = ply_bytes(elements, comments, format)
    atomic_write(path, lambda file: file.writelines(pieces))


def ply_bytes(
    elements: Mapping[str, Mapping[str, Column]],
    comments: Sequence[str] = (),
    format: str = "binary_little_endian",
) -> list[bytes]:
    """A PLY file in pieces, each property in its column's own type (8 to 32-bit integers, float32,
    float64).

    Raises:
        UsageError: an unknown format, a name or comment the header cannot hold, a type PLY lacks.
        ShapeError: columns of one element that differ in length.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown PLY format '{format}'; known: {', '.join(FORMATS)}")
    described = [_describe(name, columns) for name, columns in elements.items()]
    lines = ["ply", f"format {format} 1.0", *(f"comment {text}" for text in comments)]
    if any(not line.isprintable() for line in lines):
        raise UsageError("a comment of a PLY file must be one line of printable text")
    for element in described:
        lines += [f"element {element.name} {element.count}", *map(str, element.properties)]
    pieces = ["\n".join([*lines, "end_header", ""]).encode()]
    for element in described:
        columns = elements[element.name]
        if not element.count or not columns:
            continue
        if format == "ascii":
            pieces.append(_text_rows(element, columns))
        else:
            pieces.append(_binary_rows(element, columns, FORMATS[format]))
    return pieces


def _describe(name: str, columns: Mapping[str, Column]) -> Element:
    properties, lengths = [], {}
    for key, column in columns.items():
        many = isinstance(column, ListColumn)
        values = column.values if many else column
        kind = values.dtype.newbyteorder("=").str[1:]
        if kind not in TYPE_NAMES:
            raise UsageError(f"{name}.{key}: PLY has no type for {values.dtype}, convert it first")
        lengths[key] = len(column.counts) if many else len(values)
        fits = values.ndim == 1 and (not many or len(values) == column.counts.sum())
        if not fits or len({*lengths.values()}) > 1:
            raise ShapeError(
                f"{name}.{key}: the columns of a PLY element must have one length, got {lengths}"
            )
        wide = many and len(column.counts) and int(column.counts.max()) > 255
        properties.append(Property(key, kind, ("u4" if wide else "u1") if many else None))
    if any(len(word.split()) != 1 or not word.isascii() for word in (name, *columns)):
        raise UsageError(f"the names of PLY element '{name}' must be ASCII words without blanks")
    return Element(name, max(lengths.values(), default=0), properties)


def _binary_rows(element: Element, columns: Mapping[str, Column], order: str) -> bytes:
    lists = [c for c in columns.values() if isinstance(c, ListColumn)]
    if all((c.counts == c.counts[0]).all() for c in lists):
        kind = row_type(element, [int(c.counts[0]) for c in lists], order)
        table = np.empty(element.count, kind)
        for rows in row_blocks(element.count):
            for name, column in columns.items():
                if isinstance(column, ListColumn):
                    table[name + " n"][rows] = column.counts[rows]
                    table[name][rows] = column.values.reshape(element.count, -1)[rows]
                else:
                    table[name][rows] = column[rows]
        return table.tobytes()
    parts: list[tuple[np.ndarray, np.ndarray]] = []  # bytes of a row's piece, and their count
    one = np.ones(element.count, np.int64)
    for p in element.properties:
        column = columns[p.name]
        if isinstance(column, ListColumn):
            assert p.count_kind is not None  # because the column is a list
            parts.append((column.counts.astype(order + p.count_kind), one))
            parts.append((column.values.astype(order + p.kind), column.counts))
        else:
            parts.append((column.astype(order + p.kind), one))
    sizes = np.stack([n * values.itemsize for values, n in parts])
    starts = (sizes.reshape(-1, order="F").cumsum() - sizes.reshape(-1, order="F")).reshape(
        sizes.shape, order="F"
    )
    out = np.empty(int(sizes.sum()), np.uint8)
    for (values, _), at, size in zip(parts, starts, sizes, strict=True):
        out[runs(at, size)] = values.view(np.uint8)
    return out.tobytes()


def _text_rows(element: Element, columns: Mapping[str, Column]) -> bytes:
    if not any(isinstance(column, ListColumn) for column in columns.values()):
        return format_lines(
            [column for column in columns.values() if isinstance(column, np.ndarray)]
        )
    parts = []
    for column in columns.values():
        if isinstance(column, ListColumn):
            ends = column.counts.cumsum().tolist()
            words = format_lines([column.values]).split()
            begins = [0, *ends[:-1]]
            parts.append(
                [
                    b" ".join([b"%d" % (end - begin), *words[begin:end]])
                    for begin, end in zip(begins, ends, strict=True)
                ]
            )
        else:
            parts.append(format_lines([column]).splitlines())
    return b"\n".join(map(b" ".join, zip(*parts, strict=True))) + b"\n"
