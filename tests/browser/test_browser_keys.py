"""Every key of the help sheet does what the sheet says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from geodistill.deform.session import Mirror, Session
from geodistill.deform.session_file import load_session
from geodistill.geometry.mesh import Mesh
from geodistill.viewer.editor import Editor
from tests.browser.browsing import serving_edit, show, until
from tests.browser.deforming import drag, session
from tests.deform.shapes import blob
from tests.viewer.editing import editor_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIZE = {"width": 1024, "height": 640}
PLANE = Mirror((1.0, 0.0, 0.0))
AT, BESIDE = (480, 320), (560, 340)

PRESSED = "document.querySelector(`[aria-label^='{} (']`).getAttribute('aria-pressed')"
CONTROLLER = "geodistill.kind.controller"


@dataclass(frozen=True)
class Key:
    """What a key does: a value of the page before it and after."""

    keys: str
    value: str
    before: Any
    after: Any
    first: tuple[str, ...] = ()  # keys that are pressed before
    again: Any = None  # the value after the key has been pressed again


def tool(name: str, key: str, other: str) -> Key:
    return Key(key, PRESSED.format(name), "false", "true", (other,), "true")


def toggle(name: str, key: str, on: bool = False) -> Key:
    rows = "[...document.querySelectorAll('#controls label')]"
    value = f"{rows}.find(l => l.textContent === '{name}').querySelector('input').checked"
    return Key(key, value, on, not on, (), on)


def opens(dialog: str, key: str) -> Key:
    return Key(key, f"document.getElementById('{dialog}').open", False, True)


CHOSEN = f"{CONTROLLER}.selected?.kind ?? ''"
HANDLES = f"{CONTROLLER}.session.handles.length"
UP = "geodistill.stage.pose.up.join(' ')"
KEYS: dict[str, Key] = {
    "Handle": tool("Handle", "1", "2"),
    "Anchor": tool("Anchor", "2", "1"),
    "Brush": tool("Brush", "3", "1"),
    "Lasso": tool("Lasso", "4", "1"),
    "Move": tool("Move", "t", "r"),
    "Turn": tool("Turn", "r", "t"),
    "Size": tool("Size", "e", "t"),
    "Pivot": tool("Pivot", "p", "t"),
    "Undo": Key("Control+z", HANDLES, 1, 0),
    "Redo": Key("Control+y", HANDLES, 0, 1, ("Control+z",)),
    "Export": opens("export", "x"),
    "Mirror the edit": Key("m", f"{CONTROLLER}.session.mirrors.length", 0, 1, (), 0),
    "Colours of features": Key(
        "c", "document.querySelector('[aria-label=Colours] [aria-pressed=true]').textContent",
        "Mesh", "Features", (), "Mesh",
    ),
    "Remove what is selected": Key("Delete", HANDLES, 1, 0),
    "Select nothing": Key("Escape", CHOSEN, "handle", ""),
    "Remove all": Key("Control+Delete", HANDLES, 1, 0, ("Escape",)),
    "Next axis up": Key("u", UP, "0 0 1", "-1 0 0"),
    "Light or dark": Key(
        "d", "document.documentElement.dataset.theme", "light", "dark", (), "light"
    ),
    "Panel": Key("i", "document.getElementById('panel').hidden", False, True, (), False),
    "Help": Key("?", "document.getElementById('help').open", False, True, (), False),
    "Wireframe": toggle("Wireframe", "w"),
    "Flat shading": toggle("Flat shading", "n"),
    "Light": toggle("Light", "l", on=True),
}  # fmt: skip
OTHERS = {
    "Open a session": "Ctrl O",
    "Save the session": "Ctrl S",
    "Smaller brush": "[",
    "Larger brush": "]",
    "Fit to view": "F",
    "First view": "H",
    "Screenshot": "S",
    "Screenshot without background": "A",
}
"""Keys with a test of their own."""
GESTURES = {
    "Turn the view": "drag",
    "Shift the view": "right drag, two fingers",
    "Zoom": "wheel, pinch",
    "Take away from a region": "Alt drag",
    "Add to a lasso's region": "Shift drag",
    "Drag in the view's plane": "drag its dot",
    "Pivot by hand": "the same, in Pivot",
    "Open a session file": "drop it here",
}
"""Which other tests make."""


class Symmetric(Editor):
    """Has a plane, whatever its mesh is."""

    def mirrors(self) -> tuple[Mirror, ...]:
        return (PLANE,)


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return blob(2)


@pytest.fixture(scope="module")
def address(mesh: Mesh) -> Iterator[str]:
    editor = Symmetric(mesh, Session())
    plain = editor_of(mesh)
    editor.bring(plain.found)
    plain.close()
    with serving_edit(editor) as found:
        yield found


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[Page]:
    """A page with one handle, which is selected."""
    context = browser.new_context(viewport=SIZE, color_scheme="light")  # pyright: ignore
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    show(page, address)
    page.keyboard.press("Control+Delete")
    page.mouse.click(*AT)
    page.wait_for_selector(".marker.handle:not([hidden])")
    yield page
    context.close()
    assert not complaints


def sheet(page: Page) -> dict[str, str]:
    """What the help says."""
    rows = (
        "[...document.querySelectorAll('#keys p')].map(p => [...p.children].map(c => c.innerText))"
    )
    page.keyboard.press("?")
    found = page.evaluate(rows)
    page.keyboard.press("Escape")
    return dict(found)


def written(keys: str) -> str:
    """A key as the sheet writes it."""
    names = [name.upper() if len(name) == 1 else name for name in keys.split("+")]
    return " ".join("Ctrl" if name == "Control" else name for name in names)


def test_the_sheet_has_every_key(tab: Page) -> None:
    keys = {name: written(key.keys) for name, key in KEYS.items()}
    assert sheet(tab) == keys | OTHERS | GESTURES


def test_keys_do_what_the_sheet_says(tab: Page) -> None:
    begin = """start => {
      const { controller } = geodistill.kind;
      document.querySelector("dialog[open]")?.close();
      controller.change({ ...start, handles: [], mirrors: [] });
      controller.change(start);
      controller.select({ kind: "handle", index: 0 });
    }"""
    start = tab.evaluate(f"{CONTROLLER}.session")
    for key in KEYS.values():
        tab.evaluate(begin, start)
        for other in ("1", "t", *key.first):
            tab.keyboard.press(other)
        until(tab, key.value, key.before)
        tab.keyboard.press(key.keys)
        until(tab, key.value, key.after)
        assert tab.evaluate(key.value) == key.after != key.before
        if key.again is not None:
            tab.keyboard.press(key.keys)
            until(tab, key.value, key.again)
            assert tab.evaluate(key.value) == key.again


def test_keys_of_files(tab: Page, tmp_path: Path) -> None:
    drag(tab, ".marker.handle", (40, -40))
    kept = session(tab)
    with tab.expect_download() as download:
        tab.keyboard.press("Control+s")
    download.value.save_as(tmp_path / "a.json")
    digest = tab.evaluate("geodistill.stage.scene.digest")
    assert load_session(tmp_path / "a.json") == replace(kept, mesh=digest) != kept
    for key in ("s", "a"):
        with tab.expect_download() as download:
            tab.keyboard.press(key)
        assert download.value.suggested_filename == "shape.png"
    # A key counts for a file chooser only where the browser thinks so; the page says it otherwise.
    tab.evaluate("HTMLInputElement.prototype.click = function () { window.asked = this.accept; }")
    tab.keyboard.press("Control+o")
    words = "(window.asked ?? '') + document.getElementById('toast').textContent"
    assert tab.evaluate(words).startswith((".json", "The browser opens files on a click"))


def test_keys_of_the_view(tab: Page) -> None:
    pose = "geodistill.stage.pose"
    first = tab.evaluate(pose)
    tab.evaluate("pose => geodistill.look(pose)", {**first, "eye": [30.0, 40.0, 20.0]})
    tab.keyboard.press("f")
    tab.evaluate("geodistill.settled()")
    fitted = torch.tensor(tab.evaluate(pose)["eye"])
    # From the same side, and near.
    side = torch.tensor([30.0, 40.0, 20.0])
    assert fitted.norm() < 8 and torch.cosine_similarity(fitted, side, dim=0) > 0.99
    tab.keyboard.press("h")
    tab.evaluate("geodistill.settled()")
    assert tab.evaluate(pose)["eye"] == pytest.approx(first["eye"], abs=1e-3)


def test_keys_of_the_brush(tab: Page) -> None:
    def seen() -> int:
        """How much a dab selects."""
        tab.mouse.click(*BESIDE)
        words = tab.locator("#selection span").inner_text()
        tab.keyboard.press("Escape")
        return int(words.split()[0].replace(",", ""))

    tab.keyboard.press("3")
    dab = seen()
    for _ in range(3):
        tab.keyboard.press("]")
    large = seen()
    for _ in range(5):
        tab.keyboard.press("[")
    assert seen() < dab < large


def test_escape_goes_back_step_by_step(tab: Page) -> None:
    tab.keyboard.press("3")
    tab.mouse.click(*BESIDE)
    assert tab.locator("#selection").is_visible()
    tab.keyboard.press("Escape")
    assert not tab.locator("#selection").is_visible()
    assert tab.evaluate(PRESSED.format("Brush")) == "true"
    tab.keyboard.press("Escape")
    assert tab.evaluate(PRESSED.format("Handle")) == "true"
    assert tab.evaluate(CHOSEN) == "handle"
    tab.keyboard.press("Escape")
    assert tab.evaluate(CHOSEN) == ""
    tab.keyboard.press("Delete")  # nothing is selected
    assert tab.evaluate(HANDLES) == 1
    # Dialogs take it for themselves.
    tab.locator(".marker.handle").click()
    for key, name in (("x", "export"), ("?", "help")):
        tab.keyboard.press(key)
        assert tab.locator(f"#{name}").is_visible()
        tab.keyboard.press("Delete")
        tab.keyboard.press("1")
        tab.keyboard.press("Escape")
        assert not tab.locator(f"#{name}").is_visible()
        assert tab.evaluate(CHOSEN) == "handle" and tab.evaluate(HANDLES) == 1


def test_keys_belong_to_the_field_that_is_written_into(tab: Page) -> None:
    state: Callable[[], Any] = lambda: tab.evaluate(  # noqa: E731
        """() => JSON.stringify([
          geodistill.kind.controller.session, geodistill.kind.controller.selected,
          geodistill.stage.pose.eye.map((v) => v.toFixed(6)), document.documentElement.dataset,
          [...document.querySelectorAll("[aria-pressed], :checked, [open], [hidden]")].map(
            (e) => e.id + e.getAttribute("aria-label") + e.getAttribute("aria-pressed")),
        ])"""
    )
    tab.get_by_label("Move x").click()
    before = state()
    for key in [*"1234tremcfhusadiwnlx[]?", "Delete", "Backspace", "Control+z", "Control+Delete"]:
        tab.keyboard.press(key)
    assert state() == before
    tab.keyboard.press("Control+a")
    tab.keyboard.type("0.25")
    tab.keyboard.press("Enter")
    assert session(tab).handles[0].translate == (0.25, 0.0, 0.0)
    # Out of the field, keys are the page's again.
    tab.keyboard.press("Control+z")
    assert session(tab).handles[0].translate == (0.0, 0.0, 0.0)
    # Escape leaves a field as it was.
    tab.get_by_label("Move y").click()
    tab.keyboard.type("7")
    tab.keyboard.press("Escape")
    assert session(tab).handles[0].translate == (0.0, 0.0, 0.0)
    tab.keyboard.press("i")
    assert tab.evaluate("document.getElementById('panel').hidden") is True


ONE = (1.0, 1.0, 1.0)
NUMBERS: list[tuple[str, str, tuple[float, ...], str]] = [
    ("Size x", "0", (0.001, 1.0, 1.0), "Size is at least 0.001"),
    ("Size y", "-3", (1.0, 0.001, 1.0), "Size is at least 0.001"),
    ("Size z", "1e9", (1.0, 1.0, 1000.0), "Size is at most 1000"),
    ("Size z", "", ONE, ""),
    ("Turn ° y", "1e9", (0.0, 36000.0, 0.0), "Turn ° is at most 36000"),
    ("Move x", "-0.000123456", (-0.000123456, 0.0, 0.0), ""),
    ("Move y", "-1234.567", (0.0, -1234.567, 0.0), ""),
]
# What is said is kept here as it is said: it goes away by itself after some seconds.
LISTEN = """() => {
  const toast = document.getElementById("toast");
  window.said = [];
  const listen = () => { if (!toast.hidden) said.push(toast.textContent); };
  new MutationObserver(listen).observe(toast, { childList: true });
}"""
FITS = """() => [...document.querySelectorAll(".triple input")]
  .every((input) => input.scrollWidth <= input.clientWidth)"""


def test_numbers_that_no_edit_has(tab: Page) -> None:
    tab.evaluate(LISTEN)
    for field, text, kept, words in NUMBERS:
        tab.get_by_label(field).fill(text)
        tab.keyboard.press("Enter")
        assert tab.evaluate("said.splice(0)") == ([words] if words else [])
        handle = session(tab).handles[0]
        name = {"Size": "scale", "Turn": "rotate", "Move": "translate"}[field.split()[0]]
        found = getattr(handle, name)
        assert found == kept or (found == 1.0 and kept == ONE)
        shown = [float(tab.get_by_label(f"{field[:-1]}{axis}").input_value()) for axis in "xyz"]
        assert shown == pytest.approx(kept, rel=1e-2)
        assert tab.evaluate(FITS)
        # The server has answered, and the page is still connected.
        until(tab, f"{CONTROLLER}.unsaved", False)
        tab.get_by_text("Put back").click()
    # A number beside the one that is written keeps what there is no room to show.
    tab.get_by_label("Move x").fill("0.123456")
    tab.get_by_label("Move y").fill("0.5")
    tab.keyboard.press("Enter")
    assert session(tab).handles[0].translate == (0.123456, 0.5, 0.0)
    assert tab.get_by_label("Move x").input_value() == "0.1235"
    # What is no number is gone with the pointer.
    tab.get_by_label("Move y").fill("")
    tab.get_by_label("Move z").click()
    assert tab.get_by_label("Move y").input_value() == "0.5"


def test_a_move_out_of_all_proportion_is_said(tab: Page) -> None:
    tab.get_by_label("Move x").fill("1e30")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#toast:has-text('in the mesh\\'s unit?')")
    tab.keyboard.press("Control+z")
    drag(tab, ".marker.handle", (30, -30))
    until(tab, f"{CONTROLLER}.unsaved", False)
    assert json.loads(tab.evaluate(f"JSON.stringify({CONTROLLER}.session)"))["handles"]
