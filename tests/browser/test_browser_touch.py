"""Fingers on the deformation page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch

from geodistill.deform.session import Session
from geodistill.geometry.mesh import Mesh
from geodistill.viewer.editor import Editor
from tests.browser.browsing import distance, pose, serving_edit, show
from tests.browser.deforming import SIZE, VISIBLE, expect_shown, kept, middle_of, session

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Point = tuple[float, float]


class Fingers:
    """Touches of a page, as its browser gets them from a screen."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._devtools = page.context.new_cdp_session(page)

    def send(self, kind: str, *points: Point) -> None:
        touches = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
        event = {"type": f"touch{kind}", "touchPoints": touches}
        self._devtools.send("Input.dispatchTouchEvent", event)
        self.page.evaluate("new Promise(requestAnimationFrame)")

    def tap(self, *at: float) -> None:
        self.stroke((at[0], at[1]), (at[0], at[1]))

    def stroke(self, start: Point, end: Point) -> None:
        """One finger from here to there."""
        self.strokes([start, end])

    def strokes(self, *paths: list[Point]) -> None:
        """Several fingers at once, the first of which comes and goes first."""
        steps = 4
        for count in range(1, len(paths) + 1):
            self.send("Start", *(path[0] for path in paths[:count]))
        for k in range(1, steps + 1):
            share = k / steps
            now = [(a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])) for a, b in paths]
            self.send("Move", *now)
        self.send("End")


@pytest.fixture
def tablet(browser: Browser, editor: Editor) -> Iterator[Page]:
    context = browser.new_context(viewport=SIZE, has_touch=True)  # pyright: ignore
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    with serving_edit(editor) as address:
        show(page, address)
        yield page
    context.close()
    assert not complaints


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    """Whether two cameras look alike, but for rounding."""
    return all(one[name] == pytest.approx(two[name], abs=1e-9) for name in one)


def test_a_tap_places_a_handle_and_a_finger_drags_it(
    tablet: Page, mesh: Mesh, editor: Editor
) -> None:
    fingers, first = Fingers(tablet), pose(tablet)
    fingers.tap(500, 350)
    made = session(tablet)
    assert len(made.handles) == 1 and same(pose(tablet), first)
    x, y = middle_of(tablet, VISIBLE)
    fingers.stroke((x, y), (x + 60, y - 50))
    moved = kept(tablet, editor)
    assert moved.handles[0].translate != (0, 0, 0) and same(pose(tablet), first)
    after = middle_of(tablet, VISIBLE)
    assert abs(after[0] - x - 60) < 3 and abs(after[1] - y + 50) < 3
    expect_shown(tablet, moved, mesh)
    # Beside the mesh: nothing is selected any more.
    fingers.tap(160, 600)
    assert tablet.locator(".marker[aria-pressed=true]").count() == 0
    assert session(tablet) == moved


def test_a_finger_turns_and_two_zoom_and_pan(tablet: Page) -> None:
    tablet.set_viewport_size({"width": 640, "height": 480})
    tablet.keyboard.press("i")  # the panel would be in the way
    fingers, first = Fingers(tablet), pose(tablet)
    fingers.stroke((300, 240), (400, 270))
    turned = pose(tablet)
    assert torch.dist(torch.tensor(turned["eye"]), torch.tensor(first["eye"])) > 0.3
    assert distance(turned) == pytest.approx(distance(first), rel=1e-3)
    fingers.strokes([(290, 240), (190, 240)], [(350, 240), (450, 240)])
    near = pose(tablet)
    assert distance(near) < 0.7 * distance(turned)
    fingers.strokes([(190, 240), (290, 240)], [(450, 240), (350, 240)])
    assert distance(pose(tablet)) > 1.3 * distance(near)
    before = pose(tablet)
    fingers.strokes([(290, 240), (290, 340)], [(370, 240), (370, 340)])
    shift = torch.dist(torch.tensor(pose(tablet)["target"]), torch.tensor(before["target"]))
    assert shift > 0.05
    # None of them was a click.
    assert session(tablet) == Session()


def test_a_finger_that_rests_while_another_moves_is_no_click(tablet: Page) -> None:
    tablet.set_viewport_size({"width": 640, "height": 480})
    tablet.keyboard.press("i")
    fingers, first = Fingers(tablet), pose(tablet)
    fingers.strokes([(300, 240), (300, 240)], [(360, 240), (500, 240)])
    assert distance(pose(tablet)) < 0.8 * distance(first)
    assert session(tablet) == Session()
    # Nor is the first of two that only touch.
    fingers.strokes([(300, 240), (300, 240)], [(360, 240), (360, 240)])
    assert session(tablet) == Session()
    fingers.tap(300, 240)
    assert len(session(tablet).handles) == 1


def test_fingers_use_the_arrows_and_the_brush(tablet: Page, mesh: Mesh, editor: Editor) -> None:
    fingers = Fingers(tablet)
    fingers.tap(500, 350)
    session(tablet)
    first = pose(tablet)
    x, y = middle_of(tablet, VISIBLE)
    arrow: list[float] = tablet.evaluate(UP)
    fingers.stroke((x + 55 * arrow[0], y + 55 * arrow[1]), (x + 95 * arrow[0], y + 95 * arrow[1]))
    moved = session(tablet)
    assert moved.handles[0].translate[2] > 0.05 and moved.handles[0].translate[:2] == (0, 0)
    assert same(pose(tablet), first)
    expect_shown(tablet, moved, mesh)
    fingers.tap(*middle_of(tablet, "[aria-label^='Brush (']"))
    tablet.wait_for_selector("[aria-label^='Brush ('][aria-pressed=true]")
    fingers.stroke((540, 300), (580, 340))
    words = tablet.locator("#selection span").inner_text()
    assert int(words.split()[0]) > 10 and same(pose(tablet), first)
    # Two fingers are the camera's, and what the first has painted before is not.
    fingers.strokes([(500, 350), (450, 350)], [(580, 350), (680, 350)])
    assert distance(pose(tablet)) < 0.8 * distance(first)
    assert tablet.locator("#selection span").inner_text() == words
    fingers.tap(*middle_of(tablet, "#selection button.primary"))
    tablet.wait_for_selector(".marker.handle[data-index='1']", state="attached")
    assert session(tablet).handles[1].region is not None


def test_what_fingers_meet_is_large_enough(tablet: Page) -> None:
    Fingers(tablet).tap(500, 350)
    session(tablet)
    for selector in (VISIBLE, "nav button", "#edit .list button", "#edit button.plain"):
        for found in tablet.locator(f"{selector}:visible").all():
            box: Any = found.bounding_box()
            assert min(box["width"], box["height"]) >= 24, (selector, box)
    box = tablet.locator(VISIBLE).bounding_box()
    assert box is not None and box["width"] >= 36


UP = """() => {
  const { stage, kind } = geodistill;
  const [x, y, z] = kind.model.handles[0].center;
  const at = (up) => {
    const v = stage.camera.position.clone().set(x, y, z + up).project(stage.camera);
    return [0.5 * v.x * innerWidth, -0.5 * v.y * innerHeight];
  };
  const [from, to] = [at(0), at(0.01)];
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const length = Math.hypot(dx, dy);
  return [dx / length, dy / length];
}"""
"""Where the world's z points to in the picture at the first handle."""
