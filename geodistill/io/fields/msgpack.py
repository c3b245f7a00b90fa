"""MessagePack with bounds: a file's counts are believed only as far as its bytes go.

Source: the MessagePack specification. Maps have texts as keys; extension types are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from geodistill.checks import InputError

DEEPEST = 32
MOST_VALUES = 2_000_000
"""Of a whole file: what makes a short file of many tiny values fit in memory."""

_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_CONSTANTS: dict[int, Any] = {0xC0: None, 0xC2: False, 0xC3: True}
_BYTES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}
_TEXT = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_ARRAY = {0xDC: ">H", 0xDD: ">I"}
_MAP = {0xDE: ">H", 0xDF: ">I"}


def unpack(data: bytes | memoryview, what: str) -> Any:
    """The one value that `data` holds; byte strings are views of `data`, not copies.

    Raises InputError, which begins with `what`, for anything else than a whole MessagePack value,
    for one deeper than DEEPEST and for one of more than MOST_VALUES values.
    """
    reader = _Reader(memoryview(data), what)
    value = reader.value(DEEPEST)
    if reader.at != len(data):
        raise InputError(f"{what} has {len(data) - reader.at} bytes behind its MessagePack value")
    return value


class _Reader:
    def __init__(self, data: memoryview, what: str) -> None:
        self.data, self.what, self.at, self.values = data, what, 0, 0

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise InputError(
                f"{self.what} is truncated or damaged: {count} bytes are needed at byte {self.at} "
                f"of {len(self.data)}"
            )
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self, depth: int) -> Any:
        self.values += 1
        if self.values > MOST_VALUES:
            raise InputError(f"{self.what} holds more than {MOST_VALUES} values")
        kind = self.take(1)[0]
        if kind < 0x80:
            return kind
        if kind >= 0xE0:
            return kind - 0x100
        if kind < 0xC0:
            return self.small(kind, depth)
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind in _BYTES:
            return self.take(self.number(_BYTES[kind]))
        if kind in _TEXT:
            return self.text(self.number(_TEXT[kind]))
        if kind in _ARRAY:
            return self.array(self.number(_ARRAY[kind]), depth)
        if kind in _MAP:
            return self.map(self.number(_MAP[kind]), depth)
        raise InputError(f"{self.what} is damaged: byte {self.at - 1} is {kind:#x}, no known type")

    def small(self, kind: int, depth: int) -> Any:
        """The types whose first byte holds their length"""
        if kind < 0x90:
            return self.map(kind & 0x0F, depth)
        if kind < 0xA0:
            return self.array(kind & 0x0F, depth)
        return self.text(kind & 0x1F)

    def text(self, size: int) -> str:
        start = self.at
        try:
            return str(self.take(size), "utf-8")
        except UnicodeDecodeError:
            raise InputError(
                f"{self.what} is damaged: the text at byte {start} is not UTF-8"
            ) from None

    def inner(self, count: int, least: int, depth: int) -> int:
        """The depth of what a container of `count` entries of at least `least` bytes holds"""
        if depth == 0:
            raise InputError(f"{self.what} is nested more than {DEEPEST} deep")
        if count * least > len(self.data) - self.at:
            raise InputError(
                f"{self.what} is truncated or damaged: {count} entries are declared at byte "
                f"{self.at} of {len(self.data)}"
            )
        return depth - 1

    def array(self, count: int, depth: int) -> list[Any]:
        depth = self.inner(count, 1, depth)
        return [self.value(depth) for _ in range(count)]

    def map(self, count: int, depth: int) -> dict[str, Any]:
        depth = self.inner(count, 2, depth)
        entries: dict[str, Any] = {}
        for _ in range(count):
            key = self.value(0)
            if not isinstance(key, str):
                raise InputError(f"{self.what} is damaged: a key before byte {self.at} is no text")
            entries[key] = self.value(depth)
        return entries


def pack(value: Any) -> Iterator[bytes]:
    """The pieces of a value made of None, bool, int, float, str, bytes, list, tuple and dict."""
    if value is None or isinstance(value, bool):
        yield {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    elif isinstance(value, int):
        yield _integer(value)
    elif isinstance(value, float):
        yield struct.pack(">Bd", 0xCB, value)
    elif isinstance(value, str):
        content = value.encode()
        yield _head(_TEXT, len(content), 0xA0, 32)
        yield content
    elif isinstance(value, (bytes, memoryview)):
        yield _head(_BYTES, len(value), 0, 0)
        yield bytes(value)
    elif isinstance(value, dict):
        yield _head(_MAP, len(value), 0x80, 16)
        for key, entry in value.items():
            yield from pack(key)
            yield from pack(entry)
    else:
        yield _head(_ARRAY, len(value), 0x90, 16)
        for entry in value:
            yield from pack(entry)


def _integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b", value)
    return struct.pack(">Bq", 0xD3, value) if value < 0 else struct.pack(">BQ", 0xCF, value)


def _head(kinds: dict[int, str], size: int, small: int, below: int) -> bytes:
    """The type and the length: in one byte below `below`, else in the shortest form"""
    if size < below:
        return bytes([small | size])
    for kind, form in kinds.items():
        if size < 256 ** struct.calcsize(form):
            return bytes([kind]) + struct.pack(form, size)
    raise InputError(f"MessagePack cannot hold {size} bytes or entries in one value")
