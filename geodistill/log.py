"""What a person watches: one-line messages and progress, always on stderr.

Standard output belongs to results, so nothing here writes to it. On a terminal progress is a live
bar; elsewhere it is one plain line after two seconds and then at most one every ten, so that a log
file stays readable.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

QUIET, NORMAL = 0, 1
_FIRST_LINE_S, _PLAIN_INTERVAL_S = 2.0, 10.0
_level = NORMAL
_local = threading.local()

Watcher = Callable[[str, int, int | None], None]
"""Told what is in progress, how many steps are done, and of how many (None: unknown)."""


def set_level(level: int) -> None:
    """QUIET silences `say` and `progress` of the whole process; errors do not pass through here."""
    global _level
    _level = level


def level() -> int:
    return _level


def say(text: str) -> None:
    """Write one line to stderr, unless the level is QUIET."""
    if _level > QUIET:
        print(text, file=sys.stderr, flush=True)


class Progress(Protocol):
    def advance(self, n: int = 1, **metrics: float) -> None:
        """Count n more steps; metrics are shown beside the count."""


@contextmanager
def progress(total: int | None, what: str) -> Iterator[Progress]:
    """Show the progress of `what` over `total` steps (None: unknown) while the block runs."""
    with _shown(total, what) as bar:
        watcher: Watcher | None = getattr(_local, "watcher", None)
        yield bar if watcher is None else _Watched(bar, watcher, total, what)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Tell a watcher too of all progress in this thread while the block runs."""
    _local.watcher = watcher
    try:
        yield
    finally:
        del _local.watcher


@contextmanager
def _shown(total: int | None, what: str) -> Iterator[Progress]:
    if _level <= QUIET:
        yield _Silent()
    elif sys.stderr.isatty():
        with _live(total, what) as bar:
            yield bar
    else:
        yield _Plain(total, what)


def format_metrics(metrics: dict[str, Any]) -> str:
    return " ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in metrics.items()
    )


class _Silent:
    def advance(self, n: int = 1, **metrics: float) -> None:
        pass


class _Watched:
    def __init__(self, bar: Progress, watcher: Watcher, total: int | None, what: str) -> None:
        self.bar, self.watcher, self.total, self.what, self.done = bar, watcher, total, what, 0
        watcher(what, 0, total)

    def advance(self, n: int = 1, **metrics: float) -> None:
        self.bar.advance(n, **metrics)
        self.done += n
        self.watcher(self.what, self.done, self.total)


class _Plain:
    def __init__(self, total: int | None, what: str) -> None:
        self.total, self.what, self.done = total, what, 0
        self.started = time.monotonic()
        self.next_line = self.started + _FIRST_LINE_S

    def advance(self, n: int = 1, **metrics: float) -> None:
        self.done += n
        now = time.monotonic()
        if now < self.next_line:
            return
        self.next_line = now + _PLAIN_INTERVAL_S
        of = f"/{self.total}" if self.total is not None else ""
        line = f"{self.what} {self.done}{of} {now - self.started:.0f}s {format_metrics(metrics)}"
        say(line.rstrip())


@contextmanager
def _live(total: int | None, what: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    with Bar(*columns, console=Console(file=sys.stderr), transient=False) as bar:
        task = bar.add_task(what, total=total, metrics="")

        class Live:
            def advance(self, n: int = 1, **metrics: float) -> None:
                bar.update(task, advance=n)
                if metrics:
                    bar.update(task, metrics=format_metrics(metrics))

        yield Live()
