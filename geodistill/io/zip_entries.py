"""Where the entries of a ZIP archive lie, found without unpacking anything.

Source: PKWARE, APPNOTE.TXT, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to
4.3.16 (its end, 64-bit and 32-bit) and 4.5.3 (64-bit sizes).
"""

from __future__ import annotations

import itertools
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geodistill.checks import InputError

STORED, DEFLATED = 0, 8
MOST_ENTRIES = 200_000
MOST_GROWTH = 64
"""Times the archive's length that its entries may unpack to; deflate itself reaches 1032."""
_CHUNK = 1 << 24
_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ROW, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
_ENCRYPTED = 1
_WHOLE32 = 0xFFFFFFFF


class Entry(NamedTuple):
    """One file of an archive: its `packed` bytes begin at `start`; a checksum of 0 is none."""

    start: int
    packed: int
    size: int
    deflated: bool
    checksum: int


def zip_entries(path: Path, data: np.ndarray) -> dict[str, Entry]:
    """The files in the archive whose bytes are uint8 `data`, by name; folders are left out.

    Raises InputError, naming `path`, for what is no whole archive, has encrypted or overlapping
    entries, one name twice, another compression than deflate, or would unpack to more than
    `MOST_GROWTH` times its length.
    """
    count, at, length = _directory(path, data)
    if count > MOST_ENTRIES:
        raise InputError(
            f"{path} declares {count} entries, more than {MOST_ENTRIES}: it is refused"
        )
    if at + length > len(data) or 46 * count > length:
        raise _damaged(path, "its table of contents lies outside of the file")
    rows = data[at : at + length].tobytes()
    entries: dict[str, Entry] = {}
    spans = [(at, at + length)]
    here = 0
    for _ in range(count):
        name, entry, here = _entry(path, data, rows, here)
        if name.endswith("/"):
            continue
        if name in entries:
            raise _damaged(path, f"it has two entries {name[:60]!r}")
        entries[name] = entry
        spans.append((entry.start, entry.start + entry.packed))
    _expect_apart(path, spans)
    total = sum(entry.size for entry in entries.values())
    if total > MOST_GROWTH * len(data):
        raise InputError(
            f"{path} would unpack to {total} bytes, more than {MOST_GROWTH} times its "
            f"{len(data)}: it is refused"
        )
    return entries


def unpacked(path: Path, data: np.ndarray, name: str, entry: Entry) -> np.ndarray:
    """The bytes of an entry: a view of `data` where it is stored, inflated where it is not.

    Raises InputError for a stream that is damaged or has another length than was declared.
    """
    packed = data[entry.start : entry.start + entry.packed]
    if not entry.deflated:
        return packed
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(packed.tobytes(), entry.size + 1)
    except zlib.error as error:
        raise _damaged(path, f"its entry {name[:60]!r} cannot be unpacked ({error})") from None
    if len(content) != entry.size:
        raise _damaged(path, f"its entry {name[:60]!r} has another length than declared")
    return np.frombuffer(bytearray(content), np.uint8)


def expect_whole(path: Path, name: str, entry: Entry, content: np.ndarray) -> None:
    """Raise InputError unless the content has the entry's checksum, where the archive has one."""
    if not entry.checksum:
        return
    found = 0
    for start in range(0, len(content), _CHUNK):
        found = zlib.crc32(content[start : start + _CHUNK].data, found)
    if found != entry.checksum:
        raise _damaged(path, f"its entry {name[:60]!r} does not match its checksum")


def _directory(path: Path, data: np.ndarray) -> tuple[int, int, int]:
    """Count, place and length of the rows of the central directory."""
    first = max(0, len(data) - (1 << 16) - 22)
    tail = data[first:].tobytes()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        raise _damaged(path, "the end of the archive is missing")
    disk, _, count, _, length, place = struct.unpack_from("<HHHHII", tail, at + 8 - 4)
    if disk not in (0, 0xFFFF):
        raise _damaged(path, "it is a part of an archive")
    if at < 20 or tail[at - 20 : at - 16] != _LOCATOR64:
        return count, place, length
    (end,) = struct.unpack_from("<Q", tail, at - 20 + 8)
    if end + 56 > len(data) or data[end : end + 4].tobytes() != _END64:
        raise _damaged(path, "the end of the archive is not where it says")
    count, length, place = struct.unpack_from("<QQQ", data[end : end + 56].tobytes(), 32)
    return count, place, length


def _entry(path: Path, data: np.ndarray, rows: bytes, at: int) -> tuple[str, Entry, int]:
    """Name and place of the row at `at` of the directory, and where the next row begins."""
    if len(rows) - at < 46 or rows[at : at + 4] != _ROW:
        raise _damaged(path, "its table of contents cannot be read")
    flags, method = struct.unpack_from("<HH", rows, at + 8)
    checksum, packed, size, named, extra, comment = struct.unpack_from("<IIIHHH", rows, at + 16)
    (header,) = struct.unpack_from("<I", rows, at + 42)
    behind = at + 46 + named
    if behind + extra + comment > len(rows):
        raise _damaged(path, "its table of contents cannot be read")
    named_so = rows[at + 46 : behind].decode("utf-8", "replace")
    name = "".join(letter if letter.isprintable() else "?" for letter in named_so)
    wide = _wide(path, rows[behind : behind + extra], (size, packed, header))
    size, packed, header = wide
    if flags & _ENCRYPTED or method not in (STORED, DEFLATED):
        raise InputError(
            f"{path}: its entry {name[:60]!r} is encrypted or packed in an unknown way"
        )
    if method == STORED and packed != size:
        raise _damaged(path, f"its entry {name[:60]!r} contradicts itself on its length")
    local = data[header : header + 30].tobytes()
    if len(local) < 30 or local[:4] != _LOCAL:
        raise _damaged(path, f"its entry {name[:60]!r} is not where it should be")
    local_named, local_extra = struct.unpack_from("<HH", local, 26)
    start = header + 30 + local_named + local_extra
    if start + packed > len(data):
        raise _damaged(path, f"its entry {name[:60]!r} reaches beyond its end")
    return name, Entry(start, packed, size, method == DEFLATED, checksum), behind + extra + comment


def _wide(path: Path, extra: bytes, values: tuple[int, int, int]) -> list[int]:
    """Size, packed size and place, those of them in 64 bits that 32 do not hold."""
    found, at = list(values), 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            missing = [i for i, value in enumerate(values) if value == _WHOLE32]
            if 8 * len(missing) > min(length, len(extra) - at - 4):
                raise _damaged(path, "its table of contents cannot be read")
            for place, i in enumerate(missing):
                (found[i],) = struct.unpack_from("<Q", extra, at + 4 + 8 * place)
            break
        at += 4 + length
    return found


def _expect_apart(path: Path, spans: list[tuple[int, int]]) -> None:
    spans = sorted(span for span in spans if span[1] > span[0])
    for (_, end), (start, _) in itertools.pairwise(spans):
        if start < end:
            raise _damaged(path, "its entries overlap")


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path} is truncated or damaged ({why}): copy it again")
