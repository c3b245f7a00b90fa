"""A server whose answers take long, while the person goes on: in the end all is as the session
says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from geodistill.deform.session import Anchor, Handle, Session
from geodistill.deform.session_file import session_to_dict
from geodistill.geometry.mesh import Mesh, diagonal
from tests.browser.browsing import serving_edit, show
from tests.browser.deforming import (
    SIZE,
    VISIBLE,
    SlowEditor,
    change,
    drag,
    expect_shown,
    kept,
    now,
    positions,
    rest,
    session,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

GIVE = "session => geodistill.kind.controller.change(session)"


@pytest.fixture
def shown(page: Page, mesh: Mesh) -> Any:
    """The page, and an editor that waits."""
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    editor = SlowEditor(mesh)
    with serving_edit(editor) as address:
        show(page, address)
        yield editor
        editor.may_answer.set()


def test_undone_before_it_was_there(page: Page, mesh: Mesh, shown: SlowEditor) -> None:
    page.mouse.click(500, 350)
    shown.expect_asked()
    assert "Asking for its weights" in page.locator("#welcome").inner_text()
    page.keyboard.press("Control+z")
    assert kept(page, shown) == Session()
    shown.may_answer.set()
    page.keyboard.press("Control+y")
    again = session(page)
    assert len(again.handles) == 1 and shown.questions == 1
    page.keyboard.press("Control+z")
    assert session(page) == Session()
    assert page.locator(".marker").count() == 0
    assert torch.equal(positions(page), rest(shown))


def test_a_second_handle_before_the_first_was_there(
    page: Page, mesh: Mesh, shown: SlowEditor
) -> None:
    page.mouse.click(500, 350)
    page.mouse.click(560, 500)
    page.keyboard.press("2")
    page.mouse.click(440, 250)
    shown.expect_asked()
    assert len(now(page).handles) == 2 and page.locator(".marker:visible").count() == 0
    shown.may_answer.set()
    page.wait_for_selector(".marker.anchor:not([hidden])")
    drag(page, ".marker.handle[data-index='0']", (60, -40))
    drag(page, ".marker.handle[data-index='1']", (-30, -30))
    found = kept(page, shown)
    assert [len(found.handles), len(found.anchors)] == [2, 1]
    assert all(handle.translate != (0, 0, 0) for handle in found.handles)
    expect_shown(page, found, mesh)


def test_removed_before_it_was_there(page: Page, mesh: Mesh, shown: SlowEditor) -> None:
    page.mouse.click(500, 350)
    shown.expect_asked()
    page.keyboard.press("Delete")
    assert session(page) == Session() and page.locator(".marker").count() == 0
    page.mouse.click(560, 500)
    shown.may_answer.set()
    drag(page, VISIBLE, (40, -40))
    found = session(page)
    assert len(found.handles) == 1
    expect_shown(page, found, mesh)


def test_dragged_at_once(page: Page, mesh: Mesh, shown: SlowEditor) -> None:
    page.mouse.click(500, 350)
    before = page.evaluate("geodistill.stage.pose")
    page.mouse.move(500, 350)
    page.mouse.down()
    page.mouse.move(560, 300, steps=3)
    shown.may_answer.set()
    page.wait_for_selector(VISIBLE)
    page.mouse.move(580, 300, steps=3)
    page.mouse.up()
    # There was no handle to drag yet, so that the camera was turned.
    assert page.evaluate("geodistill.stage.pose") != before
    assert session(page).handles[0].translate == (0, 0, 0)
    drag(page, ".marker.handle", (40, -40))
    expect_shown(page, session(page), mesh)


def test_others_are_dragged_while_one_is_awaited(page: Page, mesh: Mesh, shown: SlowEditor) -> None:
    shown.may_answer.set()
    page.mouse.click(500, 350)
    session(page)
    drag(page, ".marker.handle", (50, -40))
    first = session(page)
    shown.may_answer.clear()
    page.keyboard.press("Escape")
    page.mouse.click(560, 500)
    drag(page, VISIBLE, (-30, -30))
    moved = now(page)
    assert len(moved.handles) == 2 and moved.handles[0] != first.handles[0]
    # What can be shown is shown: the first handle by itself.
    expect_shown(page, replace(moved, handles=moved.handles[:1]), mesh)
    shown.may_answer.set()
    expect_shown(page, session(page), mesh)
    assert kept(page, shown) == moved


def test_one_is_awaited_while_the_other_is_removed(
    page: Page, mesh: Mesh, shown: SlowEditor
) -> None:
    shown.may_answer.set()
    page.mouse.click(500, 350)
    session(page)
    drag(page, ".marker.handle", (50, -40))
    session(page)
    shown.may_answer.clear()
    page.mouse.click(560, 500)
    page.get_by_label("Remove Handle 1").click()
    # The one that is left is not where the other was.
    assert page.locator(".marker:visible").count() == 0
    shown.may_answer.set()
    drag(page, VISIBLE, (30, -30))
    found = session(page)
    assert len(found.handles) == 1 and found.handles[0].translate != (0, 0, 0)
    expect_shown(page, found, mesh)


def test_the_published_method_waits_too(page: Page, mesh: Mesh, shown: SlowEditor) -> None:
    both = Session(
        method="published",
        handles=(Handle(vertex=300, translate=(0, 0, 0.2)), Handle(vertex=900)),
        anchors=(Anchor(vertex=1500),),
    )
    shown.may_answer.set()
    change(page, one := replace(both, handles=both.handles[:1]))
    expect_shown(page, one, mesh)
    shown.may_answer.clear()
    page.evaluate(GIVE, session_to_dict(both))
    drag(page, VISIBLE, (-30, -30))
    assert page.locator("#toast").is_hidden(), page.locator("#toast").text_content()
    shown.may_answer.set()
    expect_shown(page, session(page), mesh)


def test_a_polish_that_comes_too_late_is_left(page: Page, mesh: Mesh, shown: SlowEditor) -> None:
    shown.may_answer.set()
    lifted = Session(handles=(Handle(vertex=300, translate=(0, 0, 0.3)),))
    change(page, lifted)
    shown.may_answer.clear()
    while shown.asked.acquire(blocking=False):
        pass
    page.evaluate(GIVE, session_to_dict(replace(lifted, rigidity=3)))
    shown.expect_asked()
    page.keyboard.press("Control+z")
    shown.may_answer.set()
    assert session(page) == lifted
    expect_shown(page, lifted, mesh)
    page.keyboard.press("Control+y")
    polished = session(page)
    assert page.evaluate("geodistill.kind.controller.polished") and polished.rigidity == 3
    expect_shown(page, polished, mesh)
    assert float((positions(page) - rest(shown)).norm(dim=1).max()) > 0.05 * diagonal(mesh)
