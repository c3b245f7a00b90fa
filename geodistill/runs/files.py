"""Writing that survives a crash: a file is either what it was or what it was meant to become."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from geodistill.checks import InputError

_TEMPORARY = ".tmp-"


def atomic_write(path: Path | str, content: bytes | Callable[[IO[bytes]], Any]) -> None:
    """Write a file so that a kill at any instant leaves the old file or the new one, never a part.

    `content` is the bytes, or a function that writes them to an open binary file. The temporary
    file stands in the same folder, is synced, and is renamed over `path`; then the folder is
    synced too.

    Raises InputError when the system refuses (full disk, no permission, no such folder); then the
    temporary file is gone and an existing `path` is untouched.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))  # what a link points to is replaced, not the link
    temporary = target.with_name(f".{target.name}{_TEMPORARY}{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            if target.exists():
                os.chmod(temporary, target.stat().st_mode & 0o7777)
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise write_error(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_files(path: Path, files: Mapping[str, bytes | list[bytes]]) -> None:
    """Write the files that a format is made of, each atomically and in the given order.

    Args:
        path: of the file that stands for all of them.
        files: bytes, or pieces of them, by names from the folder of `path`; folders in a name are
            made.

    Raises InputError as `atomic_write` does.
    """
    for name, content in files.items():
        if "/" in name:
            make_folder((path.parent / name).parent)
        pieces = [content] if isinstance(content, bytes) else content
        atomic_write(path.parent / name, lambda file, pieces=pieces: file.writelines(pieces))


def make_folder(folder: Path) -> None:
    """Make a folder with its parents; InputError where the system refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from None


def copy_file(source: Path, path: Path) -> None:
    """Copy a file to where another may stand; errors as `atomic_write`."""
    with source.open("rb") as file:
        atomic_write(path, lambda target: shutil.copyfileobj(file, target, 1 << 20))


def file_digest(path: Path) -> str:
    """The same for the same contents only."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()[:16]


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A temporary folder for a library that writes files by itself on the way to `path`.

    Raises InputError where no folder for temporary files takes any.
    """
    try:
        folder = tempfile.TemporaryDirectory()
    except OSError:
        raise InputError(
            f"cannot write {path}: no folder for temporary files has space, set TMPDIR to one"
        ) from None
    with folder as name:
        yield Path(name)


def write_error(path: Path, error: OSError) -> InputError:
    """The one-line form of a failed write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(f"no space left on the disk to write {path}: free some and run again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(f"no permission to write {path}: choose another output")
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return InputError(f"cannot write {path}: a file stands where a folder is needed")
    if error.errno == errno.ENOENT and not path.parent.is_dir():
        return InputError(f"cannot write {path}: the folder {path.parent} does not exist")
    if error.errno == errno.ENOENT:
        return InputError(f"cannot write {path}: {path.parent} takes no files")
    if error.errno == errno.EISDIR:
        return InputError(f"cannot write {path}: it is a folder")
    if error.errno == errno.EFBIG:
        return InputError(
            f"cannot write {path}: files may not grow that large here, choose another output"
        )
    return InputError(f"cannot write {path}: {error.strerror or error}")


def remove_leftovers(folder: Path, age_s: float = 0) -> None:
    """Delete temporary files of killed writers that are older than this; of any age only in a
    folder that this process has locked."""
    for path in folder.glob(f".*{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime >= age_s:
                path.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network and FUSE file systems cannot sync a folder; the file itself is synced.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)
