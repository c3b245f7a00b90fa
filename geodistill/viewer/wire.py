"""Messages between page and server as JSON texts, and numbers behind a header in JSON."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

from geodistill.checks import InputError

MOST_ID = 2**53 - 1


class Malformed(InputError):
    """A message that the other side of this version never sends."""


@dataclass(frozen=True)
class FailureMessage:
    """What was asked for cannot be had; with the id 0, nothing that was asked for."""

    id: int
    reason: str
    type: ClassVar[str] = "failure"


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """The type of a message, and its other values. Raises Malformed for anything but an object."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Malformed("a message is a JSON object") from None
    if not isinstance(value, dict):
        raise Malformed("a message is a JSON object")
    kind = value.pop("type", None)
    if not isinstance(kind, str):
        raise Malformed(f"unknown type {json.dumps(kind)[:40]}")
    return kind, value


def expect_keys(kind: str, value: dict[str, Any], names: Collection[str]) -> None:
    if unknown := value.keys() - set(names):
        raise Malformed(f"{kind}: unknown {min(unknown)[:40]}")
    if missing := set(names) - value.keys():
        raise Malformed(f"{kind}: {min(missing)} is missing")


def expect_id(kind: str, value: dict[str, Any]) -> int:
    found = value["id"]
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= MOST_ID:
        raise Malformed(f"{kind}: bad id")
    return found


def pack(header: str, numbers: bytes) -> bytes:
    """The header's length as uint32 (little-endian), the header, the numbers."""
    text = header.encode()
    return len(text).to_bytes(4, "little") + text + numbers


def unpack(data: bytes) -> tuple[str, dict[str, Any], bytes]:
    """The same backwards. Raises Malformed where it is cut off."""
    length = int.from_bytes(data[:4], "little")
    if len(data) < 4 + length:
        raise Malformed("a header is cut off")
    kind, values = parse(data[4 : 4 + length].decode())
    return kind, values, data[4 + length :]


def _no_constant(name: str) -> None:
    raise ValueError(name)
