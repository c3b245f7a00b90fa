"""What the deformation page and its server say to one another; viewer/src/deform/messages.ts is the
other side, and viewer/test/vectors.json holds messages for both.

A session goes as it stands in a file (`deform.session_file`). Rows of numbers, one for each
distinct position of the mesh, follow a header in JSON as pictures do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from geodistill.checks import InputError
from geodistill.deform.session import Anchor, Mirror, Session
from geodistill.deform.session_file import (
    anchor_from_dict,
    mirrors_from_list,
    session_from_dict,
    session_to_dict,
)
from geodistill.viewer.wire import FailureMessage, Malformed, expect_id, expect_keys

About = Literal["likeness", "path"]
Method = Literal["cardinal", "published"]


@dataclass(frozen=True)
class RowMessage:
    """How far is everything from this place: in feature space, or along the surface?

    Features are taken as a session of this method and centring does. With mirrors, distance along
    the surface is from the nearer of the place and its images.
    """

    id: int
    about: About
    site: Anchor
    method: Method
    centring: float | None
    mirrors: tuple[Mirror, ...]
    type: ClassVar[str] = "row"


@dataclass(frozen=True)
class EditMessage:
    """The edit as it is now, to be kept and shown to the other pages."""

    id: int
    session: Session
    type: ClassVar[str] = "edit"


@dataclass(frozen=True)
class PolishMessage:
    """Where are the positions after the edit's rigid polish?"""

    id: int
    session: Session
    type: ClassVar[str] = "polish"


@dataclass(frozen=True)
class MirrorsMessage:
    """Which planes is the mesh symmetric in?"""

    id: int
    type: ClassVar[str] = "mirrors"


FromEditor = RowMessage | EditMessage | PolishMessage | MirrorsMessage


@dataclass(frozen=True)
class ProgressMessage:
    """Features are being found: `done` steps of `total`, None where that is not known."""

    what: str
    done: int
    total: int | None
    type: ClassVar[str] = "progress"


@dataclass(frozen=True)
class ReadyMessage:
    """There are features: rows of likeness can be asked for. Radius and power are those of the
    automatic kernel."""

    teacher: str
    channels: int
    radius: float
    power: float
    type: ClassVar[str] = "ready"


@dataclass(frozen=True)
class RowHeader:
    """Ahead of uint16 [count]: distance / longest * 65535.

    center    of the place, in the mesh's frame
    face, barycentric  where a position came to lie on the surface, else None
    features  of the place, unit vectors; empty for distances along the surface
    kernel    radius and power of the automatic kernel; None for distances along the surface
    """

    id: int
    about: About
    count: int
    longest: float
    center: tuple[float, float, float]
    face: int | None
    barycentric: tuple[float, float, float] | None
    features: tuple[tuple[float, ...], ...]
    kernel: tuple[float, float] | None
    type: ClassVar[str] = "row"


@dataclass(frozen=True)
class PositionsHeader:
    """Ahead of float32 [count, 3]: positions after the polish, less the scene's origin."""

    id: int
    count: int
    type: ClassVar[str] = "positions"


@dataclass(frozen=True)
class MirrorsFound:
    """The planes, best first."""

    id: int
    mirrors: tuple[Mirror, ...]
    type: ClassVar[str] = "mirrors"


@dataclass(frozen=True)
class SharedEdit:
    """The edit that the server keeps. `server` names this run of it: another one may have another
    edit."""

    server: str
    session: Session
    type: ClassVar[str] = "edit"


@dataclass(frozen=True)
class Accepted:
    """The page's own edit is kept."""

    id: int
    type: ClassVar[str] = "accepted"


ToEditor = ProgressMessage | ReadyMessage | MirrorsFound | SharedEdit | Accepted | FailureMessage
Header = RowHeader | PositionsHeader


def read_edit(kind: str, value: dict[str, Any]) -> FromEditor:
    """A message of the deformation page. Raises Malformed for anything else."""
    try:
        if kind == RowMessage.type:
            return _row(value)
        if kind == MirrorsMessage.type:
            expect_keys(kind, value, ("id",))
            return MirrorsMessage(expect_id(kind, value))
        made = {EditMessage.type: EditMessage, PolishMessage.type: PolishMessage}[kind]
        expect_keys(kind, value, ("id", "session"))
        if not isinstance(value["session"], dict):
            raise Malformed(f"{kind}: bad session")
        return made(expect_id(kind, value), session_from_dict(value["session"]))
    except Malformed:
        raise
    except InputError as error:
        raise Malformed(f"{kind}: {error}") from None


def _row(value: dict[str, Any]) -> RowMessage:
    kind = RowMessage.type
    expect_keys(kind, value, [field.name for field in fields(RowMessage)])
    if value["about"] not in get_args(About):
        raise Malformed("row: bad about")
    # What a session says of its features, this says too.
    like = session_from_dict({name: value[name] for name in ("method", "centring")})
    return RowMessage(
        expect_id(kind, value),
        value["about"],
        anchor_from_dict(value["site"], "site"),
        like.method,
        like.centring,
        mirrors_from_list(value["mirrors"], "mirrors"),
    )


def encode_edit(message: ToEditor | Header) -> str:
    """A message to the page as JSON."""
    values = dict(vars(message))
    if isinstance(message, SharedEdit):
        values["session"] = session_to_dict(message.session)
    if isinstance(message, MirrorsFound):
        values["mirrors"] = [vars(mirror) for mirror in message.mirrors]
    return json.dumps({"type": message.type, **values}, allow_nan=False)
