"""The header of a PLY file: format, comments, elements and their properties."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geodistill.checks import InputError

FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
"""Name of a format to NumPy's mark of its byte order."""
TYPE_NAMES = {
    "i1": "char",
    "u1": "uchar",
    "i2": "short",
    "u2": "ushort",
    "i4": "int",
    "u4": "uint",
    "f4": "float",
    "f8": "double",
}
"""NumPy's kind and size to PLY's name of a type."""
_KINDS = {
    **{name: kind for kind, name in TYPE_NAMES.items()},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float32": "f4", "float64": "f8"},
}
_END = re.compile(rb"(?:^|[\r\n])end_header[ \t]*(?:\r\n|\n|\r)")
LONGEST_HEADER = 1 << 20  # bytes; it is a few lines


@dataclass(frozen=True)
class Property:
    """A scalar, or a list whose length is stored as `count_kind`; kinds are NumPy's, as "f4"."""

    name: str
    kind: str
    count_kind: str | None = None

    def __str__(self) -> str:
        many = f"list {TYPE_NAMES[self.count_kind]} " if self.count_kind else ""
        return f"property {many}{TYPE_NAMES[self.kind]} {self.name}"


@dataclass(frozen=True)
class Element:
    name: str
    count: int
    properties: list[Property]

    def smallest_row(self) -> int:
        """Bytes of a binary row whose lists are empty."""
        return sum(np.dtype(p.count_kind or p.kind).itemsize for p in self.properties)


@dataclass(frozen=True)
class Header:
    """`size` bytes in `lines` lines, then the rows."""

    format: str
    comments: tuple[str, ...]
    elements: list[Element]
    size: int
    lines: int


def parse_header(path: Path, data: bytes) -> Header:
    """Raises InputError with the line that is not as the format wants it."""
    end = _END.search(data, 0, LONGEST_HEADER)
    if end is None:
        raise InputError(f"{path} is truncated or damaged: its PLY header has no end_header line")
    lines = re.split(r"\r\n|\n|\r", data[: end.end()].decode(errors="replace"))[:-1]
    if lines[0].strip() != "ply":
        raise InputError(f"{path} is not a PLY file: its first line is {lines[0][:40]!r}")
    format_name, comments, elements = "", [], []
    for number, line in enumerate(lines[1:-1], start=2):
        word = line.split(maxsplit=1)[0] if line.strip() else ""
        rest = line.strip()[len(word) :].strip()
        if word in ("comment", "obj_info"):
            comments.append(rest)
        elif not rest.isprintable() or not word.isprintable():
            raise InputError(f"{path}, line {number}: its PLY header is damaged: make it again")
        elif word == "format":
            format_name = _format(path, rest.split())
        elif word == "element":
            elements.append(_element(f"{path}, line {number}", rest.split(), elements))
        elif word == "property":
            where = f"{path}, line {number}"
            if not elements:
                raise InputError(f"{where}: a property stands before the first element")
            elements[-1].properties.append(_property(where, rest.split(), elements[-1]))
        elif word:
            raise InputError(
                f"{path}, line {number}: a PLY header has no '{word[:40]}' lines; make it again"
            )
    if not format_name:
        raise InputError(f"{path} is damaged: its PLY header has no format line")
    return Header(format_name, tuple(comments), elements, end.end(), len(lines))


def _format(path: Path, words: list[str]) -> str:
    if not words or words[0] not in FORMATS:
        raise InputError(
            f"{path} has the unknown PLY format '{' '.join(words)[:40]}' (known: "
            f"{', '.join(FORMATS)}): save it in one of these"
        )
    return words[0]


def _element(where: str, words: list[str], before: list[Element]) -> Element:
    if len(words) != 2 or not (words[1].isascii() and words[1].isdigit()) or len(words[1]) > 18:
        raise InputError(
            f"{where}: an element line is 'element NAME COUNT', not '{' '.join(words)[:60]}'"
        )
    if any(element.name == words[0] for element in before):
        raise InputError(f"{where}: a second element '{words[0]}'")
    return Element(words[0], int(words[1]), [])


def _property(where: str, words: list[str], element: Element) -> Property:
    many = words[:1] == ["list"]
    if len(words) != (4 if many else 2):
        raise InputError(
            f"{where}: a property line is 'property TYPE NAME' or 'property list TYPE TYPE NAME', "
            f"not '{' '.join(words)[:60]}'"
        )
    *types, name = words[1:] if many else words
    for kind in types:
        if kind not in _KINDS:
            raise InputError(
                f"{where}: unknown type '{kind[:40]}' of property '{name[:40]}' in element "
                f"'{element.name}' (known: {', '.join(_KINDS)})"
            )
    if any(p.name == name for p in element.properties):
        raise InputError(f"{where}: a second property '{name}' in element '{element.name}'")
    if not many:
        return Property(name, _KINDS[types[0]])
    if _KINDS[types[0]][0] == "f":
        raise InputError(f"{where}: the list '{name}' has lengths of type {types[0]}, not integers")
    return Property(name, _KINDS[types[1]], _KINDS[types[0]])
