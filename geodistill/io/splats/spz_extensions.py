"""What vendors add to SPZ files: records of a type (uint32), a length (uint32) and content.

Source: the reference implementation's extensions/README.md, github.com/nianticlabs/spz.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.splats.arrays import SplatArrays
from geodistill.io.splats.turning import turned

_ORBIT, _AXES, _GEOREFERENCE = 0xADBE0002, 0xADBE0003, 0x4E530001
_UNSEEN = (_ORBIT, _GEOREFERENCE)  # limits of cameras, a place on the globe
_SYSTEMS = (
    *("LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF"),
    *("LFD", "RFD", "LFU", "RFU", "LBD", "RBD", "LBU", "RBU"),
)
"""Where x, y and z point: left or right, down or up, back or forward; numbered from 1."""
_POINTS = {"R": (1, 0, 0), "U": (0, 1, 0), "B": (0, 0, 1)}
_OPPOSITE = {"L": "R", "D": "U", "F": "B"}


def applied_extensions(path: Path, splats: SplatArrays, records: bytes) -> SplatArrays:
    """The splats with x right, y up, z backward, whatever axes an extension says they are in.

    Other extensions are left out, with a line where they could change what is seen. Raises
    InputError for records that do not fit their bytes, and for axes that do not exist.
    """
    for kind, content in _records(path, records):
        if kind == _AXES:
            splats = turned(splats, _to_opengl(path, content), np.zeros(3))
        elif kind not in _UNSEEN:
            log.say(
                f"{path}: its extension 0x{kind:08X} ({len(content)} bytes) is not known here and "
                "left out"
            )
    return splats


def _records(path: Path, data: bytes) -> list[tuple[int, bytes]]:
    """Types and contents; of several of one type the first."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<2I", data, at) if at + 8 <= len(data) else (0, 2**32)
        at += 8
        if size > len(data) - at:
            raise InputError(f"{path} is damaged: an extension reaches beyond its place")
        found.setdefault(kind, data[at : at + size])
        at += size
    return [*found.items()]


def _to_opengl(path: Path, content: bytes) -> np.ndarray:
    """[3, 3] from the named axes to right, up, backward."""
    code = int.from_bytes(content[:4], "little")
    if len(content) < 4 or not 0 <= code <= len(_SYSTEMS):
        raise InputError(f"{path} is damaged: its extension says axes of number {code}")
    name = _SYSTEMS[code - 1] if code else "RUB"
    columns = [np.array(_POINTS[_OPPOSITE.get(letter, letter)]) for letter in name]
    signs = [-1.0 if letter in _OPPOSITE else 1.0 for letter in name]
    return np.stack(columns, axis=1) * np.array(signs)
