"""YAML with Python's tags, as other programs keep settings: read as plain values, so that no class
is made, and written for them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geodistill.checks import InputError, holds_at_most

LONGEST = 1 << 18
"""Bytes of a settings file; real ones take some ten thousand."""
_NAME = "tag:yaml.org,2002:python/name:"
_MODULE = "tag:yaml.org,2002:python/module:"


def read_tagged_yaml(file: Path) -> dict[str, Any]:
    """A YAML mapping whose tagged objects become dictionaries, lists and texts.

    `!!python/object:module.Class {a: 1}` is {"a": 1}, `!!python/object/apply:pathlib.PosixPath
    [data, lego]` is ["data", "lego"], `!!python/name:module.Class ''` is "module.Class".

    Raises InputError, naming the file, when it is missing, longer than `LONGEST`, no such YAML, or
    nested too deeply, or repeats its aliases beyond that length.
    """
    import yaml

    try:
        with file.open("rb") as opened:
            data = opened.read(LONGEST + 1)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    if len(data) > LONGEST:
        raise InputError(f"{file} is longer than settings are ({LONGEST} bytes): check its name")
    try:
        found = yaml.load(data.decode("utf-8"), _loader())
    except RecursionError:
        raise InputError(f"{file} is nested too deeply to be settings") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        problem = str(getattr(error, "problem", None) or error).replace("\n", " ")[:80]
        raise InputError(f"{file} is not valid YAML: {problem}{line}") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise InputError(f"{file} must hold a YAML mapping (key: value)")
    if not holds_at_most(found, LONGEST):
        raise InputError(f"{file} refers to one part over and over: it is no settings file")
    return found


@functools.cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        def flatten_mapping(self, node: Any) -> None:
            """Merge keys, which copy, are no part of what is read."""

    def plain(loader: Any, suffix: str, node: Any) -> Any:
        if isinstance(node, yaml.MappingNode):
            return loader.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        named = node.tag.startswith((_NAME, _MODULE))
        return suffix if named else loader.construct_scalar(node)

    for prefix in (_NAME, _MODULE, "tag:yaml.org,2002:python/", "!"):
        Loader.add_multi_constructor(prefix, plain)
    return Loader


@dataclass(frozen=True)
class Tagged:
    """A value that another program makes an object of: its class's tag and what it is made of."""

    tag: str
    value: Any


def dump_tagged(value: Any) -> str:
    """YAML of dictionaries, lists, texts, numbers and `Tagged` ones of these, block by block.

    `Tagged("object:module.Class", {"a": 1})` becomes `!!python/object:module.Class` with a: 1.
    """
    return "\n".join(_lines(value)).lstrip() + "\n"


def _lines(value: Any) -> list[str]:
    """What stands behind a key or a dash: a rest of that line, and further lines."""
    if isinstance(value, Tagged):
        first, *rest = _lines(value.value)
        return [f" !!python/{value.tag}{first}", *rest]
    if isinstance(value, dict) and value:
        return ["", *_block((f"{key}:", inner) for key, inner in value.items())]
    if isinstance(value, list) and value:
        return ["", *_block(("-", inner) for inner in value)]
    if isinstance(value, float):
        text = repr(value)
        return [" " + (text.replace("e", ".0e") if "e" in text and "." not in text else text)]
    return [" " + json.dumps(value)]


def _block(entries: Iterable[tuple[str, Any]]) -> Iterator[str]:
    for begin, value in entries:
        first, *rest = _lines(value)
        yield begin + first
        yield from (f"  {line}" for line in rest)
