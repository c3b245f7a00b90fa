"""What a dragged frame costs besides drawing it, at a million faces."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from playwright.sync_api import CDPSession, Page
from rows import Row, at_most

from geodistill.deform.session import Mirror
from geodistill.deform.session_file import session_to_dict
from viewing import pages, shapes

LIMIT_MS = 2
WARM, AGAIN, FRAMES, QUIET = 200, 4, 20, 5
COLUMN_TEXELS = 7  # of a row of transforms: viewer/src/deform/maps.ts
Record = dict[str, Any]

FIND = """() => {
  const seen = [...document.querySelectorAll(".marker.handle:not([hidden])")].map((dot) => {
    const { x, y, width, height } = dot.getBoundingClientRect();
    return { dot, at: [x + width / 2, y + height / 2] };
  });
  const free = seen.find(({ dot, at }) => document.elementFromPoint(...at) === dot);
  return free && free.at;
}"""
NEXT_FRAME = """() => new Promise((done) =>
  requestAnimationFrame(() => requestAnimationFrame(() => done(probe.drain()))))"""
HEAP = "performance.memory.usedJSHeapSize"


def rows() -> list[Row]:
    mesh = shapes.blob(shapes.LARGE)
    mirrors = (Mirror((1.0, 0.0, 0.0), 0.0),)
    edits = {
        "1 handle": shapes.session(mesh, 1),
        "16 handles": shapes.session(mesh, 16),
        "16 handles and a mirror": replace(shapes.session(mesh, 16), mirrors=mirrors),
    }
    found = []
    with pages.browser() as browser, pages.served(shapes.editor_of(mesh)) as address:
        for name, session in edits.items():
            with pages.tab(browser, exact=True) as page:
                pages.show(page, address)
                pages.change(page, session_to_dict(session))
                found += _rows(page, f"drag, {len(mesh.faces):,} faces, {name}")
    return found


def _rows(page: Page, what: str) -> list[Row]:
    place = page.evaluate(FIND)
    if place is None:
        raise SystemExit(f"{what}: no handle is in sight")
    client = page.context.new_cdp_session(page)
    # Processor time: other processes do not change it.
    client.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.mouse.move(*place)
    page.mouse.down()
    # As after seconds of dragging on a GPU: software would take minutes to draw as many frames.
    page.evaluate("() => void (probe.drawing = false)")
    for k in range(WARM):
        _move(page, place, k)
    page.evaluate("() => void (probe.drawing = true)")
    for k in range(AGAIN):
        _move(page, place, WARM + k)
    page.evaluate("probe.begin()")
    before = pages.metrics(client)
    records = [_move(page, place, WARM + AGAIN + k) for k in range(FRAMES)]
    after = pages.metrics(client)
    sent = page.evaluate("probe.sums().sent")
    made = _memory(page, client, place)
    page.mouse.up()
    script_ms, *layout_ms = (
        1e3 * (after[name] - before[name]) / FRAMES
        for name in ("ScriptDuration", "RecalcStyleDuration", "LayoutDuration")
    )
    times = sorted(record["js"] - record["blocked"] for record in records)
    calls = statistics.median(record["calls"] for record in records)
    said = (
        f"fastest and slowest of {FRAMES} {times[0]:.1f} and {times[-1]:.1f} ms; {calls:.0f} WebGL "
        f"calls. Processor time of all scripts, the benchmark's too, {script_ms:.1f} ms, of styles "
        f"and layout {sum(layout_ms):.1f} ms; memory {made / 1e3:.0f} kB; drawing in software "
        f"{statistics.median(r['render'] for r in records):.0f} ms"
    )
    return [
        at_most(f"{what}: JavaScript a frame", statistics.median(times), LIMIT_MS, "ms", said),
        _steady(what, records, sent),
    ]


def _move(page: Page, place: Sequence[float], step: int) -> Record:
    """Drag to another place; the frame that shows it, once it is drawn."""
    page.evaluate("() => void (window.next = probe.frame())")
    page.mouse.move(*_on_circle(place, step))
    return page.evaluate("next")


def _on_circle(place: Sequence[float], step: int) -> tuple[float, float]:
    angle = 0.4 * step
    return place[0] + 40 * math.cos(angle), place[1] + 30 * math.sin(angle)


def _steady(what: str, records: Sequence[Record], sent: int) -> Row:
    """That frames upload the handles' transforms and nothing else, make nothing, send nothing."""
    uploads = Counter(upload for record in records for upload in record["uploads"])
    others = {name: count for name, count in uploads.items() if not _is_columns(name)}
    made = Counter(name for record in records for name in record["made"])
    most = max(len(record["uploads"]) for record in records)
    strange = ", ".join(f"{name} x {count}" for name, count in (*others.items(), *made.items()))
    return Row(
        f"{what}: uploads other than its transforms, objects made, bytes sent",
        f"{sum(others.values())}, {sum(made.values())}, {sent}",
        "0, 0, 0",
        not others and not made and sent == 0,
        strange or f"at most {most} upload of transforms a frame",
    )


def _is_columns(upload: str) -> bool:
    """Whether it is texSubImage2D(target level x y width height ...) of a table of transforms."""
    name, _, numbers = upload.rstrip(")").partition("(")
    return name == "texSubImage2D" and numbers.split()[4] == str(COLUMN_TEXELS)


def _memory(page: Page, client: CDPSession, place: Sequence[float]) -> float:
    """Bytes that a frame of dragging allocates more than one without."""
    page.evaluate("probe.unwrap()")

    def allocated(moving: bool) -> float:
        client.send("HeapProfiler.collectGarbage")
        first = page.evaluate(HEAP)
        for step in range(QUIET):
            if moving:
                page.mouse.move(*_on_circle(place, step))
            page.evaluate(NEXT_FRAME)
        return (page.evaluate(HEAP) - first) / QUIET

    still = allocated(False)
    return allocated(True) - still
