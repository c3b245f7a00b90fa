"""A glTF 2.0 or GLB file's parts: its JSON, buffers, accessors and images.

Source: Khronos glTF 2.0 specification, sections 3.6 (accessors) and 4.4 (binary layout).
"""

from __future__ import annotations

import base64
import binascii
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.json_values import json_object
from geodistill.io.meshes.textures import decode_texture, find_beside
from geodistill.io.whole_file import read_whole

MAGIC = b"glTF"
JSON_CHUNK, BINARY_CHUNK = 0x4E4F534A, 0x004E4942
COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
DAMAGE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What reading JSON of another form than glTF's raises."""
_UNSTORED = 2**22
"""Rows of zeros that an accessor without data may stand for in any file; in a longer one than
this its length."""
_NUMBERS, _GROWTH = 2**26, 16
"""The most numbers that are taken out of any file, and for each of its bytes: 64 times the floats
that it can hold."""
PART = 64
"""Numbers that a placed part counts for, however short its columns are."""
_UNREADABLE = {
    "KHR_draco_mesh_compression": "Draco compression",
    "EXT_meshopt_compression": "meshopt compression",
    "KHR_meshopt_compression": "meshopt compression",
}


class GltfFile:
    """Everything by its number; what the file lacks or contradicts is an InputError naming it."""

    def __init__(self, path: Path) -> None:
        data = read_whole(path)
        self.path, self.binary = path, b""
        self._length, self._taken = len(data), 0
        if data.startswith(MAGIC):
            data, self.binary = _chunks(data, path)
        elif path.suffix.lower() == ".glb":
            raise InputError(f"{path} does not begin as a GLB file: check its name or copy it")
        self.json: Any = json_object(data, path)
        if not isinstance(self.json.get("asset"), dict):
            raise InputError(f"{path} is no glTF file: it has no 'asset'")
        if str(self.json["asset"].get("version", "")).split(".")[0] != "2":
            raise InputError(f"{path} is not of glTF version 2: export it as glTF 2.0")
        for extension in self.json.get("extensionsRequired", ()):
            if extension in _UNREADABLE:
                raise InputError(
                    f"{path} uses {_UNREADABLE[extension]} ({extension}): export it without"
                )
        self._buffers: dict[int, bytes] = {}
        self._beside: dict[Path, bytes] = {}
        self._images: dict[int, np.ndarray | None] = {}
        self._pictures: dict[bytes, np.ndarray] = {}

    def entry(self, kind: str, number: Any) -> dict[str, Any]:
        """The object of a top-level list by its number."""
        entries = self.json.get(kind, [])
        if (
            not isinstance(entries, list)
            or not isinstance(number, int)
            or not 0 <= number < len(entries)
            or not isinstance(entries[number], dict)
        ):
            shown = repr(number)[:40]
            raise InputError(f"{self.path} refers to {kind}[{shown}], which it does not hold")
        return entries[number]

    def take(self, numbers: int) -> None:
        """Count numbers that get a place in memory; raise InputError where they become too many.

        A few bytes of JSON place a mesh, or name a column, once more.
        """
        self._taken += numbers
        most = max(_NUMBERS, _GROWTH * self._length)
        if self._taken > most:
            raise InputError(
                f"{self.path} places its parts so often that its {self._length} bytes become more "
                f"than {most} numbers: export fewer copies of them"
            )

    def accessor(self, number: Any) -> np.ndarray:
        """[count, C] in the stored type, or float64 where it is normalised to [-1, 1].

        Each call is counted by `take`.
        """
        entry = self.entry("accessors", number)
        try:
            kind, width = np.dtype(COMPONENTS[entry["componentType"]]), WIDTHS[entry["type"]]
            count = entry["count"]
            if not isinstance(count, int) or not 0 <= count < 2**53:
                raise TypeError
        except (KeyError, TypeError):
            raise InputError(
                f"{self.path}: accessor {number} has no valid type and count"
            ) from None
        if "bufferView" in entry:
            values = self._view(entry, number, kind, width, count)
        else:
            if count > max(_UNSTORED, self._length):
                raise InputError(
                    f"{self.path}: accessor {number} stands for {count} rows without data: it is "
                    "damaged"
                )
            values = np.zeros((count, width), kind)
        self.take(values.size)
        if "sparse" in entry:
            values = self._with_sparse(entry["sparse"], number, values)
        if entry.get("normalized") and kind.kind in "iu":
            return np.maximum(values / np.iinfo(kind).max, -1.0)
        return values

    def _view(
        self, entry: dict[str, Any], number: Any, kind: np.dtype, width: int, count: int
    ) -> np.ndarray:
        view = self.entry("bufferViews", entry["bufferView"])
        data = self._view_bytes(view, entry["bufferView"])
        start, row = int(entry.get("byteOffset", 0)), kind.itemsize * width
        stride = int(view.get("byteStride") or row)
        end = start + (stride * (count - 1) + row if count else 0)
        if start < 0 or stride < row or end > len(data):
            raise InputError(
                f"{self.path}: accessor {number} ends at byte {end} of a buffer view of "
                f"{len(data)}: the file is truncated or damaged"
            )
        return np.ndarray((count, width), kind, data, start, (stride, kind.itemsize))

    def _with_sparse(self, sparse: dict[str, Any], number: Any, values: np.ndarray) -> np.ndarray:
        try:
            count, places, changes = sparse["count"], sparse["indices"], sparse["values"]
            kind = np.dtype(COMPONENTS[places["componentType"]])
            index = self._view(places, number, kind, 1, count)[:, 0].astype(np.int64)
            result = values.copy()
            result[index] = self._view(changes, number, values.dtype, values.shape[1], count)
        except (KeyError, TypeError, IndexError):
            raise InputError(f"{self.path}: the sparse accessor {number} is damaged") from None
        return result

    def _view_bytes(self, view: dict[str, Any], number: Any) -> memoryview:
        data = self._buffer(view.get("buffer"))
        start, length = view.get("byteOffset", 0), view.get("byteLength")
        if (
            not isinstance(start, int)
            or not isinstance(length, int)
            or start < 0
            or length < 0
            or start + length > len(data)
        ):
            raise InputError(
                f"{self.path}: buffer view {number} reaches beyond its buffer of {len(data)} "
                "bytes: the file is truncated or damaged"
            )
        return memoryview(data)[start : start + length]

    def _buffer(self, number: Any) -> bytes:
        entry = self.entry("buffers", number)
        if number not in self._buffers:
            uri = entry.get("uri")
            data = self.binary if uri is None else self._resource(uri)
            if data is None:
                raise InputError(
                    f"{self.path}: its buffer {uri} is missing: put it beside the file"
                )
            if len(data) < int(entry.get("byteLength", 0)):
                raise InputError(
                    f"{self.path}: buffer {number} holds {len(data)} bytes of "
                    f"{entry['byteLength']}: it is truncated"
                )
            self._buffers[number] = data
        return self._buffers[number]

    def _resource(self, uri: Any) -> bytes | None:
        """The bytes of a data URI or of a file beside this one; None where there is none."""
        if not isinstance(uri, str):
            raise InputError(f"{self.path} has a URI that is not a text")
        if uri.startswith("data:"):
            _, _, content = uri.partition(",")
            try:
                return base64.b64decode(unquote(content), validate=False)
            except (binascii.Error, ValueError):
                raise InputError(f"{self.path} has a data URI that is not base64") from None
        path = find_beside(self.path.parent, unquote(uri))
        if path is None:
            return None
        place = path.resolve()
        if place not in self._beside:
            self._beside[place] = read_whole(path)
            self._length += len(self._beside[place])
        return self._beside[place]

    def image(self, number: Any) -> np.ndarray | None:
        """uint8 [H, W, 4], one array for all images that are the same file.

        None, with a line, where the picture's file is missing.
        """
        if number not in self._images:
            entry = self.entry("images", number)
            name = f"{self.path}: image {number}"
            if "bufferView" in entry:
                view = self.entry("bufferViews", entry["bufferView"])
                data = bytes(self._view_bytes(view, entry["bufferView"]))
            else:
                uri = entry.get("uri")
                data = self._resource(uri)
                name = f"{name} ({str(uri)[:60]})"
            if data is None:
                log.say(f"{name} is missing; its material keeps one colour")
            elif data not in self._pictures:
                self._pictures[data] = decode_texture(data, name)
            self._images[number] = None if data is None else self._pictures[data]
        return self._images[number]


def _chunks(data: bytes, path: Path) -> tuple[bytes, bytes]:
    """The JSON and the binary chunk of a GLB file."""
    if len(data) < 20:
        raise InputError(f"{path} is truncated: it ends within its header")
    version, length = struct.unpack_from("<2I", data, 4)
    if version != 2:
        raise InputError(f"{path} is GLB version {version}: export it as glTF 2.0")
    if length > len(data):
        raise InputError(f"{path} is truncated: it holds {len(data)} bytes of {length}")
    found: dict[int, bytes] = {}
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<2I", data, at)
        if at + 8 + size > length:
            raise InputError(f"{path} is damaged: a chunk reaches beyond its end")
        found.setdefault(kind, data[at + 8 : at + 8 + size])
        at += 8 + size
    if JSON_CHUNK not in found:
        raise InputError(f"{path} is damaged: it has no JSON chunk")
    return found[JSON_CHUNK], found.get(BINARY_CHUNK, b"")
