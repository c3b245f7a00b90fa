"""Which sources a library was built from. setup.py runs this file alone, without the package."""

from __future__ import annotations

import zlib
from pathlib import Path


def digest(sources: Path) -> int:
    """32-bit checksum of the C++ files in a folder; 0 where there are none, as in a wheel."""
    checksum = 0
    for path in sorted([*sources.glob("*.cpp"), *sources.glob("*.h")]):
        checksum = zlib.crc32(path.name.encode() + path.read_bytes(), checksum)
    return checksum
