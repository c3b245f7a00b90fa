"""LZF, the compression inside binary_compressed PCD files (Marc Lehmann's LibLZF format).

A control byte c below 32 is followed by c + 1 literal bytes. Any other one is a copy: its upper
three bits are the length minus 2 (7: the next byte is added), its lower five and one more byte the
distance minus 1, back from the end of what is already unpacked. Copies may overlap their own end.
"""

from __future__ import annotations

import numpy as np

_LONGEST_LITERAL = 32
_FARTHEST = 1 << 13
_LONGEST = 264


def decompress(packed: bytes, size: int) -> bytes:
    """Unpack exactly `size` bytes. Raises ValueError for a stream that says something else."""
    out = bytearray()
    position, end = 0, len(packed)
    while position < end:
        control = packed[position]
        position += 1
        if control < _LONGEST_LITERAL:
            literal = packed[position : position + control + 1]
            if len(literal) <= control:
                raise ValueError("it ends within a literal")
            out += literal
            position += control + 1
        else:
            length = (control >> 5) + 2
            more = 2 if length == 9 else 1
            if position + more > end:
                raise ValueError("it ends within a copy")
            if more == 2:
                length += packed[position]
            position += more
            start = len(out) - ((control & 31) << 8 | packed[position - 1]) - 1
            if start < 0:
                raise ValueError("a copy begins before the data")
            piece = out[start : start + length]
            while len(piece) < length:  # it overlaps its end: what was copied is copied again
                piece += piece[: length - len(piece)]
            out += piece
        if len(out) > size:
            raise ValueError(f"it holds more than the {size} bytes it declares")
    if len(out) != size:
        raise ValueError(f"it holds {len(out)} bytes, not the {size} it declares")
    return bytes(out)


def compress(data: bytes) -> bytes:
    """Pack greedily: at each place a copy from where its three bytes stood last, if near enough."""
    out = bytearray()
    sources = _last_places(data)
    matches = np.flatnonzero(sources >= 0).tolist()
    done = 0
    for at in matches:
        if at < done:
            continue
        source = int(sources[at])
        _literals(out, data, done, at)
        length = _common(data, source, at)
        distance, code = at - source - 1, min(length - 2, 7)
        out.append(code << 5 | distance >> 8)
        if code == 7:
            out.append(length - 9)
        out.append(distance & 255)
        done = at + length
    _literals(out, data, done, len(data))
    return bytes(out)


def _last_places(data: bytes) -> np.ndarray:
    """int64: for each byte, where it and the two behind it stood last; -1 for nowhere near."""
    letters = np.frombuffer(data, np.uint8).astype(np.int32)
    last = np.full(max(0, len(letters) - 2), -1)
    if len(last):
        keys = letters[:-2] << 16 | letters[1:-1] << 8 | letters[2:]
        order = np.argsort(keys, kind="stable")
        same = keys[order[1:]] == keys[order[:-1]]
        near = same & (order[1:] - order[:-1] <= _FARTHEST)
        last[order[1:][near]] = order[:-1][near]
    return last


def _common(data: bytes, source: int, at: int) -> int:
    """How many bytes are the same from two places on, at most the longest copy."""
    a, b = data[source : source + _LONGEST], data[at : at + _LONGEST]
    difference = int.from_bytes(a[: len(b)], "little") ^ int.from_bytes(b, "little")
    return ((difference & -difference).bit_length() - 1) // 8 if difference else len(b)


def _literals(out: bytearray, data: bytes, start: int, end: int) -> None:
    for at in range(start, end, _LONGEST_LITERAL):
        piece = data[at : min(end, at + _LONGEST_LITERAL)]
        out.append(len(piece) - 1)
        out += piece
