"""YAML that other programs write with Python's tags, read as plain values: no class is made."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from geodistill.checks import InputError

LONGEST = 1 << 18
"""Bytes of a settings file; real ones take some ten thousand."""
_NAME = "tag:yaml.org,2002:python/name:"
_MODULE = "tag:yaml.org,2002:python/module:"


def read_tagged_yaml(file: Path) -> dict[str, Any]:
    """A YAML mapping whose tagged objects become dictionaries, lists and texts.

    `!!python/object:module.Class {a: 1}` is {"a": 1}, `!!python/object/apply:pathlib.PosixPath
    [data, lego]` is ["data", "lego"], `!!python/name:module.Class ''` is "module.Class".

    Raises InputError, naming the file, when it is missing, longer than `LONGEST`, no such YAML, or
    nested too deeply.
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
