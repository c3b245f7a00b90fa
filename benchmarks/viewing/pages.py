"""The page in a real browser without a screen, watched by viewing/probe.js."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, Route, sync_playwright

from geodistill.shade.viewable import MeshView
from geodistill.viewer.background import BackgroundServer
from geodistill.viewer.editor import Editor
from geodistill.viewer.page import load_page
from geodistill.viewer.scene import describe_edit
from geodistill.viewer.server import Exhibit

PROBE = Path(__file__).parent / "probe.js"
BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"),
    "--enable-precise-memory-info",
]
WIDTH, HEIGHT = 1100, 700
LONGEST_MS, POLL_MS = 180_000, 20


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    found = next((name for name in BROWSERS if Path(name).exists()), None)
    if found is None:
        raise SystemExit("no Chromium is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=FLAGS)
        try:
            yield launched
        finally:
            launched.close()


@contextlib.contextmanager
def served(editor: Editor) -> Iterator[str]:
    """The address of a server of this process."""
    described = describe_edit(editor.mesh, editor.surface, Path("blob.glb"), "z")
    scene = MeshView(editor.mesh)
    exhibit = Exhibit(load_page(), scene, described, "benchmark", "127.0.0.1", editor)
    with BackgroundServer(exhibit) as server:
        yield server.url


@contextlib.contextmanager
def tab(browser: Browser, exact: bool = False) -> Iterator[Page]:
    """A tab that is watched. Where it is to be exact, the page is isolated from other origins:
    its clock then ticks every 5 microseconds, else every 100."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    page = context.new_page()
    page.set_default_timeout(LONGEST_MS)
    page.add_init_script(path=PROBE)
    if exact:
        context.grant_permissions(["local-network-access"])  # to what is served by way of a route
        page.route(lambda url: "/?token=" in url, _isolated)
    try:
        yield page
    finally:
        context.close()


def show(page: Page, address: str) -> None:
    """Open the address and wait until the mesh is there, its features are, and it was drawn."""
    page.goto(address)
    page.wait_for_selector("#cover.done, #cover.failed", state="attached")
    if page.locator("#cover.failed").count():
        raise SystemExit(f"the page failed: {page.locator('#doing').text_content()}")
    while not page.evaluate("geodistill.kind.controller.ready"):
        page.wait_for_timeout(POLL_MS)
    settle(page)


def settle(page: Page) -> None:
    """Wait until what is seen is final, and the GPU has nothing to do."""
    page.evaluate("geodistill.settled().then(() => probe.drain())")


def change(page: Page, session: dict[str, Any]) -> None:
    """Make it the page's edit."""
    page.evaluate("session => geodistill.kind.controller.change(session)", session)
    settle(page)
    if page.locator("#toast").is_visible():
        raise SystemExit(f"the page says: {page.locator('#toast').text_content()}")


def metrics(client: CDPSession) -> dict[str, float]:
    """What Chromium counts, such as seconds of scripts, styles and layout."""
    found = client.send("Performance.getMetrics")["metrics"]
    return {entry["name"]: entry["value"] for entry in found}


def _isolated(route: Route) -> None:
    response = route.fetch()
    alone = {
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-embedder-policy": "require-corp",
    }
    route.fulfill(response=response, headers={**response.headers, **alone})
