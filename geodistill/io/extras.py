"""Packages that only some formats need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from geodistill.checks import InputError


def require(module: str, extra: str, purpose: str) -> Any:
    """Import an optional package, or raise InputError that names the extra which brings it."""
    try:
        return import_module(module)
    except ImportError:
        raise InputError(
            f"{purpose} needs the package {module.split('.')[0]}: pip install 'geodistill[{extra}]'"
        ) from None
