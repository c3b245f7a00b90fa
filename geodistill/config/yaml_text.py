"""YAML text to and from plain values, as strict as the rest of the configuration."""

from __future__ import annotations

import functools
import re
from typing import Any

from geodistill.checks import InputError
from geodistill.config.values import shown

_BOOL, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"
_FLOAT_TEXT = re.compile(
    r"^[-+]?(?:\d[\d_]*\.\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+"
    r"|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$"
)


def dump(plain: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def parse(text: str, name: str) -> dict[str, Any]:
    """Parse a YAML mapping; InputError, with `name` and the line, if it is not one."""
    import yaml

    try:
        data = yaml.load(text, _loader())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise InputError(f"{name} is not valid YAML: {problem}{line}") from None
    except RecursionError:
        raise InputError(f"{name} is not valid YAML: it is nested too deeply") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputError(f"{name} must hold a YAML mapping (key: value), got {shown(data)}")
    return data


@functools.cache
def _loader() -> Any:
    """PyYAML's safe loader, but a repeated key is an error and two traps of YAML 1.1 are closed.

    `1e-3` is a number here, not text; `on`, `off`, `yes` and `no` are text, not booleans.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, (list, dict)):
                    raise yaml.MarkedYAMLError(
                        problem="a key is a list or a mapping", problem_mark=key_node.start_mark
                    )
                if key in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"key '{key}' is repeated", problem_mark=key_node.start_mark
                    )
                seen.add(key)
            return super().construct_mapping(node, deep)

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in pairs if tag not in (_BOOL, _FLOAT)]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def whole(loader: Any, node: Any) -> int:
        try:
            found = loader.construct_yaml_int(node)
            str(found)  # which Python does not do for very long ones
        except ValueError:
            raise yaml.MarkedYAMLError(
                problem="a number cannot be read", problem_mark=node.start_mark
            ) from None
        return found

    Loader.add_constructor("tag:yaml.org,2002:int", whole)
    booleans = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
    Loader.add_implicit_resolver(_BOOL, booleans, list("tTfF"))
    Loader.add_implicit_resolver(_FLOAT, _FLOAT_TEXT, list("-+0123456789."))
    return Loader
