"""The server's side of the protocol, on the same messages as viewer/test/protocol.test.ts."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from geodistill.viewer.protocol import (
    CameraMessage,
    FailureMessage,
    Malformed,
    PictureHeader,
    decode_picture,
    encode,
    encode_picture,
    read_message,
)

VECTORS = json.loads(
    (Path(__file__).parents[2] / "viewer" / "test" / "vectors.json").read_text("utf-8")
)


@pytest.mark.parametrize("text", VECTORS["from_page"]["read"])
def test_cameras_are_read(text: str) -> None:
    assert json.loads(encode(read_message(text))) == json.loads(text)


@pytest.mark.parametrize("text", VECTORS["from_page"]["refused"], ids=lambda text: text[:40])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        read_message(text)
    assert len(str(caught.value)) < 123 and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", VECTORS["from_server"]["read"])
def test_what_the_page_reads_is_what_is_sent(text: str) -> None:
    values = json.loads(text)
    made = {"picture": PictureHeader, "failure": FailureMessage}[values.pop("type")](**values)
    assert json.loads(encode(made)) == json.loads(text)


def test_pictures_survive_the_way() -> None:
    header = PictureHeader(7, 4, 6, 2, 3, True)
    pixels = bytes(range(48))
    assert decode_picture(encode_picture(header, pixels)) == (header, pixels)
    with pytest.raises(Malformed, match="cut off"):
        decode_picture(encode_picture(header, pixels[:-1]))


def test_the_camera_is_the_one_that_was_meant() -> None:
    message = read_message(json.dumps(VECTORS["camera"]))
    camera = message.camera()
    assert camera.size == (480, 640)
    assert camera.centers.tolist() == [0.5, -2.0, -4.25]
    # The upper edge is half the field of view above the middle.
    top = torch.linalg.inv(camera.K) @ torch.tensor([320.0, 0.0, 1.0], dtype=torch.float64)
    assert math.atan2(-float(top[1]), float(top[2])) == pytest.approx(0.35)
    assert CameraMessage(**asdict(message)) == message
