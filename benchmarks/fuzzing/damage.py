"""Damage to a file, the same for the same numbers: at its bytes, in its texts, inside archives."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

Draw = np.random.Generator
NUMBERS = [
    *(struct.pack("<I", v) for v in (0, 1, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)),
    *(struct.pack("<Q", v) for v in (2**32, 2**48, 2**63 - 1, 2**64 - 1)),
    *(struct.pack("<f", v) for v in (float("nan"), float("inf"), -1.0, 3e38, 1e-40)),
]
TEXTS = [
    b"0", b"-1", b"1", b"255", b"65536", b"2147483648", b"4294967295", b"99999999999",
    b"1e400", b"-1e30", b"nan", b"inf", b"0.5", b"null", b"true", b'""', b"[]", b"{}", b"9" * 400,
]  # fmt: skip
VALUES: list[Any] = [
    None, True, 0, 1, -1, 3, 255, 2**31, 2**32 - 1, 2**63, 10**30, 0.5, -1e30, 1e300, float("nan"),
    "", "x", "../x", "a\nb\x1b", [], {}, [[]], [0, 0, 0], [1e300] * 3, [None], {"x": []},
]  # fmt: skip
_TOKEN = re.compile(rb"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_HEAD = 512


def damaged(files: dict[str, bytes], main: str, seed: list[int]) -> dict[str, bytes]:
    """The files of a scene, one of them damaged; it is mostly `main`, which names the others."""
    draw = np.random.default_rng(seed)
    others = [name for name in files if name != main]
    name = str(draw.choice(others)) if others and draw.random() < 0.3 else main
    return {**files, name: damaged_file(files[name], draw)}


def damaged_file(data: bytes, draw: Draw) -> bytes:
    """One to four times, within what it packs where it packs something, or as it stands."""
    if draw.random() < 0.5:
        for container in (_in_checkpoint, _in_zip, _in_gzip, _in_glb):
            found = container(data, draw)
            if found is not None:
                return found
    return _several(data, draw)


def _several(data: bytes, draw: Draw) -> bytes:
    for _ in range(1 if draw.random() < 0.6 else int(draw.integers(2, 5))):
        kinds = (*BYTES, *(WORDS if _is_text(data) else ()))
        data = kinds[int(draw.integers(len(kinds)))](data, draw)
    return data


def _is_text(data: bytes) -> bool:
    """Whether it begins like one."""
    start = data[:64]
    return sum(32 <= byte < 127 or byte in (9, 10, 13) for byte in start) >= 0.9 * len(start) > 0


def _place(data: bytes, draw: Draw) -> int:
    """An index: everywhere, in the head, or in the tail."""
    size = max(len(data), 1)
    where = draw.random()
    if where < 0.5:
        return int(draw.integers(min(size, _HEAD)))
    if where < 0.65:
        return size - 1 - int(draw.integers(min(size, _HEAD)))
    return int(draw.integers(size))


# At the bytes


def _flip(data: bytes, draw: Draw) -> bytes:
    at = _place(data, draw)
    byte = (data[at] if at < len(data) else 0) ^ 1 << int(draw.integers(8))
    return data[:at] + bytes([byte]) + data[at + 1 :]


def _number(data: bytes, draw: Draw) -> bytes:
    at, value = _place(data, draw), NUMBERS[int(draw.integers(len(NUMBERS)))]
    at -= at % 4 if draw.random() < 0.5 else 0
    return data[:at] + value + data[at + len(value) :]


def _set(data: bytes, draw: Draw) -> bytes:
    at, length = _place(data, draw), int(draw.integers(1, 5))
    value = bytes([int(draw.choice([0, 1, 0x7F, 0x80, 0xFF]))]) * length
    return data[:at] + value + data[at + length :]


def _cut(data: bytes, draw: Draw) -> bytes:
    return data[: _place(data, draw)]


def _insert(data: bytes, draw: Draw) -> bytes:
    at = _place(data, draw)
    return data[:at] + draw.bytes(int(draw.integers(1, 17))) + data[at:]


def _remove(data: bytes, draw: Draw) -> bytes:
    at = _place(data, draw)
    return data[:at] + data[at + int(draw.integers(1, 65)) :]


def _repeat(data: bytes, draw: Draw) -> bytes:
    at, length = _place(data, draw), int(draw.integers(1, 257))
    return data[: at + length] + data[at:]


def _move(data: bytes, draw: Draw) -> bytes:
    a, b, length = _place(data, draw), _place(data, draw), int(draw.integers(1, 33))
    piece = data[a : a + length]
    return data[:b] + piece + data[b + len(piece) :]


# In texts


def _token(data: bytes, draw: Draw) -> bytes:
    found = [*_TOKEN.finditer(data[: 1 << 16])]
    if not found:
        return _flip(data, draw)
    match = found[int(draw.integers(len(found)))]
    text = TEXTS[int(draw.integers(len(TEXTS)))]
    return data[: match.start()] + text + data[match.end() :]


def _line(data: bytes, draw: Draw) -> bytes:
    """A line of the first hundred is removed, doubled, or exchanged for another."""
    lines = data.split(b"\n", 100)
    at, kind = int(draw.integers(len(lines))), int(draw.integers(3))
    other = lines[int(draw.integers(len(lines)))]
    return b"\n".join([*lines[:at], *[[], [lines[at]] * 2, [other]][kind], *lines[at + 1 :]])


def _json(data: bytes, draw: Draw) -> bytes:
    """Where all of it is JSON: a value becomes another one, or goes."""
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):
        return _token(data, draw)
    places = [*_places(root)] if isinstance(root, (dict, list)) else []
    if not places:
        return _token(data, draw)
    parent, key = places[int(draw.integers(len(places)))]
    if draw.random() < 0.2:
        del parent[key]
    else:
        parent[key] = VALUES[int(draw.integers(len(VALUES)))]
    return json.dumps(root).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each list or dictionary within, with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in [*items]:
        yield value, key
        if isinstance(child, (dict, list)):
            yield from _places(child)


BYTES = (_flip, _number, _set, _cut, _insert, _remove, _repeat, _move)
WORDS = (_token, _token, _line, _json, _json)


# Within what is packed, so that checksums and lengths around the damage hold


def _in_checkpoint(data: bytes, draw: Draw) -> bytes | None:
    """One value in what `torch.save` has stored; the seeds are our own, and safe to unpickle."""
    if b"data.pkl" not in data[:200] or draw.random() < 0.5:
        return None
    import torch

    root = torch.load(io.BytesIO(data), weights_only=False)
    places = [*_places(root)]
    parent, key = places[int(draw.integers(len(places)))]
    value = parent[key]
    kind = int(draw.integers(6))
    if isinstance(value, torch.Tensor) and kind < 4 and value.ndim:
        nan = value.clone()
        nan.view(-1)[:1] = float("nan") if value.is_floating_point() else 0
        parent[key] = [value.mT if value.ndim > 1 else value[1:], value.half(), nan, value[None]][
            kind
        ]
    elif kind == 5:
        del parent[key]
    else:
        odd = [*VALUES, torch.zeros(2, 2), torch.zeros(0), np.zeros(3), np.float64(2), (1, 2)]
        parent[key] = odd[int(draw.integers(len(odd)))]
    out = io.BytesIO()
    torch.save(root, out)
    return out.getvalue()


def _in_zip(data: bytes, draw: Draw) -> bytes | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [(info, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return None
    if not entries:
        return None
    small = [i for i, (_, content) in enumerate(entries) if len(content) < 1 << 14]
    chosen = int(draw.choice(small)) if small and draw.random() < 0.6 else -1
    chosen = chosen if chosen >= 0 else int(draw.integers(len(entries)))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for i, (info, content) in enumerate(entries):
            kept = zipfile.ZipInfo(info.filename)
            kept.compress_type = info.compress_type
            archive.writestr(kept, _several(content, draw) if i == chosen else content)
    return out.getvalue()


def _in_gzip(data: bytes, draw: Draw) -> bytes | None:
    if data[:2] != b"\x1f\x8b":
        return None
    try:
        content = gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return None
    return gzip.compress(_several(content, draw), mtime=0)


def _in_glb(data: bytes, draw: Draw) -> bytes | None:
    if data[:4] != b"glTF" or len(data) < 20:
        return None
    (length,) = struct.unpack_from("<I", data, 12)
    text = _several(data[20 : 20 + length], draw)
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    head = struct.pack("<4s2I", b"glTF", 2, 20 + len(text) + len(rest))
    return head + struct.pack("<I4s", len(text), b"JSON") + text + rest
