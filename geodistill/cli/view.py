"""`geodistill view`: a scene in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from geodistill.checks import UsageError
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import Axis, Machine, expect_free, prepare
from geodistill.cli.report import pairs

PORT = 8765


@dataclass(frozen=True, kw_only=True)
class Arguments(Machine):
    """Show a scene in the browser: a mesh, points, splats or a radiance field."""

    source: Annotated[Path, Positional("a field, splats, a mesh or points", metavar="X")]
    host: Annotated[
        str, Option("address to serve on; others can reach the scene on any but this machine's own")
    ] = "127.0.0.1"
    port: Annotated[
        int | None, Option(f"port to serve on, 0 for any (default: {PORT}, or any if it is taken)")
    ] = None
    open: Annotated[bool, Option("print the address and do not open the browser")] = True
    up: Annotated[
        Axis | None,
        Option(
            "axis that points up, as --up z or --up=-y (default: what the file says, or a guess)"
        ),
    ] = None
    save: Annotated[
        Path | None,
        Option(
            "write one HTML file that shows the scene without a server, and end; not for fields",
            metavar="FILE",
            setting=False,
        ),
    ] = None
    overwrite: Annotated[bool, Option("replace the file of --save", setting=False)] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.port is not None and not 0 <= self.port <= 65535:
            raise UsageError(f"--port must be from 0 to 65535, got {self.port}")
        if not self.host:
            raise UsageError("--host is empty: name an address, such as 127.0.0.1")
        if self.save is not None and self.save.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--save {self.save}: name a file that ends in .html")
        if self.save is not None and (self.port is not None or not self.open):
            raise UsageError("--port and --no-open are for serving, --save ends: leave them out")


def run(arguments: Arguments) -> dict[str, Any]:
    prepare(arguments)
    from geodistill.runs import result_file
    from geodistill.shade.viewable import load_viewable
    from geodistill.viewer.page import load_page, save_html
    from geodistill.viewer.scene import describe

    page = load_page()  # before any work
    if arguments.save is not None:
        expect_free(arguments.overwrite, arguments.save, inputs=(arguments.source,))
    source = result_file(arguments.source)
    scene = load_viewable(source, arguments.device)
    description = describe(scene, source, arguments.up)
    if arguments.save is not None:
        size = save_html(arguments.save, description)
        return {"output": str(arguments.save), "kind": description.kind, "bytes": size}
    from geodistill.viewer.guard import make_token
    from geodistill.viewer.server import Exhibit

    exhibit = Exhibit(page, scene, description, make_token(), arguments.host)
    return _serve(arguments, exhibit)


def report(result: dict[str, Any]) -> str:
    return pairs(result)


def _serve(arguments: Arguments, exhibit: Any) -> dict[str, Any]:
    """Serve until Ctrl-C, which is how it is meant to end."""
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
        address = _address(arguments.host, port, exhibit.token)
        print(address, flush=True)
        if not is_loopback(arguments.host):
            say("anyone who has this address and reaches this machine can see the scene")
        say("Ctrl-C ends it")
        if arguments.open:  # aside, as it may wait for a browser that waits for the server
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(make_app(exhibit), port, arguments.port is None, ready))
    return {"kind": exhibit.description.kind, "seconds": round(time.monotonic() - began, 1)}


def _address(host: str, port: int, token: str) -> str:
    """Where this machine's browser finds the server."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/?token={token}"
