"""The folder for what can be fetched or computed again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """`$GEODISTILL_CACHE`, or `~/.cache/geodistill`."""
    root = os.environ.get("GEODISTILL_CACHE")
    return Path(root).expanduser() if root else Path.home() / ".cache" / "geodistill"
