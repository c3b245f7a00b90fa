"""Plain values and text turned into the types of dataclass fields."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Union

from geodistill.checks import UsageError, suggest

REJECTED = object()


class Text(str):
    """Text from the command line, such as "1e-3" or "a,b": its field's type says how to read it."""


def convert(hint: Any, value: Any, where: str) -> Any:
    """Make `value` an instance of the type `hint`; UsageError names `where`, the type and value.

    Known types: int, float, bool, str, Path, Any, Literal, tuples, Optional and unions of these.
    Only a `Text` is interpreted; any other value must have the type already (an int may stand for a
    float, and a whole float for an int).
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return str(value) if isinstance(value, Text) else value
    if origin in (Union, types.UnionType):
        return _union(arguments, value, where)
    if origin is Literal:
        return _literal(arguments, value, where)
    if hint is tuple or origin is tuple:
        return _tuple(arguments, value, where)
    if hint not in _SCALARS:
        raise TypeError(f"'{where}' has type {hint}, which no configuration can hold")
    name, read = _SCALARS[hint]
    converted = read(value)
    if converted is REJECTED:
        raise UsageError(f"'{where}' must be {name}, got {shown(value)}")
    return converted


def shown(value: Any) -> str:
    """A value as an error message shows it."""
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > 60:
            return f"{text[:57]}..."
    return text


def _pieces(value: Any) -> Iterator[str]:
    """What `repr` says, bit by bit: a file may repeat its parts so often that all is too much."""
    if isinstance(value, dict):
        yield "{"
        for index, (key, item) in enumerate(value.items()):
            yield ", " if index else ""
            yield from _pieces(key)
            yield ": "
            yield from _pieces(item)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for index, item in enumerate(value):
            yield ", " if index else ""
            yield from _pieces(item)
        yield "]"
    else:
        yield repr(str(value)) if isinstance(value, str) else repr(value)


def _union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    said_none = isinstance(value, Text) and value.lower() in ("none", "null")
    if type(None) in options and (value is None or said_none):
        return None
    kinds = [option for option in options if option is not type(None)]
    problems: list[UsageError] = []
    for kind in kinds:
        try:
            return convert(kind, value, where)
        except UsageError as problem:
            problems.append(problem)
    if len(problems) == 1:
        raise problems[0]
    names = " or ".join(_SCALARS[kind][0] if kind in _SCALARS else str(kind) for kind in kinds)
    raise UsageError(f"'{where}' must be {names}, got {shown(value)}")


def _literal(options: tuple[Any, ...], value: Any, where: str) -> Any:
    for option in options:
        same = type(value) is type(option) and value == option
        if same or (isinstance(value, Text) and str(option) == value):
            return option
    names = [str(option) for option in options]
    near = suggest(value, names) if isinstance(value, str) else ""
    raise UsageError(f"'{where}' must be one of {', '.join(names)}, got {shown(value)}{near}")


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, Text):
        inner = value.strip("[]() ")
        value = [Text(part.strip()) for part in inner.split(",")] if inner else []
    if not isinstance(value, (list, tuple)):
        raise UsageError(f"'{where}' must be a list, got {shown(value)}")
    if not kinds:
        kinds = (Any, ...)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        if kinds[0] in _SCALARS and set(map(type, value)) <= {kinds[0]}:
            return tuple(value)  # as they are, and there may be a million
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise UsageError(f"'{where}' must have {len(kinds)} values, got {len(value)}")
    # A list given as one option is named by that option; positions help only in a file.
    return tuple(convert(kind, item, where) for kind, item in zip(kinds, value, strict=True))


def _int(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, Text):
        try:
            return int(value)
        except ValueError:
            pass
    number = _float(value)
    whole = number is not REJECTED and number - number == 0 and number == int(number)
    return int(number) if whole else REJECTED


def _float(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, Text)):
        return REJECTED
    try:
        return float(value)
    except (ValueError, OverflowError):
        return REJECTED


def _bool(value: Any) -> Any:
    if isinstance(value, Text):
        return {"true": True, "yes": True, "false": False, "no": False}.get(value.lower(), REJECTED)
    return value if isinstance(value, bool) else REJECTED


def _str(value: Any) -> Any:
    return str(value) if isinstance(value, str) else REJECTED


def _path(value: Any) -> Any:
    return Path(value) if isinstance(value, (str, Path)) else REJECTED


_SCALARS: dict[Any, tuple[str, Callable[[Any], Any]]] = {
    int: ("an integer", _int),
    float: ("a number", _float),
    bool: ("true or false", _bool),
    str: ("text", _str),
    Path: ("a path", _path),
}
