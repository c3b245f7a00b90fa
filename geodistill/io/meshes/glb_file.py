"""A GLB file in the making: accessors in one buffer, custom attributes, and the two chunks.

Source: Khronos glTF 2.0 specification, sections 3.6 (accessors) and 4.4 (binary layout).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geodistill.checks import InputError, UsageError
from geodistill.io.columns import to_float32
from geodistill.io.meshes.gltf_file import BINARY_CHUNK, COMPONENTS, JSON_CHUNK, MAGIC

VERTICES = 34962
"""The target of a buffer view of vertex attributes."""
_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
_LONGEST = 2**32 - 1
_PART = re.compile(r"(.+)_(\d{1,5})")


class GlbBuffer:
    """The binary chunk in pieces, with the views and accessors that describe it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.length = 0
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, **more: Any) -> int:
        self.views.append({"buffer": 0, "byteOffset": self.length, "byteLength": len(data), **more})
        padded = data + b"\0" * (-len(data) % 4)
        self.pieces.append(padded)
        self.length += len(padded)
        return len(self.views) - 1

    def accessor(self, values: np.ndarray, target: int | None = None, **more: Any) -> int:
        """Store [N, C] or [N]; every row must take a multiple of 4 bytes, or be a scalar."""
        kind = values.dtype.newbyteorder("<")
        code = {np.dtype(name): number for number, name in COMPONENTS.items()}[kind]
        view = {} if target is None else {"target": target}
        self.accessors.append(
            {
                "bufferView": self.view(np.ascontiguousarray(values, kind).tobytes(), **view),
                "componentType": code,
                "count": len(values),
                "type": _TYPES[values.shape[1] if values.ndim == 2 else 1],
                **more,
            }
        )
        return len(self.accessors) - 1

    def matrices(self, columns: np.ndarray) -> int:
        """Store matrices float32 [N, 16], column after column."""
        self.accessors.append(
            {
                "bufferView": self.view(np.ascontiguousarray(columns, "<f4").tobytes()),
                "componentType": 5126,
                "count": len(columns),
                "type": "MAT4",
            }
        )
        return len(self.accessors) - 1


def custom_attributes(attributes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns [N] or [N, C] as float32 `_NAME`, or `_NAME_0` … in parts of at most four.

    Raises UsageError when two would get one name.
    """
    found: dict[str, np.ndarray] = {}
    for name, values in attributes.items():
        columns = values.reshape(len(values), -1).astype(np.float32)
        parts = [columns[:, i : i + 4] for i in range(0, columns.shape[1], 4)]
        for number, part in enumerate(parts):
            key = f"_{name.upper()}" + (f"_{number}" if len(parts) > 1 else "")
            if key in found:
                raise UsageError(f"two attributes would both be stored as '{key}': rename one")
            found[key] = part
    return found


def joined_attributes(parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns float32 [N] or [N, C] of `_NAME` [N, 1 to 4], in lower case.

    Parts `_NAME_0`, `_NAME_1` … of four are one column, as `custom_attributes` splits it.
    """
    own = dict(parts)
    numbered: dict[str, dict[int, str]] = {}
    for name in own:
        if match := _PART.fullmatch(name):
            numbered.setdefault(match[1], {})[int(match[2])] = name
    for base, members in numbered.items():
        names = [members.get(number, "") for number in range(len(members))]
        whole = len(names) > 1 and all(names) and base not in own
        if whole and all(own[name].shape[1] == 4 for name in names[:-1]):
            own[base] = np.concatenate([own.pop(name) for name in names], axis=1)
    flat = {name: v[:, 0] if v.shape[1] == 1 else v for name, v in own.items()}
    return {name[1:].lower(): np.ascontiguousarray(to_float32(v)) for name, v in flat.items()}


def glb_pieces(content: Mapping[str, Any], buffer: GlbBuffer, path: Path) -> list[bytes]:
    """The file of some JSON, completed by what describes the buffer, and of the buffer.

    Raises InputError when it would be longer than a GLB file can be.
    """
    whole = {
        "asset": {"version": "2.0", "generator": "geodistill"},
        **content,
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": buffer.length}],
    }
    text = json.dumps(whole, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    length = 12 + 8 + len(text) + 8 + buffer.length
    if length > _LONGEST:
        raise InputError(
            f"{path} would take {length / 2**30:.1f} GiB, and a GLB holds 4: write fewer columns"
        )
    head = MAGIC + struct.pack("<4I", 2, length, len(text), JSON_CHUNK)
    return [head, text, struct.pack("<2I", buffer.length, BINARY_CHUNK), *buffer.pieces]
