"""PCD files of the Point Cloud Library, version 0.7: ascii, binary and binary_compressed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.io.lzf import compress, decompress
from geodistill.io.number_lines import format_lines, number_lines
from geodistill.io.whole_file import read_whole
from geodistill.runs import atomic_write

ENCODINGS = ("ascii", "binary", "binary_compressed")
FRONT = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
_PADDING = "_"
_KEYS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS")
_KINDS = {"F": "f", "I": "i", "U": "u"}


@dataclass(frozen=True, eq=False)
class PcdFile:
    """What a PCD file holds.

    Attributes:
        fields: name to values [N], or [N, COUNT] where the count is not 1, without padding.
        width, height: how the points are organised; height is 1 where they are not.
        viewpoint: the sensor's position and its quaternion (w, x, y, z), as PCL writes it; the
            points are not in its frame.
        encoding: "ascii", "binary" or "binary_compressed".
    """

    fields: dict[str, np.ndarray]
    width: int
    height: int
    viewpoint: tuple[float, ...]
    encoding: str


@dataclass(frozen=True)
class _Layout:
    name: str
    kind: str  # NumPy's, as "<f4"
    count: int

    def itemsize(self) -> int:
        return np.dtype(self.kind).itemsize * self.count


def read_pcd(path: Path | str) -> PcdFile:
    """Read a PCD file.

    Raises:
        InputError: missing, not a PCD file, a header that contradicts itself, fewer bytes than it
            declares, or a damaged compressed stream.
    """
    path = Path(path)
    data = read_whole(path)
    head, start, lines = _header(path, data)
    layout = _layout(path, head)
    width, height = _whole(path, head, "WIDTH"), _whole(path, head, "HEIGHT")
    points = _whole(path, head, "POINTS") if "POINTS" in head else width * height
    if points != width * height:
        raise InputError(
            f"{path} is damaged: POINTS {points} is not WIDTH {width} x HEIGHT {height}"
        )
    encoding = " ".join(head["DATA"])
    if encoding == "ascii":
        columns = _ascii(path, layout, points, data[start:], lines + 1)
    elif encoding == "binary":
        columns = _binary(path, layout, points, memoryview(data)[start:])
    elif encoding == "binary_compressed":
        columns = _compressed(path, layout, points, data[start:])
    else:
        raise InputError(
            f"{path} has the unknown DATA '{encoding[:40]}' (known: {', '.join(ENCODINGS)})"
        )
    fields = {
        field.name: values[:, 0] if field.count == 1 else values
        for field, values in zip(layout, columns, strict=True)
        if field.name != _PADDING
    }
    return PcdFile(fields, width, height, _viewpoint(path, head), encoding)


def write_pcd(
    path: Path | str,
    fields: Mapping[str, np.ndarray],
    viewpoint: Sequence[float] = FRONT,
    encoding: str = "binary",
) -> None:
    """Write fields [N] or [N, COUNT] atomically as an unorganised cloud, each in its own type.

    Raises:
        UsageError: an unknown encoding, a name or a type that PCD cannot hold.
        ShapeError: fields that differ in length or have more than two dimensions.
        InputError: the file cannot be written.
    """
    if encoding not in ENCODINGS:
        raise UsageError(f"unknown PCD encoding '{encoding}'; known: {', '.join(ENCODINGS)}")
    shapes = {name: [*values.shape] for name, values in fields.items()}
    if len({tuple(s[:1]) for s in shapes.values()}) != 1 or not all(
        1 <= len(s) <= 2 for s in shapes.values()
    ):
        raise ShapeError(f"PCD fields must be [N] or [N, COUNT] with one N, got {shapes}")
    for name, values in fields.items():
        if values.dtype.kind not in "fiu" or (values.dtype.kind == "f" and values.itemsize < 4):
            raise UsageError(f"PCD has no type for {values.dtype} of '{name}', convert it first")
        if len(name.split()) != 1 or not name.isascii() or name == _PADDING or not values[:1].size:
            raise UsageError(f"PCD cannot hold a field '{name}' of shape {shapes[name]}")
    tables = [np.ascontiguousarray(v.reshape(len(v), -1)) for v in fields.values()]
    kinds = [table.dtype for table in tables]
    count = len(tables[0])
    head = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        f"FIELDS {' '.join(fields)}",
        f"SIZE {' '.join(str(kind.itemsize) for kind in kinds)}",
        f"TYPE {' '.join(kind.kind.upper() for kind in kinds)}",
        f"COUNT {' '.join(str(table.shape[1]) for table in tables)}",
        f"WIDTH {count}",
        "HEIGHT 1",
        f"VIEWPOINT {' '.join(f'{value:.9g}' for value in viewpoint)}",
        f"POINTS {count}",
        f"DATA {encoding}",
        "",
    ]
    little = [table.astype(table.dtype.newbyteorder("<")) for table in tables]
    if encoding == "ascii":
        body = format_lines([column for table in tables for column in table.T])
    elif encoding == "binary":
        rows = [table.view(np.uint8).reshape(count, -1) for table in little]
        body = np.concatenate(rows, axis=1).tobytes()
    else:
        plain = b"".join(table.tobytes() for table in little)
        packed = compress(plain)
        body = len(packed).to_bytes(4, "little") + len(plain).to_bytes(4, "little") + packed
    atomic_write(path, "\n".join(head).encode() + body)


def _header(path: Path, data: bytes) -> tuple[dict[str, list[str]], int, int]:
    """The header's words by their key, the offset behind it, and its number of lines."""
    head: dict[str, list[str]] = {}
    start = lines = 0
    while "DATA" not in head:
        end = data.find(b"\n", start, start + (1 << 16))
        line = data[start : end if end >= 0 else start + (1 << 16)].decode("latin-1").strip()
        lines += 1
        if line and not line.startswith("#"):
            key, *words = line.split()
            if not " ".join([key, *words]).isprintable():
                raise InputError(f"{path}, line {lines}: its PCD header is damaged, or it is none")
            if key not in (*_KEYS, "DATA"):
                raise InputError(f"{path}, line {lines}: a PCD header has no '{key[:40]}' lines")
            head[key] = words
        if end < 0 and "DATA" not in head:
            raise InputError(f"{path} is truncated or damaged: its PCD header has no DATA line")
        start = end + 1 if end >= 0 else len(data)
    for key in ("FIELDS", "SIZE", "TYPE", "WIDTH", "HEIGHT"):
        if key not in head:
            raise InputError(f"{path} is damaged: its PCD header has no {key} line")
    return head, start, lines


def _layout(path: Path, head: Mapping[str, list[str]]) -> list[_Layout]:
    names, sizes, types = head["FIELDS"], head["SIZE"], head["TYPE"]
    counts = head.get("COUNT", ["1"] * len(names))
    if not names or not len(names) == len(sizes) == len(types) == len(counts):
        raise InputError(
            f"{path} is damaged: {len(names)} FIELDS, {len(sizes)} SIZE, {len(types)} TYPE and "
            f"{len(counts)} COUNT values"
        )
    layout = []
    for name, size, kind, count in zip(names, sizes, types, counts, strict=True):
        known = kind in _KINDS and size in (("4", "8") if kind == "F" else ("1", "2", "4", "8"))
        if not known or not (count.isascii() and count.isdigit() and 0 < int(count[:9]) < 10**8):
            raise InputError(
                f"{path}: the field '{name[:40]}' has TYPE {kind[:9]}, SIZE {size[:9]} and COUNT "
                f"{count[:9]}, which PCD does not know"
            )
        layout.append(_Layout(name, f"<{_KINDS[kind]}{size}", int(count)))
    named = [name for name in names if name != _PADDING]
    if len({*named}) != len(named):
        raise InputError(f"{path} is damaged: a field appears twice in FIELDS {' '.join(names)}")
    return layout


def _whole(path: Path, head: Mapping[str, list[str]], key: str) -> int:
    text = " ".join(head[key])
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise InputError(f"{path} is damaged: {key} '{text[:40]}' is not a whole number")
    return int(text)


def _viewpoint(path: Path, head: Mapping[str, list[str]]) -> tuple[float, ...]:
    words = head.get("VIEWPOINT", [str(value) for value in FRONT])
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        values = ()
    if len(values) != 7 or not all(map(math.isfinite, values)):
        raise InputError(f"{path} is damaged: VIEWPOINT '{' '.join(words)[:60]}' is not 7 numbers")
    return values


def _ascii(
    path: Path, layout: list[_Layout], points: int, text: bytes, first: int
) -> list[np.ndarray]:
    lines = number_lines(text, first)
    wide = sum(field.count for field in layout)
    if len(lines.words) < points:
        raise _truncated(path, f"{points} lines", len(lines.words))
    wrong = np.flatnonzero(lines.words[:points] != wide)
    if len(wrong):
        raise InputError(
            f"{path}, line {lines.numbers[wrong[0]]}: {lines.words[wrong[0]]} values, but the "
            f"header declares {wide}"
        )
    table = lines.values(points, str(path)).reshape(points, wide)
    ends = np.cumsum([field.count for field in layout])
    with np.errstate(over="ignore"):
        return [
            _typed(path, field, table[:, end - field.count : end])
            for field, end in zip(layout, ends, strict=True)
        ]


def _typed(path: Path, field: _Layout, values: np.ndarray) -> np.ndarray:
    if np.dtype(field.kind).kind != "f" and field.name != _PADDING:
        limits, exact = np.iinfo(field.kind), 2**53  # what the parser's float64 tells apart
        low, high = max(limits.min, -exact), min(limits.max, exact)
        fits = (values >= low) & (values <= high) & (np.trunc(values) == values)
        if not fits.all():
            raise InputError(
                f"{path}: {values[~fits][0]:g} does not fit the field '{field.name}' of TYPE "
                f"{field.kind[1].upper()}, SIZE {field.kind[2]}"
            )
    return values.astype(field.kind[1:])


def _binary(path: Path, layout: list[_Layout], points: int, body: memoryview) -> list[np.ndarray]:
    row = sum(field.itemsize() for field in layout)
    if points * row > len(body):
        raise _truncated(path, f"{points * row} bytes", len(body))
    if not points:
        return [np.empty((0, field.count), field.kind[1:]) for field in layout]
    kind = np.dtype([(str(i), f.kind, (f.count,)) for i, f in enumerate(layout)])
    table = np.frombuffer(body, kind, points)
    return [table[str(i)].astype(field.kind[1:]) for i, field in enumerate(layout)]


def _compressed(path: Path, layout: list[_Layout], points: int, body: bytes) -> list[np.ndarray]:
    """Packed size and plain size as uint32, then all values of one field after the other."""
    plain_size = points * sum(field.itemsize() for field in layout)
    packed_size, declared = (int.from_bytes(body[at : at + 4], "little") for at in (0, 4))
    packed = body[8 : 8 + packed_size]
    if len(body) < 8 or len(packed) < packed_size:
        raise _truncated(path, f"{packed_size + 8} bytes", len(body))
    if declared != plain_size:
        raise InputError(
            f"{path} is damaged: its points take {plain_size} bytes, its compressed data {declared}"
        )
    try:
        plain = decompress(packed, plain_size)
    except ValueError as error:
        raise InputError(f"{path}: its compressed data is damaged: {error}") from None
    columns, start = [], 0
    for field in layout:
        values = np.frombuffer(plain, field.kind, points * field.count, start)
        columns.append(values.reshape(points, field.count).astype(field.kind[1:]))
        start += points * field.itemsize()
    return columns


def _truncated(path: Path, wanted: str, found: int) -> InputError:
    return InputError(
        f"{path} is truncated or damaged: its header declares {wanted} of data, {found} are there; "
        "copy or make it again"
    )
