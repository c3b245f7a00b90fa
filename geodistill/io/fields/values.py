"""Values out of a checkpoint that someone else wrote, each checked where it is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError

LARGEST = 1e6
"""Greatest magnitude of a setting or a coordinate; what is larger is taken for damage."""


def number(values: Mapping[str, Any], key: str, where: Path | str) -> float:
    """A setting. Raises InputError where it is missing, no number or too large."""
    try:
        found = float(values[key])
    except KeyError:
        raise InputError(f"{where} lacks {key}: it is damaged or of another program") from None
    except (TypeError, ValueError, OverflowError, RuntimeError):
        found = math.nan
    if not abs(found) <= LARGEST:
        raise InputError(f"{where} has a {key} that is no number from -{LARGEST:g} to {LARGEST:g}")
    return found


def finite(
    values: Mapping[str, Any], key: str, where: Path | str, shape: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """The numbers of a tensor or an array in float32, an array of their own.

    Raises InputError where it is missing, neither of the two, not finite or, given one, of another
    shape.
    """
    value = values.get(key)
    if value is None:
        raise InputError(f"{where} lacks {key}: it is damaged or of another program")
    if hasattr(value, "float") and hasattr(value, "numpy"):
        value = value.float().numpy()  # also of bfloat16, which NumPy does not know
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise InputError(f"{where}: its {key} does not hold numbers: it is damaged")
    with np.errstate(over="ignore"):
        narrow = np.array(value, np.float32)
    if not np.isfinite(narrow).all():
        raise InputError(f"{where}: its {key} holds NaN or infinite values: it is damaged")
    if shape is not None:
        expect(f"{where}: its {key}", narrow.shape, shape)
    return narrow


def expect(what: str, shape: Sequence[int], wanted: Sequence[int]) -> None:
    """Raise InputError, beginning with `what`, for another shape."""
    if tuple(shape) != tuple(wanted):
        raise InputError(f"{what} has shape {[*shape]}, where {[*wanted]} fits the others")
