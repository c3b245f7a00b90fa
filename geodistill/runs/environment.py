"""Where a run ran: enough to explain a difference between machines, nothing about the user."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

PACKAGES = ("torch", "numpy", "safetensors")


def environment() -> dict[str, Any]:
    """Versions, platform and threads, JSON-able."""
    from geodistill import __version__

    torch = sys.modules.get("torch")  # read only if the run uses it: importing it costs seconds
    return {
        "geodistill": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads() if torch else None,
        "cuda": torch.version.cuda if torch else None,
    }


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
