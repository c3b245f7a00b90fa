"""What verbs share that show something in the browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from geodistill.checks import UsageError
from geodistill.cli.arguments import Option

if TYPE_CHECKING:
    from geodistill.viewer.server import Exhibit

PORT = 8765


@dataclass(frozen=True, kw_only=True)
class Served:
    """Where a page is served."""

    host: Annotated[
        str, Option("address to serve on; others can reach the scene on any but this machine's own")
    ] = "127.0.0.1"
    port: Annotated[
        int | None, Option(f"port to serve on, 0 for any (default: {PORT}, or any if it is taken)")
    ] = None
    open: Annotated[bool, Option("print the address and do not open the browser")] = True
    save: Annotated[
        Path | None,
        Option(
            "write one HTML file that shows the scene without a server, and end",
            metavar="FILE",
            setting=False,
        ),
    ] = None

    def expect_address(self) -> None:
        """Raise UsageError for what is no address, and no file of a page."""
        if self.save is not None and self.save.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--save {self.save}: name a file that ends in .html")
        if self.save is not None and (self.port is not None or not self.open):
            raise UsageError("--port and --no-open are for serving, --save ends: leave them out")
        if self.port is not None and not 0 <= self.port <= 65535:
            raise UsageError(f"--port must be from 0 to 65535, got {self.port}")
        if not self.host:
            raise UsageError("--host is empty: name an address, such as 127.0.0.1")


def serve(arguments: Served, exhibit: Exhibit, started: Callable[[], None] = lambda: None) -> float:
    """Serve until Ctrl-C, which is how it is meant to end. Returns the seconds it took.

    `started` is called once pages can come. Raises InputError where it cannot listen there.
    """
    import asyncio
    import contextlib
    import threading
    import time
    import webbrowser

    from geodistill.log import say
    from geodistill.viewer.guard import is_loopback
    from geodistill.viewer.server import make_app, run

    began = time.monotonic()
    port = PORT if arguments.port is None else arguments.port

    def ready(port: int) -> None:
        address = address_of(arguments.host, port, exhibit.token)
        print(address, flush=True)
        if not is_loopback(arguments.host):
            say("anyone who has this address and reaches this machine can see the scene")
        say("Ctrl-C ends it")
        if arguments.open:  # aside, as it may wait for a browser that waits for the server
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        started()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(make_app(exhibit), port, arguments.port is None, ready))
    return round(time.monotonic() - began, 1)


def address_of(host: str, port: int, token: str) -> str:
    """Where this machine's browser finds the server."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/?token={token}"
