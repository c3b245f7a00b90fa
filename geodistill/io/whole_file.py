"""A file's bytes, or one line that says why there are none."""

from __future__ import annotations

from pathlib import Path

from geodistill.checks import InputError


def read_whole(path: Path, magic: bytes = b"", what: str = "") -> bytes:
    """All bytes of a file that begins with `magic`, the mark of the format `what`.

    Raises InputError when it is missing, a folder, a pipe or device, unreadable, empty, or does
    not begin so; nothing behind the mark is read then.
    """
    return read_start(path, -1, magic, what)


def read_any(path: Path) -> bytes:
    """All bytes of a file that may be empty. Raises InputError as `read_whole` does for others."""
    return b"" if path.is_file() and path.stat().st_size == 0 else read_whole(path)


def read_start(path: Path, size: int, magic: bytes = b"", what: str = "") -> bytes:
    """The first `size` bytes (-1: all) of such a file, fewer where it is shorter."""
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a file")
    if not path.is_file():
        raise InputError(f"{path} is a pipe or a device, not a file")
    try:
        with path.open("rb") as file:
            start = file.read(len(magic))
            if start != magic and start:
                raise InputError(f"{path} is not {what}: check its name or make it again")
            file.seek(0)
            data = file.read(size if size < 0 else max(size, len(magic)))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if not data:
        raise InputError(f"{path} is empty: make it again")
    return data
