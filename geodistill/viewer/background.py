"""A server in a thread, beside the program that started it."""

from __future__ import annotations

import asyncio
import queue
import threading
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
        self._loop = asyncio.new_event_loop()
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
            self._loop.call_soon_threadsafe(self._cancel)
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
        asyncio.set_event_loop(self._loop)
        serving = self._loop.create_task(run(make_app(self._exhibit), port, False, found.put))
        try:
            self._loop.run_until_complete(serving)
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            found.put(error)
        finally:
            self._loop.close()

    def _cancel(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
