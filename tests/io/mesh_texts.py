"""Mesh files written by hand, byte by byte, for the readers' tests."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SQUARE = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, 0.0)]
TRIANGLES = [[0, 1, 2], [0, 2, 3]]


def write_picture(path: Path, color: tuple[int, ...] = (10, 20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = "RGBA" if len(color) == 4 else "RGB"
    Image.new(mode, (3, 2), color).save(path)  # pyright: ignore[reportArgumentType]
    return path


def glb(content: dict[str, Any], binary: bytes = b"") -> bytes:
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    head = struct.pack("<4s2I", b"glTF", 2, 28 + len(text) + len(binary))
    return (
        head
        + struct.pack("<I4s", len(text), b"JSON")
        + text
        + struct.pack("<I4s", len(binary), b"BIN\0")
        + binary
    )


class Scene:
    """A glTF document that grows by accessors, with its buffer."""

    def __init__(self) -> None:
        self.binary = b""
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": []}],
            "accessors": [],
            "bufferViews": [],
        }

    def add(self, values: Any, dtype: str, **more: Any) -> int:
        array = np.asarray(values, dtype)
        kinds = {"<f4": 5126, "<u4": 5125, "<u2": 5123, "|u1": 5121, "|i1": 5120, "<i2": 5122}
        width = array.shape[1] if array.ndim == 2 else 1
        view = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": array.nbytes}
        self.json["bufferViews"].append(view)
        self.json["accessors"].append(
            {
                "bufferView": len(self.json["bufferViews"]) - 1,
                "componentType": kinds[array.dtype.str],
                "count": len(array),
                "type": ["", "SCALAR", "VEC2", "VEC3", "VEC4"][width] if width < 16 else "MAT4",
                **more,
            }
        )
        self.binary += array.tobytes() + b"\0" * (-array.nbytes % 4)
        return len(self.json["accessors"]) - 1

    def square(self, mesh: int = 0, **primitive: Any) -> dict[str, Any]:
        """A primitive of the unit square, appended to a mesh."""
        attributes = {"POSITION": self.add(SQUARE, "<f4"), **primitive.pop("attributes", {})}
        entry = {"attributes": attributes, "indices": self.add([0, 1, 2, 0, 2, 3], "<u2")}
        entry |= primitive
        self.json["meshes"][mesh]["primitives"].append(entry)
        return entry

    def bytes(self) -> bytes:
        self.json["buffers"] = [{"byteLength": len(self.binary)}]
        return glb(self.json, self.binary)

    def embedded(self) -> str:
        data = base64.b64encode(self.binary).decode()
        uri = f"data:application/octet-stream;base64,{data}"
        self.json["buffers"] = [{"byteLength": len(self.binary), "uri": uri}]
        return json.dumps(self.json)

    def external(self, name: str) -> str:
        self.json["buffers"] = [{"byteLength": len(self.binary), "uri": name}]
        return json.dumps(self.json)


PLY_SQUARE = b"""ply
format ascii 1.0
comment made by hand
element vertex 4
property double x
property double y
property double z
property uchar red
property uchar green
property uchar blue
property float s
property float t
property float heat
element face 2
property list uchar int vertex_indices
end_header
0.1 0 0 0 1 0 0 0 1.5
1 0 0 255 0 0 1 0 2.5
1 1 0 0 0 1 1 1 3.5
0 1 0 1 1 1 0 1 4.5
3 0 1 2
3 0 2 3
"""


def binary_ply(order: str, faces: list[list[int]], cut: int = 0) -> bytes:
    """The square as a binary PLY with polygons, less `cut` bytes at the end."""
    name = {"<": "little", ">": "big"}[order]
    head = (
        f"ply\nformat binary_{name}_endian 1.0\nelement vertex 4\nproperty float x\n"
        "property float y\nproperty float z\nproperty uchar red\nproperty uchar green\n"
        "property uchar blue\nproperty uchar alpha\n"
        f"element face {len(faces)}\nproperty list uchar uint vertex_index\nproperty short part\n"
        "end_header\n"
    )
    body = b"".join(
        struct.pack(order + "3f4B", *place, 9, 8, 7, number) for number, place in enumerate(SQUARE)
    )
    for face in faces:
        body += struct.pack(f"{order}B{len(face)}Ih", len(face), *face, 5)
    data = head.encode() + body
    return data[: len(data) - cut]


def binary_stl(triangles: list[list[tuple[float, ...]]], header: bytes = b"solid") -> bytes:
    body = b"".join(
        struct.pack("<12fH", 0, 0, 0, *(value for corner in triangle for value in corner), 0)
        for triangle in triangles
    )
    return header.ljust(80, b"\0") + struct.pack("<I", len(triangles)) + body


SQUARE_STL = [[SQUARE[i] for i in face] for face in TRIANGLES]
