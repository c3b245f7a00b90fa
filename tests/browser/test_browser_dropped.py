"""A connection that is cut while somebody edits: nothing is lost, and in the end all pages show the
same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from geodistill.deform.session import Handle, Session
from geodistill.geometry.mesh import Mesh
from geodistill.viewer.editor import Editor
from tests.browser.browsing import LOSE, port_of, serving_edit, show, until
from tests.browser.deforming import (
    SIZE,
    VISIBLE,
    SlowEditor,
    drag,
    expect_shown,
    kept,
    now,
    session,
)
from tests.browser.proxy import Proxy
from tests.deform.shapes import blob
from tests.viewer.editing import editor_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LOST = "#toast:has-text('Connection lost')"


def through(address: str, proxy: Proxy) -> str:
    return address.replace(str(port_of(address)), str(proxy.port))


def returned(page: Page, proxy: Proxy) -> None:
    """Let the connection come back, without waiting for the page's next attempt."""
    proxy.mend()
    page.evaluate("dispatchEvent(new Event('online'))")
    page.wait_for_selector("#toast", state="hidden")


@pytest.fixture
def address(editor: Editor) -> Iterator[str]:
    with serving_edit(editor) as found:
        yield found


@pytest.fixture
def proxy(address: str) -> Iterator[Proxy]:
    made = Proxy(port_of(address))
    yield made
    made.close()


@pytest.fixture
def tab(page: Page, address: str, proxy: Proxy) -> Page:
    """A page behind the proxy, with one handle."""
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    show(page, through(address, proxy))
    page.mouse.click(500, 350)
    session(page)
    return page


def test_edits_made_meanwhile_are_kept(tab: Page, mesh: Mesh, editor: Editor, proxy: Proxy) -> None:
    first = kept(tab, editor)
    proxy.cut()
    tab.wait_for_selector(LOST)
    drag(tab, ".marker.handle", (50, 20))
    moved = session(tab)
    expect_shown(tab, moved, mesh)
    tab.keyboard.press("Control+z")
    assert session(tab) == first
    tab.keyboard.press("Control+y")
    tab.keyboard.press("Escape")
    tab.mouse.click(560, 480)
    tab.keyboard.press("2")
    tab.mouse.click(440, 250)
    assert tab.evaluate("geodistill.kind.controller.missing") == "places"
    assert editor.session == first
    returned(tab, proxy)
    found = kept(tab, editor)
    assert found.handles[0] == moved.handles[0]
    assert (len(found.handles), len(found.anchors)) == (2, 1)
    expect_shown(tab, found, mesh)
    for _ in range(4):
        tab.keyboard.press("Control+z")
    assert kept(tab, editor) == Session()


@pytest.mark.parametrize("way", ["up", "down"])
def test_what_was_on_its_way_is_not_lost(
    tab: Page, mesh: Mesh, editor: Editor, proxy: Proxy, way: str
) -> None:
    """Edits that never came to the server, and such whose answer never came back."""
    kept(tab, editor)
    proxy.hold = frozenset({way})
    drag(tab, ".marker.handle", (50, 20))
    moved = session(tab)
    if way == "down":
        until(tab, lambda: editor.session == moved)
    proxy.cut()
    tab.wait_for_selector(LOST)
    returned(tab, proxy)
    assert kept(tab, editor) == moved
    expect_shown(tab, moved, mesh)


def test_a_question_is_asked_again(page: Page, mesh: Mesh) -> None:
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    slow = SlowEditor(mesh)
    with serving_edit(slow) as address:
        proxy = Proxy(port_of(address))
        show(page, through(address, proxy))
        page.mouse.click(500, 350)
        slow.expect_asked()
        proxy.cut()
        page.wait_for_selector(LOST)
        slow.may_answer.set()
        assert now(page) == slow.session and len(slow.session.handles) == 1
        returned(page, proxy)
        page.wait_for_selector(VISIBLE)
        drag(page, ".marker.handle", (40, 40))
        expect_shown(page, kept(page, slow), mesh)
        assert slow.questions == 2
        proxy.close()


def test_both_edit_while_one_is_cut(
    browser: Browser, tab: Page, mesh: Mesh, editor: Editor, proxy: Proxy, address: str
) -> None:
    other = browser.new_page(viewport=SIZE)  # pyright: ignore[reportArgumentType]
    show(other, address)
    assert session(other) == kept(tab, editor)
    proxy.cut()
    tab.wait_for_selector(LOST)
    drag(tab, ".marker.handle", (50, 20))
    own = session(tab)
    drag(other, ".marker.handle", (-40, -30))
    theirs = kept(other, editor)
    assert own != theirs
    returned(tab, proxy)
    # What is written last wins: the edit that came last to the server.
    assert kept(tab, editor) == own
    until(other, lambda: now(other), own)
    expect_shown(other, session(other), mesh)
    # The other one is not lost: it is what undo brings back, everywhere.
    other.keyboard.press("Control+z")
    assert kept(other, editor) == theirs
    until(tab, lambda: now(tab), theirs)
    expect_shown(tab, session(tab), mesh)
    # Nothing was edited this time: the page takes what the others did.
    proxy.cut()
    tab.wait_for_selector(LOST)
    drag(other, ".marker.handle", (30, 30))
    latest = kept(other, editor)
    returned(tab, proxy)
    until(tab, lambda: now(tab), latest)
    assert editor.session == latest
    other.close()


def test_edits_that_cross_on_their_way(
    browser: Browser, tab: Page, mesh: Mesh, editor: Editor, proxy: Proxy, address: str
) -> None:
    """A page whose own edit is under way does not repeat it when it hears of another's."""
    sent: list[Session] = []
    editor.keep = sent.append
    kept(tab, editor)
    other = browser.new_page(viewport=SIZE)  # pyright: ignore[reportArgumentType]
    show(other, address)
    listen = """() => {
      const { backend } = geodistill.kind;
      const { told } = backend;
      window.heard = [];
      backend.told = (message) => {
        window.heard.push(message.type);
        told(message);
      };
    }"""
    tab.evaluate(listen)
    proxy.hold = frozenset({"up"})
    drag(tab, ".marker.handle", (50, 20))
    own = session(tab)
    drag(other, ".marker.handle", (-40, -30))
    assert kept(other, editor) != own
    until(tab, lambda: "edit" in tab.evaluate("window.heard"))
    assert session(tab) == own
    proxy.release()
    until(other, lambda: now(other), own)
    expect_shown(other, session(other), mesh)
    drag(other, ".marker.handle", (30, 30))
    latest = kept(other, editor)
    until(tab, lambda: now(tab), latest)
    assert len(sent) == 3  # a handle was moved three times
    other.close()


def test_another_page_removes_what_is_dragged(
    browser: Browser, tab: Page, mesh: Mesh, editor: Editor, proxy: Proxy, address: str
) -> None:
    kept(tab, editor)
    other = browser.new_page(viewport=SIZE)  # pyright: ignore[reportArgumentType]
    show(other, address)
    # Along the arrow in x of the gizmo.
    tab.keyboard.press("t")
    arrow = """() => {
      const { stage, kind } = geodistill;
      const { center } = kind.model.handles[0];
      const at = (d) => {
        const v = stage.camera.position.clone().set(center[0], center[1], center[2] + d);
        v.project(stage.camera);
        return [(0.5 + 0.5 * v.x) * stage.canvas.clientWidth, (0.5 - 0.5 * v.y) * innerHeight];
      };
      return [at(0), at(0.01)];
    }"""
    (x, y), (fx, fy) = tab.evaluate(arrow)
    length = ((fx - x) ** 2 + (fy - y) ** 2) ** 0.5
    dx, dy = (fx - x) / length, (fy - y) / length
    tab.mouse.move(x + 55 * dx, y + 55 * dy)
    tab.evaluate("new Promise(requestAnimationFrame)")
    tab.mouse.down()
    tab.mouse.move(x + 75 * dx, y + 75 * dy, steps=3)
    assert now(tab).handles[0].translate != (0, 0, 0), "the arrow was missed"
    other.keyboard.press("Control+Delete")
    until(tab, lambda: now(tab) == Session() == editor.session)
    tab.mouse.move(x + 90 * dx, y + 90 * dy, steps=3)
    tab.mouse.up()
    found = kept(tab, editor)
    assert len(found.handles) == 1 and found.handles[0].translate != (0, 0, 0)
    until(other, lambda: now(other), found)
    expect_shown(tab, found, mesh)
    other.close()


def test_the_edit_of_another_mesh_is_left_alone(page: Page, mesh: Mesh) -> None:
    """A server that was started again with another mesh does not get the edit of the one before."""
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    with serving_edit(editor_of(mesh)) as address:
        show(page, address)
        page.mouse.click(500, 350)
        session(page)
    page.wait_for_selector(LOST)
    drag(page, ".marker.handle", (50, 20))
    own = Session(handles=(Handle(vertex=77, translate=(0, 0, 0.2)),))
    other, sent = editor_of(blob(3), own), []
    other.keep = sent.append
    with serving_edit(other, port=port_of(address)):
        with page.expect_event("load"):
            page.evaluate("dispatchEvent(new Event('online'))")
        page.wait_for_selector("#cover.done", state="attached")
        until(page, lambda: now(page), own)
        expect_shown(page, session(page), other.mesh)
        assert other.session == own and not sent


def test_graphics_that_are_lost(page: Page, mesh: Mesh, editor: Editor, address: str) -> None:
    """The page says so for as long as it lasts, and the edit is there after a reload."""
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    show(page, address)
    page.mouse.click(500, 350)
    found = kept(page, editor)
    page.evaluate(LOSE)
    page.wait_for_selector("#toast:has-text('reload'):has-text('kept by geodistill')")
    page.mouse.click(560, 480)  # where nothing is seen
    page.mouse.click(440, 250)
    assert now(page) == found
    page.evaluate("dispatchEvent(new ErrorEvent('error', { error: new Error('another') }))")
    page.wait_for_selector("#toast:has-text('another')")
    page.wait_for_selector("#toast:has-text('reload')")
    page.reload()
    page.wait_for_selector("#cover.done", state="attached")
    until(page, lambda: now(page) == found)
    expect_shown(page, session(page), mesh)


def test_a_click_before_the_server_has_said_anything(page: Page, mesh: Mesh) -> None:
    """It is added to the server's edit."""
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    begun = Session(handles=(Handle(vertex=77, translate=(0, 0, 0.2)),))
    editor, sent = editor_of(mesh, begun), []
    editor.keep = sent.append
    with serving_edit(editor) as address:
        # Of the socket nothing is heard before it may.
        page.add_init_script(
            """{
              const Plain = WebSocket;
              window.WebSocket = class extends Plain {
                set onmessage(listener) {
                  const held = [];
                  super.onmessage = (event) => (held ? held.push(event) : 0);
                  window.hear = () => {
                    super.onmessage = listener;
                    for (const event of held) listener(event);
                  };
                }
              };
            }"""
        )
        show(page, address)
        page.mouse.click(500, 350)
        assert len(now(page).handles) == 1 and not sent
        page.evaluate("window.hear()")
        found = kept(page, editor)
        assert found.handles[0] == begun.handles[0] and len(found.handles) == 2
        expect_shown(page, found, mesh)
        page.keyboard.press("Control+z")
        assert kept(page, editor) == begun


def test_a_server_started_again_with_an_edit_of_its_own(page: Page, mesh: Mesh) -> None:
    """It keeps that; a tab that was left open shows it, and has its own in its history."""
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    first = editor_of(mesh)
    with serving_edit(first) as address:
        show(page, address)
        page.mouse.click(500, 350)
        own = kept(page, first)
    page.wait_for_selector(LOST)
    theirs = Session(handles=(Handle(vertex=77, translate=(0, 0, 0.2)),))
    second, sent = editor_of(mesh, theirs), []
    second.keep = sent.append
    with serving_edit(second, port=port_of(address)):
        page.evaluate("dispatchEvent(new Event('online'))")
        until(page, lambda: now(page) == theirs)
        expect_shown(page, session(page), mesh)
        assert second.session == theirs and not sent
        page.keyboard.press("Control+z")
        assert kept(page, second) == own
