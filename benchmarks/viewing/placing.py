"""From a click on the mesh to the heat map of its handle, at a million faces."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from playwright.sync_api import Page
from rows import Row, at_most

from viewing import pages, shapes

LIMIT_MS, LOCAL_LIMIT_MS = 150, 400
PLACES = [(0, 0), (110, -50), (-110, -60), (60, 110), (10, -110), (130, 40)]
"""From where the middle of the mesh is seen, in pixels."""
MIDDLE = """() => {
  const { camera, canvas } = geodistill.stage;
  const { x, y } = camera.position.clone().set(0, 0, 0).project(camera);
  return [(0.5 + 0.5 * x) * canvas.clientWidth, (0.5 - 0.5 * y) * canvas.clientHeight];
}"""
Mark = dict[str, Any]
RESET = """locality => {
  const { controller } = geodistill.kind;
  controller.reset();
  controller.change({ ...controller.session, locality });
}"""


def rows() -> list[Row]:
    mesh = shapes.blob(shapes.LARGE)
    with (
        pages.browser() as browser,
        pages.served(shapes.editor_of(mesh)) as address,
        pages.tab(browser, exact=True) as page,
    ):
        pages.show(page, address)
        _click(page, (-60, 20), "likeness")  # compiles shaders, finds that looking is slow
        _reset(page, 0)
        plain = [_click(page, place, "likeness") for place in PLACES]
        _reset(page, 0)
        page.evaluate("probe.paced = false")
        whole = [_click(page, place, "") for place in _beside(4)[:3]]
        page.evaluate("probe.paced = true")
        _reset(page, 3)
        local = [_click(page, place, "path") for place in _beside(-4)]
    size = f"{len(mesh.faces):,} faces"
    return [*_plain(plain, whole, size), *_local(local, size)]


def _plain(plain: Sequence[list[Mark]], whole: Sequence[list[Mark]], size: str) -> list[Row]:
    parts = {
        "finding the place": ("click", "likeness is asked for"),
        "the server's row and its way": ("likeness is asked for", "likeness is there"),
        "mixing": ("likeness is there", "likeness is mixed"),
        "the next frame": ("likeness is mixed", "drawn"),
    }
    shares = [f"{name} {_median(plain, *ends):.0f}" for name, ends in parts.items()]
    total = [_between(marks, "click", "drawn") for marks in plain]
    read = statistics.median(marks[-1]["blocked"] - marks[0]["blocked"] for marks in plain)
    after = statistics.median(marks[-1]["render"] for marks in plain)
    said = (
        f"{', '.join(shares)}; the slowest of {len(plain)} {max(total):.0f} ms; left out: "
        f"{read:.0f} ms in which reading waited for the picture of faces, {after:.0f} ms in which "
        f"weights and frame were drawn"
    )
    what = f"handle, {size}: from click to heat map, less drawing in software"
    everything = statistics.median(
        marks[-1]["at"] + marks[-1]["render"] - marks[0]["at"] for marks in whole
    )
    return [
        at_most(what, statistics.median(total), LIMIT_MS, "ms", said),
        Row(
            f"the same, drawing in software and the frame before it included, {size}",
            f"{everything:.0f} ms",
        ),
    ]


def _local(local: Sequence[list[Mark]], size: str) -> list[Row]:
    first = _median(local, "click", "likeness is mixed")
    total = [_between(marks, "click", "drawn") for marks in local]
    path = _median(local, "path is asked for", "path is there")
    said = (
        f"weights without it are there after {first:.0f} ms; the server's distances and their way "
        f"{path:.0f}; the slowest of {len(local)} {max(total):.0f} ms"
    )
    what = f"handle with locality, {size}: from click to its weights, less drawing in software"
    return [at_most(what, statistics.median(total), LOCAL_LIMIT_MS, "ms", said)]


def _click(page: Page, place: tuple[int, int], until: str) -> list[Mark]:
    """What happened from a click to the frame that shows its handle; frames before the named row
    is there are held back, lest drawing them in software takes the server's cores."""
    page.mouse.move(30, 600)
    page.keyboard.press("Escape")
    pages.settle(page)
    before = page.evaluate("geodistill.kind.controller.session.handles.length")
    page.evaluate("until => probe.arm(until)", until)
    x, y = page.evaluate(MIDDLE)
    page.mouse.click(x + place[0], y + place[1])
    if page.evaluate("geodistill.kind.controller.session.handles.length") != before + 1:
        raise SystemExit(f"a click at {place} placed no handle: choose another place")
    marks: list[Mark] = page.evaluate("probe.seen", f"{until or 'likeness'} is mixed")
    pages.settle(page)
    return marks


def _beside(pixels: int) -> list[tuple[int, int]]:
    """Other places: the page remembers those that were asked for."""
    return [(x + pixels, y) for x, y in PLACES]


def _reset(page: Page, locality: float) -> None:
    page.evaluate(RESET, locality)
    pages.settle(page)


def _between(marks: list[Mark], start: str, end: str) -> float:
    """Milliseconds between two marks, without those in which reading waited for drawing."""
    first, last = (next(m for m in marks if m["name"] == name) for name in (start, end))
    return last["at"] - first["at"] - (last["blocked"] - first["blocked"])


def _median(clicks: Sequence[list[Mark]], start: str, end: str) -> float:
    return statistics.median(_between(marks, start, end) for marks in clicks)
