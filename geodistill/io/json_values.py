"""A JSON object that someone else wrote, and its values, each checked where it is taken."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from geodistill.checks import InputError, shown


def json_object(content: bytes, where: Path | str) -> dict[str, Any]:
    """Raises InputError, beginning with `where`, for what is no JSON, or another value than an
    object."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where} is not valid JSON ({error}): it may be truncated, copy it again"
        ) from None
    if not isinstance(found, dict):
        raise InputError(f"{where} is not a JSON object: check that it is what its name says")
    return found


def optional_number(values: dict[str, Any], key: str, where: str) -> float | None:
    """A finite number, or None where the key is absent."""
    value = values.get(key)
    if value is None:
        return None
    try:
        result = (
            float(value)
            if isinstance(value, (int, float)) and not isinstance(value, bool)
            else math.nan
        )
    except OverflowError:
        result = math.nan
    if not math.isfinite(result):
        raise InputError(f"{where} has {key} = {_as_json(value)}, which is not a finite number")
    return result


def text(entry: dict[str, Any], key: str, where: str) -> str | None:
    """A file name, or None where the key is absent."""
    value = entry.get(key)
    if value is not None and (not isinstance(value, str) or not value or "\0" in value):
        raise InputError(f"{where} has {key} = {_as_json(value)}, which is not a file name")
    return value


def matrix(entry: dict[str, Any], key: str, rows: tuple[int, ...], where: str) -> np.ndarray:
    """float64 [rows, 4]"""
    if key not in entry:
        raise InputError(f"{where} has no {key}: export the cameras again")
    value = entry[key]
    form = "x4 or ".join(str(count) for count in rows) + "x4"
    try:
        result = np.array(value, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{where}: {key} is not a {form} matrix of numbers") from None
    if result.ndim != 2 or result.shape[0] not in rows or result.shape[1] != 4:
        raise InputError(f"{where}: {key} must be a {form} matrix, got shape {[*result.shape]}")
    if not np.isfinite(result).all():
        raise InputError(f"{where}: {key} holds NaN or infinity; fix or remove the frame")
    return result


def _as_json(value: Any) -> str:
    return json.dumps(value)[:40] if isinstance(value, (str, int, float)) else shown(value)
