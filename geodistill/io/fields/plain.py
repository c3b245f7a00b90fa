"""Settings that a file of another program has no place for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geodistill.checks import UsageError


def expect_plain(config: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    """Raise UsageError, beginning with `what`, the kind of file, for a setting that is there and
    another one than `wanted`."""
    for key, value in wanted.items():
        own = config.get(key, value)
        own = tuple(own) if isinstance(own, list) else own
        if own != value:
            text = [*value] if isinstance(value, tuple) else value
            raise UsageError(
                f"{what} has no place for {key} = {own}: convert it first, --set {key}={text}"
            )
