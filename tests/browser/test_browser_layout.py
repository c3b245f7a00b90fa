"""How the page looks: nothing is in the way of anything else, and all that is written can be
read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from geodistill.deform.session import Anchor, Handle, Session
from geodistill.deform.session_file import session_to_dict
from geodistill.viewer.editor import Editor
from tests.browser.browsing import serving_edit, show
from tests.browser.deforming import session
from tests.deform.shapes import blob
from tests.viewer.editing import features_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BOXES = """() => {
  const found = {};
  for (const id of ["title", "tools", "modes", "panel", "selection", "welcome", "status", "axes"]) {
    const element = document.getElementById(id);
    const parts = id === "title" ? [...element.children] : [element];
    const boxes = parts.map((e) => e.getBoundingClientRect()).filter((b) => b.width && b.height);
    if (!boxes.length || element.hidden) continue;
    found[id] = [
      Math.min(...boxes.map((b) => b.left)), Math.min(...boxes.map((b) => b.top)),
      Math.max(...boxes.map((b) => b.right)), Math.max(...boxes.map((b) => b.bottom)),
    ];
  }
  for (const dialog of document.querySelectorAll("dialog[open]")) {
    const { left, top, right, bottom } = dialog.getBoundingClientRect();
    found[`${dialog.id} (a dialog)`] = [left, top, right, bottom];
    if (dialog.scrollHeight > dialog.clientHeight || dialog.scrollWidth > dialog.clientWidth)
      found[`what is in ${dialog.id}`] = [left, top, right + 1e4, bottom];
  }
  return found;
}"""
CUT = """() => ["panel", "tools", "modes", "welcome", "selection"]
  .flatMap((id) => [...document.querySelectorAll(`#${id} *`)])
  .filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth && !(e instanceof SVGElement))
  .filter((e) => getComputedStyle(e).display !== "inline" && e.tagName !== "INPUT")
  .filter((e) => !e.matches("nav button, details:not([open]), details:not([open]) *"))
  .map((e) => e.outerHTML.slice(0, 90))"""


def expect_apart(page: Page, state: str) -> None:
    """Nothing lies over anything else, or out of the window."""
    page.evaluate("document.getElementById('status').textContent = 'GPU 123.4 ms · 120 fps'")
    boxes: dict[str, list[float]] = page.evaluate(BOXES)
    size = page.viewport_size
    assert size is not None
    for name, (left, top, right, bottom) in boxes.items():
        inside = left >= 0 and top >= 0 and right <= size["width"] and bottom <= size["height"]
        assert inside, (state, name, boxes[name])
    plain = {name: box for name, box in boxes.items() if "dialog" not in name}
    for (one, a), (two, b) in itertools.combinations(plain.items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, (state, one, a, two, b)
    assert page.evaluate(CUT) == [], state


@pytest.fixture
def editor() -> Editor:
    return Editor(blob(2), Session())


@pytest.fixture
def address(editor: Editor) -> Iterator[str]:
    with serving_edit(editor) as found:
        yield found


def dab(page: Page) -> None:
    page.keyboard.press("3")
    size = page.viewport_size
    assert size is not None
    page.mouse.click(size["width"] / 2 + 30, size["height"] / 2 + 20)
    assert page.locator("#selection").is_visible()


@pytest.mark.parametrize(
    "width, height, touch",
    [(1024, 640, False), (1024, 768, True), (1440, 900, False)],
    ids=["narrow", "touch", "wide"],
)
def test_nothing_is_in_the_way(
    browser: Browser, editor: Editor, address: str, width: int, height: int, touch: bool
) -> None:
    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=touch)
    page = context.new_page()
    show(page, address)
    page.evaluate("name => document.getElementById('name').textContent = name", "a long name " * 20)
    editor.advance("dinov2 small at 448, views", 17, 240)
    page.wait_for_selector("#welcome:has-text('17 / 240')")
    expect_apart(page, "features are being found")
    dab(page)
    expect_apart(page, "a region, and features are being found")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    editor.bring(features_of(editor.mesh))
    page.wait_for_selector("#welcome:has-text('Click the surface')")
    expect_apart(page, "empty")
    page.mouse.click(width / 2 - 60, height / 2)
    assert len(session(page).handles) == 1
    expect_apart(page, "a handle is selected")
    dab(page)
    expect_apart(page, "a region is selected")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    many = Session(
        handles=tuple(Handle(vertex=30 * k, translate=(-1.2345678, 0, 0)) for k in range(20)),
        anchors=tuple(Anchor(vertex=900 + 30 * k) for k in range(12)),
    )
    give = "session => geodistill.kind.controller.change(session)"
    page.evaluate(give, session_to_dict(many))
    page.locator("#edit .list button.handle").nth(11).click()
    expect_apart(page, "many handles")
    for key in ("x", "?"):
        page.keyboard.press(key)
        expect_apart(page, f"the dialog of {key}")
        page.keyboard.press("Escape")
    page.evaluate(
        "geodistill.kind.controller.failed('It is so. ' + 'The reason is long. '.repeat(12))"
    )
    toast, panel = (page.locator(f"#{name}").bounding_box() for name in ("toast", "panel"))
    assert toast is not None and panel is not None
    assert toast["x"] + toast["width"] <= panel["x"] and toast["y"] >= 0
    context.close()


CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => {
    const [r, g, b, a] = rgba(top);
    return [r, g, b].map((v, k) => a * v + (1 - a) * under[k]);
  };
  const light = (color) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = color.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = getComputedStyle(document.documentElement).getPropertyValue("--ground");
  const stops = ground.match(/#[0-9a-f]{6}/g).map((stop) => rgba(stop).slice(0, 3));
  const found = [];
  for (const element of document.querySelectorAll("main *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const written = own || (element.tagName === "INPUT" && element.type === "number");
    if (!written || !element.getClientRects().length || element.matches(":disabled")) continue;
    if (element.closest("svg, #cover")) continue;
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.unshift(getComputedStyle(e).backgroundColor);
      if (e.tagName === "DIALOG") layers.unshift(getComputedStyle(e, "::backdrop").backgroundColor);
    }
    const style = getComputedStyle(element);
    for (const stop of stops) {
      const under = layers.reduce((color, layer) => over(layer, color), stop);
      const [a, b] = [light(over(style.color, under)), light(under)];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const words = (element.textContent || element.ariaLabel).slice(0, 30);
      found.push([contrast, `${element.tagName} ${words}`]);
    }
  }
  return found;
}"""
LEAST_CONTRAST = 4.5
"""Of text, by WCAG 2.1 (1.4.3)."""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_that_is_written_can_be_read(
    browser: Browser, editor: Editor, address: str, theme: Any
) -> None:
    editor.bring(features_of(editor.mesh))
    context = browser.new_context(
        viewport={"width": 1440, "height": 1200}, color_scheme=theme, reduced_motion="reduce"
    )
    page = context.new_page()
    show(page, address)
    assert page.locator("html").get_attribute("data-theme") == theme

    def expect_read(state: str, *texts: str) -> None:
        found: list[tuple[float, str]] = page.evaluate(CONTRASTS)
        assert all(any(text in what for _, what in found) for text in texts), (state, texts)
        poor = sorted({(round(contrast, 2), what) for contrast, what in found})
        assert poor[0][0] >= LEAST_CONTRAST, (state, [p for p in poor if p[0] < LEAST_CONTRAST])

    expect_read("empty", "Click the surface", "Then drag it", "None yet", "Radius", "Vertices")
    page.mouse.click(600, 600)
    session(page)
    page.evaluate("geodistill.kind.controller.failed('a reason')")
    page.evaluate("document.getElementById('status').textContent = '60 fps'")
    expect_read(
        "a handle", "Handle 1", "Move x", "Put back", "Linear", "a reason", "60 fps", "mesh"
    )
    dab(page)
    expect_read("a region", "vertices", "Anchor", "Clear")
    for key, texts in (("x", ("OBJ", "The mesh as it is posed")), ("?", ("Undo", "Ctrl Z"))):
        page.keyboard.press(key)
        expect_read(f"the dialog of {key}", *texts)
        page.keyboard.press("Escape")
    context.close()
