"""Ctrl-C and polite kills while something is going on that should not be cut in two."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAID = b"\ninterrupted: what is going on is ended first; once more ends it at once\n"


class HeldInterrupts:
    """A context that ends before SIGINT or SIGTERM is obeyed, with KeyboardInterrupt.

    `noted` says that one has arrived, which is said in a terminal; a second one is obeyed at once.
    What the process ignores, it goes on ignoring. Outside the main thread, where Python delivers no
    signals, it does nothing.
    """

    def __init__(self) -> None:
        self.noted = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> HeldInterrupts:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)
        if self.noted and kind is None:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: Any) -> None:
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), SAID)  # a print here might be inside of another
