"""The error family, and the checks that public entry points make on what they are given.

Every message is one sentence: what was wrong, with what, what came, and what to do.
"""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
_SHOWN = 40
ABOVE_ZERO = (math.ulp(0.0), math.inf)
"""Limits of `expect_within`."""
LARGEST = sys.float_info.max


class GeodistillError(ValueError):
    """What this package raises on purpose; its text is meant for the user."""


class InputError(GeodistillError):
    """Bad data or a bad file. The command line exits with 1."""


class UsageError(GeodistillError):
    """A wrong request: an unknown name, a wrong option. The command line exits with 2."""


class ShapeError(GeodistillError):
    """A tensor whose shape does not fit the others or the function."""


def check(**named: tuple[Tensor, str]) -> None:
    """Check shapes that share dimension names: `check(means=(means, "N 3"), feats=(f, "N C"))`.

    A pattern is dimensions separated by spaces: a number is that size, a name is the same size
    wherever it appears, `_` is any size, and a leading `...` is any number of leading dimensions.

    Raises ShapeError naming the argument, the expected shape, the shape that came, and where the
    size of a shared name was taken from.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for argument, (tensor, pattern) in named.items():
        wanted = pattern.split()
        shape = list(tensor.shape)
        batched = bool(wanted) and wanted[0] == "..."
        dims = wanted[1:] if batched else wanted
        fits = len(shape) >= len(dims) if batched else len(shape) == len(dims)
        tail = shape[len(shape) - len(dims) :] if fits else []
        sources = []
        for dim, size in zip(dims, tail, strict=False):
            if dim == "_":
                continue
            known, source = sizes.setdefault(
                dim, (int(dim), "") if dim.isdigit() else (size, argument)
            )
            if known != size:
                fits = False
                if source:
                    sources.append(f"{dim} = {known} from {source}")
        if not fits:
            note = f" ({', '.join(sources)})" if sources else ""
            raise ShapeError(f"{argument} must have shape [{', '.join(wanted)}], got {shape}{note}")


def check_finite(**named: Tensor) -> None:
    """Raise InputError with the count and the first index if a tensor holds NaN or infinity."""
    for argument, tensor in named.items():
        if not tensor.is_floating_point():
            continue
        bad = ~tensor.isfinite()
        count = int(bad.sum())
        if count:
            first = bad.nonzero()[0].tolist()
            raise InputError(
                f"{argument} holds {count} NaN or infinite values of {tensor.numel()}, "
                f"the first at index {first}"
            )


def expect_within(settings: object, **limits: tuple[float, float]) -> None:
    """Raise UsageError for an attribute that is no number between its limits, or a tuple of which
    one is not; None is not looked at, NaN and infinity are within nothing."""
    for name, (low, high) in limits.items():
        value = getattr(settings, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if all(n is None or (low <= n <= high and abs(n) < LARGEST) for n in numbers):
            continue
        wanted = f"from {low} to {high}" if math.isfinite(high) else f"at least {low}"
        if (low, high) == ABOVE_ZERO:
            wanted = "above 0"
        elif math.isinf(low):
            wanted = "finite"
        raise UsageError(f"{name} must be {wanted}, got {value}")


def shown(value: object) -> str:
    """What stood in a file where something else was expected, short and in one line.

    Of containers it is the kind alone: they may hold each other over and over, and are never
    walked.
    """
    if isinstance(value, str):
        return ascii(value[:_SHOWN])
    if isinstance(value, (int, float, type(None))):
        long = isinstance(value, int) and value.bit_length() > 4 * _SHOWN
        return "an integer of many digits" if long else repr(value)[:_SHOWN]
    return f"a {type(value).__name__}"


def holds_at_most(value: object, most: int) -> bool:
    """Whether nested dictionaries, lists and tuples have so many items in all at most.

    An item that is referred to from several places counts in each, as whatever walks the value
    meets it; a container that holds itself has no end of them. Takes time in proportion to `most`.
    """
    left, count = [value], 0
    while left:
        inner = left.pop()
        if not isinstance(inner, (dict, list, tuple)):
            continue
        count += len(inner)
        if count > most:
            return False
        left.extend(inner.values() if isinstance(inner, dict) else inner)
    return True


def suggest(name: str, options: Iterable[str]) -> str:
    """Return " (did you mean 'tensorf'?)" for the nearest option, or "" when none is near."""
    if len(name) > 100:
        return ""  # comparing takes long, and finds nothing
    by_lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f" (did you mean '{by_lower[near[0]]}'?)" if near else ""


def choose(kind: str, name: str, options: Mapping[str, T]) -> T:
    """Look `name` up in a table; UsageError lists what is known, with the nearest name."""
    if name in options:
        return options[name]
    near = suggest(name, options)
    raise UsageError(f"unknown {kind} '{name}'{near}; known: {', '.join(options)}")
