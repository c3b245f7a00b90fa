"""What page and server say to one another of scenes; viewer/src/protocol.ts is the other side.

The page sends cameras as JSON texts. The server sends pictures as binary messages, a header in JSON
ahead of the pixels, and failures as JSON texts. viewer/test/vectors.json holds messages that both
sides must read alike, and some that both must refuse.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import ClassVar

import torch

from geodistill.cameras import Camera, rigid_error
from geodistill.viewer.edits import FromEditor, read_edit
from geodistill.viewer.wire import (
    MOST_ID,
    FailureMessage,
    Malformed,
    expect_keys,
    pack,
    parse,
    unpack,
)

VERSION = 2
MOST_SIDE_PX = 8192
MOST_PIXELS = 1 << 25
RIGID = 1e-3
"""How far R^T R of a camera may be from the identity: the page computes in float64."""


@dataclass(frozen=True)
class CameraMessage:
    """Show the field from here.

    id              rises with every camera; pictures say which one they show
    world_from_cam  12 numbers, rows of [3, 4], x right, y down, z forward
    fov_y           from the upper to the lower edge, in radians
    width, height   of the canvas, in its pixels
    moving          whether the next camera follows at once, so that a coarse picture will do

    Raises Malformed for values that no camera has.
    """

    id: int
    world_from_cam: tuple[float, ...]
    fov_y: float
    width: int
    height: int
    moving: bool
    type: ClassVar[str] = "camera"

    def __post_init__(self) -> None:
        sides = (self.width, self.height)
        if not all(1 <= side <= MOST_SIDE_PX for side in sides) or math.prod(sides) > MOST_PIXELS:
            raise Malformed(f"camera: {self.width} x {self.height} pixels")
        if not 0 <= self.id <= MOST_ID:
            raise Malformed("camera: bad id")
        if not 0 < self.fov_y < math.pi:
            raise Malformed("camera: bad fov_y")
        if len(self.world_from_cam) != 12 or not all(map(math.isfinite, self.world_from_cam)):
            raise Malformed("camera: world_from_cam is not 12 finite numbers")
        if rigid_error(self._matrix()[:3, :3]) > RIGID:
            raise Malformed("camera: world_from_cam does not turn and move only")

    def _matrix(self) -> torch.Tensor:
        rows = torch.tensor([*self.world_from_cam, 0, 0, 0, 1], dtype=torch.float64)
        return rows.reshape(4, 4)

    def camera(self) -> Camera:
        """The camera of the whole canvas, in float64."""
        focal_px = 0.5 * self.height / math.tan(0.5 * self.fov_y)
        middle = 0.5 * self.width, 0.5 * self.height
        K = [[focal_px, 0, middle[0]], [0, focal_px, middle[1]], [0, 0, 1]]
        size = (self.height, self.width)
        return Camera(torch.tensor(K, dtype=torch.float64), self._matrix(), size)


@dataclass(frozen=True)
class PictureHeader:
    """Rows of a picture: `rows` of them from `row` on; `final` if nothing finer of this camera
    comes after them."""

    id: int
    width: int
    height: int
    row: int
    rows: int
    final: bool
    type: ClassVar[str] = "picture"


def read_message(text: str) -> CameraMessage | FromEditor:
    """A message of the page. Raises Malformed for anything else."""
    kind, value = parse(text)
    if kind in ("row", "edit", "polish", "mirrors"):
        return read_edit(kind, value)
    if kind != CameraMessage.type:
        raise Malformed(f"unknown type {json.dumps(kind)[:40]}")
    expect_keys(kind, value, [field.name for field in fields(CameraMessage)])
    for name, kinds in {"id": int, "width": int, "height": int, "fov_y": (int, float)}.items():
        if isinstance(value[name], bool) or not isinstance(value[name], kinds):
            raise Malformed(f"camera: bad {name}")
    if not isinstance(value["moving"], bool):
        raise Malformed("camera: bad moving")
    rows = value["world_from_cam"]
    if not isinstance(rows, list) or any(type(v) not in (int, float) for v in rows):
        raise Malformed("camera: world_from_cam is not 12 finite numbers")
    try:
        value["world_from_cam"] = tuple(map(float, rows))
        return CameraMessage(**value)
    except OverflowError:
        raise Malformed("camera: a number is too large") from None


def encode(message: FailureMessage | PictureHeader | CameraMessage) -> str:
    return json.dumps({"type": message.type, **asdict(message)}, allow_nan=False)


def encode_picture(header: PictureHeader, pixels: bytes) -> bytes:
    """Header and pixels: RGBA with straight alpha, display-referred, row after row."""
    return pack(encode(header), pixels)


def decode_picture(data: bytes) -> tuple[PictureHeader, bytes]:
    """The same backwards."""
    kind, values, pixels = unpack(data)
    if kind != PictureHeader.type:
        raise Malformed("no picture")
    header = PictureHeader(**values)
    if len(pixels) != 4 * header.width * header.rows:
        raise Malformed("a picture's pixels are cut off")
    return header, pixels
