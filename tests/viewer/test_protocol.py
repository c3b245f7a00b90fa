"""The server's side of the protocol, on the same messages as viewer/test/protocol.test.ts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from geodistill.checks import InputError
from geodistill.deform.session_file import mirrors_from_list, session_from_dict, session_to_dict
from geodistill.viewer.edits import (
    Accepted,
    EditMessage,
    FromEditor,
    MirrorsFound,
    PolishMessage,
    PositionsHeader,
    ProgressMessage,
    ReadyMessage,
    RowHeader,
    RowMessage,
    SharedEdit,
    ToEditor,
    encode_edit,
)
from geodistill.viewer.protocol import (
    CameraMessage,
    PictureHeader,
    decode_picture,
    encode,
    encode_picture,
    read_message,
)
from geodistill.viewer.wire import FailureMessage, Malformed

VECTORS = json.loads(
    (Path(__file__).parents[2] / "viewer" / "test" / "vectors.json").read_text("utf-8")
)


@pytest.mark.parametrize("text", VECTORS["from_page"]["read"])
def test_cameras_are_read(text: str) -> None:
    found = read_message(text)
    assert isinstance(found, CameraMessage)
    assert json.loads(encode(found)) == json.loads(text)


@pytest.mark.parametrize("text", VECTORS["from_page"]["refused"], ids=lambda text: text[:40])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        read_message(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", VECTORS["from_server"]["read"])
def test_what_the_page_reads_is_what_is_sent(text: str) -> None:
    values = json.loads(text)
    made = {"picture": PictureHeader, "failure": FailureMessage}[values.pop("type")](**values)
    assert json.loads(encode(made)) == json.loads(text)


@pytest.mark.parametrize("handle", VECTORS["handles"]["read"], ids=str)
def test_handles_of_sessions_are_read(handle: dict[str, Any]) -> None:
    assert len(session_from_dict({"handles": [handle]}).handles) == 1


@pytest.mark.parametrize("handle", VECTORS["handles"]["refused"], ids=str)
def test_what_is_no_handle_is_refused(handle: Any) -> None:
    with pytest.raises(InputError, match="handles"):
        session_from_dict({"handles": [handle]})


def test_pictures_survive_the_way() -> None:
    header = PictureHeader(7, 4, 6, 2, 3, True)
    pixels = bytes(range(48))
    assert decode_picture(encode_picture(header, pixels)) == (header, pixels)
    with pytest.raises(Malformed, match="cut off"):
        decode_picture(encode_picture(header, pixels[:-1]))


def test_the_camera_is_the_one_that_was_meant() -> None:
    message = read_message(json.dumps(VECTORS["camera"]))
    assert isinstance(message, CameraMessage)
    camera = message.camera()
    assert camera.size == (480, 640)
    assert camera.centers.tolist() == [0.5, -2.0, -4.25]
    # The upper edge is half the field of view above the middle.
    top = torch.linalg.inv(camera.K) @ torch.tensor([320.0, 0.0, 1.0], dtype=torch.float64)
    assert math.atan2(-float(top[1]), float(top[2])) == pytest.approx(0.35)
    assert CameraMessage(**asdict(message)) == message


# The deformation page


def plain(message: FromEditor) -> dict[str, Any]:
    """A message of the page as it was sent."""
    values = dict(vars(message))
    if isinstance(message, RowMessage):
        kept = {k: v for k, v in vars(message.site).items() if v is not None}
        mirrors = [{"normal": m.normal} for m in message.mirrors]
        values |= {"site": kept, "mirrors": mirrors}
    if isinstance(message, (EditMessage, PolishMessage)):
        values["session"] = session_to_dict(message.session)
    return json.loads(json.dumps({"type": message.type, **values}))


@pytest.mark.parametrize("text", VECTORS["from_page"]["read_edit"])
def test_questions_and_edits_are_read(text: str) -> None:
    found = read_message(text)
    assert not isinstance(found, CameraMessage)
    assert plain(found) == json.loads(text)


@pytest.mark.parametrize("text", VECTORS["to_editor"]["read"])
def test_what_the_deformation_page_reads_is_what_is_sent(text: str) -> None:
    values = json.loads(text)
    made: dict[str, Callable[[dict[str, Any]], ToEditor]] = {
        "progress": lambda v: ProgressMessage(**v),
        "ready": lambda v: ReadyMessage(**v),
        "mirrors": lambda v: MirrorsFound(v["id"], mirrors_from_list(v["mirrors"], "mirrors")),
        "edit": lambda v: SharedEdit(v["server"], session_from_dict(v["session"])),
        "accepted": lambda v: Accepted(**v),
        "failure": lambda v: FailureMessage(**v),
    }
    message = made[values["type"]]({k: v for k, v in values.items() if k != "type"})
    assert json.loads(encode_edit(message)) == values


def test_headers_of_numbers_are_what_the_page_reads() -> None:
    values = dict(VECTORS["to_editor"]["row"])
    header = RowHeader(**{k: v for k, v in values.items() if k != "type"})
    assert json.loads(encode_edit(header)) == values
    assert json.loads(encode_edit(PositionsHeader(5, 1))) == VECTORS["to_editor"]["positions"]
