"""Sessions as JSON and YAML files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
import secrets
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from geodistill import config
from geodistill.checks import InputError, UsageError, suggest
from geodistill.config.values import shown
from geodistill.deform.session import VERSION, Anchor, Handle, Mirror, Session
from geodistill.runs import atomic_write

E = TypeVar("E")
_LISTS: dict[str, type] = {"handles": Handle, "anchors": Anchor, "mirrors": Mirror}
_TURNS = 36_000.0  # degrees: a hundred turns
_LARGEST = 1000.0  # scale
_LONG_REGION = re.compile(r"^- region: (\[[0-9, ]{1000,}\])$", re.MULTILINE)
_PLACES = ("vertex", "face", "region", "position")


def load_session(path: Path | str) -> Session:
    """Read a session: JSON where the name ends so, else YAML.

    Raises InputError with the file and the entry, such as `handles[2].rotate`.
    """
    path = Path(path)
    kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a {kind} file: it is not UTF-8 text") from None
    return read_session(str(path), text)


def read_session(name: str, text: str) -> Session:
    """The same from the text of a file with this name."""
    parse = _parse_json if name.lower().endswith(".json") else _parse_yaml
    data = parse(text, name)
    with of_file(name):
        return session_from_dict(data)


@contextlib.contextmanager
def of_file(name: Path | str | None) -> Iterator[None]:
    """Put the name of a session's file, where there is one, before what is wrong with the session
    (InputError)."""
    try:
        yield
    except InputError as error:
        raise error if name is None else InputError(f"{name}: {error}") from None


def save_session(path: Path | str, session: Session) -> None:
    """Write a session, atomically: JSON where the name ends so, else YAML."""
    path = Path(path)
    write = _json if path.suffix.lower() == ".json" else _yaml
    atomic_write(path, write(session_to_dict(session)).encode())


def session_to_dict(session: Session) -> dict[str, Any]:
    """Plain values; what is left to its default in a handle, anchor or mirror is left out."""
    entries = {
        name: [_entry_to_dict(kind, entry) for entry in getattr(session, name)]
        for name, kind in _LISTS.items()
    }
    return config.to_dict(dataclasses.replace(session, **dict.fromkeys(_LISTS, ()))) | entries


def _entry_to_dict(kind: type, entry: Any) -> dict[str, Any]:
    fields = dataclasses.fields(kind)
    given = {f.name: value for f in fields if (value := getattr(entry, f.name)) != f.default}
    region = given.get("region", ())
    if set(map(type, region)) == {int}:  # plain already, and there may be a million
        return config.to_dict({**given, "region": ()}) | {"region": list(region)}
    return config.to_dict(given)


def _json(plain: dict[str, Any]) -> str:
    """A line for each value, and for each entry of a list: what indents is slow for regions."""
    lines = []
    for name, value in plain.items():
        text = json.dumps(value)
        if name in _LISTS and value:
            text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        lines.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _yaml(plain: dict[str, Any]) -> str:
    """Blocks, but for regions, which are a line each: PyYAML takes seconds for a large one."""
    text = ""
    for name, value in plain.items():
        if name not in _LISTS or not value:
            text += config.to_yaml({name: value})
            continue
        text += f"{name}:\n"
        for entry in value:
            lines = [f"region: {entry['region']}"] if "region" in entry else []
            rest = {key: inner for key, inner in entry.items() if key != "region"}
            lines += config.to_yaml(rest).splitlines() if rest or not lines else []
            text += "- " + "\n  ".join(lines) + "\n"
    return text


def session_from_dict(data: dict[str, Any]) -> Session:
    """Make a session from plain values, strictly. Raises InputError that names the entry."""
    try:
        version = config.convert(int, data.get("version", VERSION), "version")
        if version != VERSION:
            raise UsageError(
                f"'version' is {version}, this geodistill reads {VERSION}: update the older one"
            )
        plain = dict(data)
        for name, kind in _LISTS.items():
            entries = plain.get(name, [])
            if not isinstance(entries, (list, tuple)):
                raise UsageError(f"'{name}' must be a list, got {shown(entries)}")
            plain[name] = tuple(
                _entry(kind, entry, f"{name}[{index}]") for index, entry in enumerate(entries)
            )
        session = _entry(Session, plain, "")
        _check(session)
    except UsageError as error:
        raise InputError(str(error)) from None
    return session


def anchor_from_dict(data: Any, where: str) -> Anchor:
    """Make a place from plain values, strictly. Raises InputError that names the entry."""
    try:
        anchor = _entry(Anchor, data, where)
        _check_place(anchor, where)
    except UsageError as error:
        raise InputError(str(error)) from None
    return anchor


def mirrors_from_list(data: Any, where: str) -> tuple[Mirror, ...]:
    """Make mirrors from plain values, strictly. Raises InputError that names the entry."""
    try:
        if not isinstance(data, (list, tuple)):
            raise UsageError(f"'{where}' must be a list, got {shown(data)}")
        mirrors = tuple(_entry(Mirror, entry, f"{where}[{k}]") for k, entry in enumerate(data))
        _check_mirrors(mirrors, where)
    except UsageError as error:
        raise InputError(str(error)) from None
    return mirrors


def _parse_json(text: str, name: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise InputError(f"{name}: key {shown(key)} is repeated")
            found[key] = value
        return found

    try:
        data = json.loads(text, object_pairs_hook=unique)
    except InputError:
        raise
    except json.JSONDecodeError as error:
        raise InputError(f"{name} is not valid JSON: {error.msg} (line {error.lineno})") from None
    except RecursionError:
        raise InputError(f"{name} is not a session: it is nested too deeply") from None
    except ValueError:
        raise InputError(f"{name} is not valid JSON: a number is too long") from None
    if not isinstance(data, dict):
        raise InputError(f"{name} must hold a JSON object, got {shown(data)}")
    return data


def _parse_yaml(text: str, name: str) -> dict[str, Any]:
    """YAML, but for the long lines of `_yaml`: PyYAML takes half a minute for a million numbers."""
    regions: dict[str, list[int]] = {}
    mark = secrets.token_hex(8)  # which no file holds

    def aside(line: re.Match[str]) -> str:
        try:
            numbers = json.loads(line[1])
        except ValueError:  # YAML may make something of it
            return line[0]
        stand_in = f"region {len(regions)} {mark}"
        regions[stand_in] = numbers
        return f"- region: {stand_in}"

    data = config.parse_yaml(_LONG_REGION.sub(aside, text), name)
    for kind in ("handles", "anchors"):
        entries = data.get(kind)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and isinstance(region := entry.get("region"), str):
                entry["region"] = regions.get(region, region)
    return data


def _entry(kind: type[E], data: Any, where: str) -> E:
    """One dataclass from a mapping; lists of dataclasses in it are made already."""
    if not isinstance(data, dict):
        raise UsageError(f"'{where}' must be a mapping of keys, got {shown(data)}")
    hints = typing.get_type_hints(kind)
    dot = f"{where}." if where else ""
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in hints:
            near = suggest(str(key), hints)
            unknown = shown(f"{dot}{key}")
            raise UsageError(f"unknown key {unknown}{near}; known: {', '.join(hints)}")
        made = not where and key in _LISTS
        values[key] = (
            value if made else _finite(config.convert(hints[key], value, dot + key), dot + key)
        )
    for field in dataclasses.fields(typing.cast(Any, kind)):
        if field.default is dataclasses.MISSING and field.name not in values:
            raise UsageError(f"'{dot}{field.name}' is required and was not given")
    return kind(**values)


def _finite(value: Any, where: str) -> Any:
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise UsageError(f"'{where}' must be finite, got {number}")
    return value


def _check(session: Session) -> None:
    """What types do not say."""
    for name, low, high in (
        ("centring", 0, 1),
        ("radius", 1e-6, 2),
        ("falloff", 0.1, 32),
        ("locality", 0, 1000),
    ):
        _within(name, getattr(session, name), low, high)
    _within("seam", session.seam, 1e-6, 1)
    _within("rigidity", session.rigidity, 0, 10_000)
    for index, anchor in enumerate(session.anchors):
        _check_place(anchor, f"anchors[{index}]")
    for index, handle in enumerate(session.handles):
        where = f"handles[{index}]"
        _check_place(handle, where)
        _within(f"{where}.locality", handle.locality, 0, 1000)
        if handle.rotate is not None and handle.quaternion is not None:
            raise UsageError(f"'{where}' has both rotate and quaternion: keep one")
        if handle.quaternion is not None and not any(handle.quaternion):
            raise UsageError(f"'{where}.quaternion' must not be zero")
        for degrees in handle.rotate or ():
            _within(f"{where}.rotate", degrees, -_TURNS, _TURNS)
        scale = handle.scale if isinstance(handle.scale, tuple) else (handle.scale,)
        if min(scale) <= 0:
            raise UsageError(f"'{where}.scale' must be positive, got {handle.scale}")
        _within(f"{where}.scale", max(scale), 0, _LARGEST)
    _check_mirrors(session.mirrors, "mirrors")


def _check_mirrors(mirrors: tuple[Mirror, ...], where: str) -> None:
    for index, mirror in enumerate(mirrors):
        if not any(mirror.normal):
            raise UsageError(f"'{where}[{index}].normal' must not be zero")


def _check_place(entry: Anchor, where: str) -> None:
    given = [name for name in _PLACES if getattr(entry, name) is not None]
    if len(given) != 1:
        came = " and ".join(given) or "none"
        raise UsageError(f"'{where}' needs exactly one of {', '.join(_PLACES)}, got {came}")
    if entry.barycentric is not None and entry.face is None:
        raise UsageError(f"'{where}.barycentric' needs a face")
    if entry.barycentric is not None and (
        min(entry.barycentric) < 0 or abs(sum(entry.barycentric) - 1) > 1e-4
    ):
        raise UsageError(
            f"'{where}.barycentric' must be at least 0 and add to 1, got {entry.barycentric}"
        )
    lowest = min(entry.region or (entry.vertex or 0,))
    if lowest < 0:
        raise UsageError(f"'{where}' names the vertex {lowest}: they are counted from 0")
    if entry.region == ():
        raise UsageError(f"'{where}.region' must name at least one vertex")


def _within(where: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise UsageError(f"'{where}' must lie between {low} and {high}, got {value}")
