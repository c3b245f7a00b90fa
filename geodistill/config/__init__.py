"""Frozen dataclasses to and from YAML and `key=value` text: the only YAML code of the project.

Precedence, weakest first: the dataclass's defaults (or a `base` instance), the YAML file, the
overrides. Everything is strict: an unknown key, a wrong type or a repeated key is an error that
names it. Fields may be of the types that `values.convert` knows, dataclasses of such fields, tuples
of such dataclasses, unions of dataclasses that a field of Literals tells apart, and any of these
or None.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from geodistill.checks import GeodistillError, InputError, UsageError, suggest
from geodistill.config import yaml_text
from geodistill.config.values import Text, convert, shown

__all__ = [
    "Text",
    "convert",
    "differing_keys",
    "from_dict",
    "load",
    "read_yaml",
    "to_dict",
    "to_yaml",
]

C = TypeVar("C")
_ABSENT = object()


def load(
    cls: type[C],
    file: Path | str | None = None,
    overrides: Sequence[str] = (),
    base: C | None = None,
) -> C:
    """Make a `cls` from a base instance, a YAML file and overrides such as `optimiser.lr=1e-3`.

    Raises UsageError for an unknown key, a wrong type or a missing required value, and InputError
    for a file that cannot be read.
    """
    given: dict[str, Any] = {} if file is None else read_yaml(file)
    try:
        for override in overrides:
            key, equals, text = override.partition("=")
            if not equals or not key.strip():
                raise UsageError(f"'{override}' is not of the form key=value")
            _nest(given, key.strip(), Text(text.strip()))
        return from_dict(cls, given, base)
    except UsageError as error:
        if file is None:
            raise
        source = " with ".join([str(file), *overrides])
        raise UsageError(f"{source}: {error}") from None


def from_dict(cls: type[C], data: Mapping[str, Any], base: C | None = None) -> C:
    """Make a `cls` from plain values; what is left out comes from `base`, else the defaults."""
    return _build(cls, data, base, "")


def to_dict(config: Any) -> dict[str, Any]:
    """The plain form of a dataclass or mapping: dicts, lists, text, numbers, booleans and None."""
    plain = _plain(config)
    if not isinstance(plain, dict):
        raise UsageError(f"a config is a dataclass or a mapping, not a {type(config).__name__}")
    return plain


def to_yaml(config: Any) -> str:
    return yaml_text.dump(to_dict(config))


def read_yaml(file: Path | str) -> dict[str, Any]:
    """Read a YAML mapping; InputError if it is missing, is not YAML or is not a mapping."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{file} is not a YAML file: it is not UTF-8 text") from None
    return parse_yaml(text, str(file))


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """Read a YAML mapping from the text of a file with this name; InputError if it is none."""
    return yaml_text.parse(text, name)


def differing_keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Dotted keys at which two plain configs differ."""
    keys: list[str] = []
    for key in dict.fromkeys([*a, *b]):
        one, two = a.get(key, _ABSENT), b.get(key, _ABSENT)
        if isinstance(one, dict) and isinstance(two, dict):
            keys += [f"{key}.{inner}" for inner in differing_keys(one, two)]
        elif repr(one) != repr(two):  # by repr, 1 and True differ and NaN equals itself
            keys.append(str(key))
    return keys


def _nest(into: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        into = into.setdefault(parent, {})
        if not isinstance(into, dict):
            raise UsageError(f"'{dotted}' cannot be set: '{parent}' was given a value of its own")
    into[last] = value


def _build(cls: type[C], data: Any, base: C | None, prefix: str) -> C:
    if not isinstance(data, Mapping):
        raise UsageError(f"'{prefix.rstrip('.')}' must be a mapping of keys, got {shown(data)}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls)) if f.init}
    for key in data:
        if key not in fields:
            near = suggest(str(key), fields)
            raise UsageError(f"unknown key '{prefix}{key}'{near}; known: {', '.join(fields)}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        default = getattr(base, name) if base is not None else _default(field)
        if name in data:
            values[name] = _value(hints[name], data[name], default, f"{prefix}{name}")
        elif default is _ABSENT:
            raise UsageError(f"'{prefix}{name}' is required and was not given")
        else:
            values[name] = default
    try:
        return cls(**values)
    except UsageError as error:
        # Which setting a message begins with is said in full.
        begins = str(error).split(" ", 1)[0] in fields
        raise UsageError(f"{prefix if begins else ''}{error}") from None
    except GeodistillError:
        raise
    except ValueError as error:
        raise UsageError(f"{prefix}{error}") from None


def _value(hint: Any, value: Any, default: Any, where: str) -> Any:
    said_none = isinstance(value, Text) and value.lower() in ("none", "null")
    optional = type(None) in get_args(hint)
    if optional and (value is None or said_none):
        return None
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    if optional and len(kinds) == 1 and typing.get_origin(kinds[0]) is tuple:
        hint = kinds[0]
    nested = [kind for kind in (hint, *get_args(hint)) if dataclasses.is_dataclass(kind)]
    listed = typing.get_origin(hint) is tuple
    if listed and isinstance(value, Text) and (nested or Any in get_args(hint)):
        try:
            value = parse_yaml(f"value: {value}", f"'{where}'")["value"]
        except InputError as error:
            raise UsageError(str(error)) from None
    if not nested:
        return convert(hint, value, where)
    kind: Any = nested[0]
    if listed:
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"'{where}' must be a list of mappings, got {shown(value)}")
        return tuple(_value(kind, item, None, f"{where}.{n}") for n, item in enumerate(value))
    if len(nested) > 1:
        kind = _told_apart(nested, value, default, where)
    if isinstance(value, kind):
        return value
    return _build(kind, value, default if isinstance(default, kind) else None, f"{where}.")


def _told_apart(kinds: Sequence[Any], value: Any, default: Any, where: str) -> Any:
    """Which of several dataclasses is meant: the one whose field of Literals has what is given; if
    nothing is given, the default's."""
    if type(value) in kinds:
        return type(value)
    hints = [typing.get_type_hints(kind) for kind in kinds]
    names = [n for n in hints[0] if all(typing.get_origin(h.get(n)) is Literal for h in hints)]
    if not isinstance(value, Mapping) or names[0] not in value:
        return type(default)
    given = value[names[0]]
    options = {o: kind for kind, h in zip(kinds, hints, strict=True) for o in get_args(h[names[0]])}
    return options[convert(Literal[tuple(options)], given, f"{where}.{names[0]}")]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return _ABSENT


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (str, Path)):
        return str(value)
    raise UsageError(f"a config cannot hold a {type(value).__name__}: {shown(value)}")
