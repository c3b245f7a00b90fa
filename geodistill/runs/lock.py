"""One process at a time in a run folder; the system drops the lock when its holder dies."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from geodistill.checks import UsageError
from geodistill.runs.files import write_error


class Lock:
    """Held until `release` or the end of the process.

    Raises UsageError, with the pid, when another process holds it.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise write_error(path, error) from None
        try:
            _acquire(self.handle)
        except BlockingIOError:
            holder = os.read(self.handle, 32).decode(errors="replace").strip() or "unknown"
            os.close(self.handle)
            raise UsageError(
                f"another process (pid {holder}) is working in {path.parent}: "
                "wait for it or choose another -o"
            ) from None
        except OSError:
            # A file system without locks (some network mounts) must not forbid running at all.
            pass
        with contextlib.suppress(OSError):  # the pid is for a message; a full disk may lack it
            os.ftruncate(self.handle, 0)
            os.write(self.handle, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


def _acquire(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        # A byte far behind the text, since Windows locks forbid reading what they cover.
        os.lseek(handle, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            raise BlockingIOError from None
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
