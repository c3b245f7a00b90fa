"""A browser for the tests of pages; they skip, and say why, where something is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from geodistill.geometry.mesh import Mesh
from geodistill.viewer.editor import Editor
from tests.browser.browsing import FLAGS, chromium, tab
from tests.deform.shapes import blob
from tests.viewer.editing import editor_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the whole session: while it runs, no other test could run an event loop."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from geodistill.viewer.page import PAGE

    if (executable := chromium()) is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    if not PAGE.exists():
        pytest.skip("the viewer's page was not built when this checkout was installed")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab of 320 x 240; whatever it complains of fails the test."""
    with tab(browser, viewport={"width": 320, "height": 240}) as opened:
        yield opened


@pytest.fixture
def mesh() -> Mesh:
    """Without any symmetry."""
    return blob(2)


@pytest.fixture
def editor(mesh: Mesh) -> Editor:
    """Of this mesh, with features."""
    return editor_of(mesh)
