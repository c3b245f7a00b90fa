"""Settings of nerfstudio's models, each checked where it is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from geodistill.checks import InputError, shown
from geodistill.io.fields.values import LARGEST

T = TypeVar("T", bool, int, float)


def setting(model: dict[str, Any], key: str, default: T, where: Path) -> T:
    """The value of the default's type; the default where there is none.

    Raises InputError, naming config.yml, for a value of another type or beyond all bounds.
    """
    value = model.get(key)
    if value is None:
        return default
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, int):
        fits = whole and abs(value) <= LARGEST
    else:
        fits = (whole or isinstance(value, float)) and abs(value) <= LARGEST
    if not fits:
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise InputError(f"{where} has {key} = {shown(value)}, which is not {kind}")
    return type(default)(value)
