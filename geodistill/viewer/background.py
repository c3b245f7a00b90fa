"""A server in a thread, beside the program that started it."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from geodistill.viewer.server import Exhibit, make_app, run

S = TypeVar("S", bound="BackgroundServer")
_START_SECONDS, _END_SECONDS = 30.0, 10.0


class BackgroundServer:
    """Serves an exhibit until it is closed, or the program ends.

    Raises InputError where it cannot listen there.
    """

    def __init__(self, exhibit: Exhibit, port: int = 0) -> None:
        self._exhibit = exhibit
        self._end: Callable[[], object] = lambda: None
        found: queue.Queue[int | BaseException] = queue.Queue()
        self._thread = threading.Thread(target=self._serve, args=(port, found), daemon=True)
        self._thread.start()
        listening = found.get(timeout=_START_SECONDS)
        if isinstance(listening, BaseException):
            raise listening
        self.port = listening

    @property
    def url(self) -> str:
        """Address of the page, for browsers of this machine."""
        return f"http://127.0.0.1:{self.port}/?token={self._exhibit.token}"

    def close(self) -> None:
        """End the server, and every page's connection."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has ended just now
                self._end()
            self._thread.join(_END_SECONDS)

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _serve(self, port: int, found: queue.Queue[int | BaseException]) -> None:
        async def main() -> None:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None
            self._end = lambda: loop.call_soon_threadsafe(task.cancel)
            await run(make_app(self._exhibit), port, False, found.put)

        try:
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(main())
        except BaseException as error:
            found.put(error)
