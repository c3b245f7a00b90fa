"""Deforming in a real browser: what its GPU computes is what `deform` does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch

from geodistill.deform.session import Session
from geodistill.geometry.mesh import Mesh
from tests.browser.browsing import picture, serving_edit, show, tab, until
from tests.browser.deforming import SESSIONS, away, change, positions
from tests.deform.shapes import blob
from tests.viewer.editing import editor_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


SMALL = {"width": 320, "height": 240}


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return blob(2)


@pytest.fixture(scope="module")
def shown(browser: Browser, mesh: Mesh) -> Iterator[Page]:
    """A page for all sessions, one after the other."""
    with serving_edit(editor_of(mesh)) as address, tab(browser, viewport=SMALL) as page:
        show(page, address)
        yield page


@pytest.mark.parametrize("name", SESSIONS)
def test_the_shader_is_the_reference(shown: Page, mesh: Mesh, name: str) -> None:
    change(shown, SESSIONS[name])
    assert shown.locator("#toast").is_hidden(), shown.locator("#toast").text_content()
    assert away(shown, Session(), mesh) > 0.003
    found = away(shown, SESSIONS[name], mesh)
    print(f"{name}: {found:.2g} diagonals")
    assert found < 1e-3


def test_a_polish_stays_until_the_edit_changes(page: Page, mesh: Mesh) -> None:
    editor = editor_of(mesh)
    with serving_edit(editor) as address:
        show(page, address)
        change(page, SESSIONS["polished"])
        before = positions(page)
        page.evaluate("window.before = geodistill.kind.controller.kernel")
        editor.told(editor.state()[0])
        until(page, "window.before !== geodistill.kind.controller.kernel")
        page.evaluate("geodistill.settled()")
        assert torch.equal(positions(page), before)
        change(page, SESSIONS["one"])
        assert not torch.equal(positions(page), before)


def test_the_mesh_is_still_seen_after_the_pointer_was_over_it(page: Page) -> None:
    editor = editor_of(blob(2))
    with serving_edit(editor) as address:
        show(page, address)
        before = picture(page)[..., 3]
        assert float(before.mean()) > 0.05
        pick = "() => geodistill.kind.picker.at(geodistill.stage.camera, 0, 0)?.face"
        assert page.evaluate(pick) is not None
        page.evaluate("geodistill.stage.invalidate()")
        page.evaluate("geodistill.settled()")
        assert torch.equal(picture(page)[..., 3], before)
