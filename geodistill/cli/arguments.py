"""A frozen dataclass becomes a command line: its fields are the options, their types are checked.

Precedence, weakest first: the defaults of the dataclass, the YAML file given as --config, the
command line. Every mistake is a UsageError of one line, with the nearest name where there is one.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from geodistill.checks import UsageError, suggest
from geodistill.config import Text, convert, read_yaml

A = TypeVar("A")


@dataclasses.dataclass(frozen=True)
class Option:
    """How a field appears on the command line: `steps: Annotated[int, Option("...")] = 3`.

    The option is `--name`, the field's own name unless given. `read` turns text into the value
    where the type alone cannot. `setting=False` marks what does not belong to the settings of a
    run, such as where its output goes. Of two options of which one is given `instead_of` the
    other, that on the command line drops that of the file.
    """

    help: str
    name: str = ""
    short: str = ""
    metavar: str = ""
    read: Callable[[str], Any] | None = None
    setting: bool = True
    instead_of: str = ""


@dataclasses.dataclass(frozen=True)
class Positional(Option):
    """A field that is given by its place."""


@dataclasses.dataclass(frozen=True)
class _Field:
    """One field with its option, its bare type and its default (MISSING where it is required)."""

    attribute: str
    option: Option
    hint: Any
    default: Any

    @property
    def name(self) -> str:
        return self.option.name or self.attribute

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def label(self) -> str:
        return self.option.metavar if isinstance(self.option, Positional) else self.flag


def _fields(cls: type[Any]) -> list[_Field]:
    """The fields of `cls`, its own before those of its bases, as a reader of --help wants them."""
    hints = typing.get_type_hints(cls, include_extras=True)
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    own = [name for base in cls.__mro__ for name in inspect.get_annotations(base)]
    return [
        _Field(name, hints[name].__metadata__[0], typing.get_args(hints[name])[0], defaults[name])
        for name in dict.fromkeys(own)
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """What every verb takes."""

    json: Annotated[
        bool, Option("print one JSON object as the last line on stdout", setting=False)
    ] = False
    quiet: Annotated[bool, Option("print nothing but results and errors", setting=False)] = False

    def settings(self) -> dict[str, Any]:
        """The plain settings that make two runs the same, under the names that --config reads."""
        return {
            field.name: _plain(getattr(self, field.attribute))
            for field in _fields(type(self))
            if field.option.setting
        }


def parse(cls: type[A], argv: Sequence[str], prog: str) -> A:
    """Read a command line into `cls`. --help prints and raises SystemExit(0)."""
    fields = _fields(cls)
    parser = _parser(cls, fields, prog)
    given, extra = parser.parse_known_intermixed_args(_joined(argv, fields))
    if extra:
        raise _unexpected(extra, parser)
    texts: dict[str, Any] = vars(given)
    if "config" in texts:
        dropped = {f.option.instead_of for f in fields if f.name in texts}
        of_file = _from_file(Path(texts["config"]), fields).items()
        texts = {key: value for key, value in of_file if key not in dropped} | texts
    values: dict[str, Any] = {}
    for field in fields:
        if field.name in texts:
            values[field.attribute] = _value(field, texts[field.name])
        elif field.default is dataclasses.MISSING:
            raise UsageError(f"{field.label} is required; see {prog} --help")
    return cls(**values)


def _joined(argv: Sequence[str], fields: list[_Field]) -> list[str]:
    """`--click -1,0,0` as `--click=-1,0,0`: what follows would pass for an option."""
    flags = {field.flag for field in fields if field.hint is not bool}
    joined: list[str] = []
    for token in argv:
        if joined and joined[-1] in flags and re.match(r"-\.?\d", token):
            joined[-1] += f"={token}"
        else:
            joined.append(token)
    return joined


def parse_duration(text: str) -> float:
    """Seconds of "90", "90s", "2m", "1.5h"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if not match or float(match[1]) == 0:
        raise UsageError(f"'{text}' is not a duration: write it as 90s, 2m or 1h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def _parser(cls: type[Any], fields: list[_Field], prog: str) -> _Parser:
    def wide(prog: str) -> argparse.HelpFormatter:
        return argparse.HelpFormatter(prog, max_help_position=30, width=96)

    parser = _Parser(
        prog=prog,
        usage=_usage(fields, prog),
        description=cls.__doc__,
        allow_abbrev=False,
        formatter_class=wide,
        argument_default=argparse.SUPPRESS,
    )
    for field in fields:
        _add(parser, field)
    return parser


def _usage(fields: list[_Field], prog: str) -> str:
    parts = [prog]
    for field in fields:
        needed = field.default is dataclasses.MISSING
        if isinstance(field.option, Positional):
            parts.append(field.label if needed else f"[{field.label}]")
        elif needed:
            parts.append(f"{field.flag} NAME")
    return " ".join([*parts, "[OPTIONS]"])


def _add(parser: _Parser, field: _Field) -> None:
    option, default = field.option, field.default
    text = option.help.replace("%", "%%")
    if default not in (dataclasses.MISSING, None, ()) and not isinstance(default, bool):
        text += f" (default: {_shown(default)})"
    flags = [option.short, field.flag] if option.short else [field.flag]
    if isinstance(option, Positional):
        parser.add_argument(field.name, nargs="?", metavar=option.metavar, help=text)
    elif field.hint is bool and default is True:
        negative = f"--no-{field.flag[2:]}"
        parser.add_argument(negative, dest=field.name, action="store_false", help=text)
    elif field.hint is bool:
        parser.add_argument(*flags, dest=field.name, action="store_true", help=text)
    else:
        metavar = option.metavar or _metavar(field)
        # Free texts are given by repeating the option, so that none swallows what follows.
        action = "append" if field.hint == tuple[str, ...] else "store"
        parser.add_argument(*flags, dest=field.name, metavar=metavar, help=text, action=action)


def _unexpected(extra: list[str], parser: _Parser) -> UsageError:
    known = [flag for action in parser._actions for flag in action.option_strings]
    for token in extra:
        if token.startswith("-") and token != "--":
            flag = token.split("=")[0]
            near = suggest(flag, known)
            return UsageError(f"unknown option '{flag}'{near}; see {parser.prog} --help")
    return UsageError(f"unexpected argument '{extra[0]}'; see {parser.prog} --help")


def _from_file(file: Path, fields: list[_Field]) -> dict[str, Any]:
    values = {str(key).replace("-", "_"): value for key, value in read_yaml(file).items()}
    names = [field.name for field in fields if field.name not in ("config", "json", "quiet")]
    for key in values:
        if key not in names:
            near = suggest(key, names)
            raise UsageError(f"{file}: unknown key '{key}'{near}; known: {', '.join(names)}")
    return values


def _value(field: _Field, value: Any) -> Any:
    if value == "" and Path in (field.hint, *typing.get_args(field.hint)):
        raise UsageError(f"{field.label} is empty: name a file or folder")
    read = field.option.read
    if isinstance(value, str) and read is not None:
        try:
            return read(value)
        except UsageError as error:
            raise UsageError(f"{field.label}: {error}") from None
    if isinstance(value, list):
        value = [Text(item) if isinstance(item, str) else item for item in value]
    elif isinstance(value, str):
        value = Text(value)
    return convert(field.hint, value, field.label)


def _metavar(field: _Field) -> str:
    for kind in (field.hint, *typing.get_args(field.hint)):
        if typing.get_origin(kind) is Literal:
            return "{" + ",".join(map(str, typing.get_args(kind))) + "}"
    return "N" if int in (field.hint, *typing.get_args(field.hint)) else field.name.upper()


def _shown(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
