"""How long the page takes until a mesh of a million faces is seen, and its size."""

from __future__ import annotations

import statistics

from rows import Row, at_most

from geodistill.viewer.page import PAGE
from viewing import pages, shapes

LIMIT_S, LIMIT_MB = 5, 1
LOADS = 3
LOADED = """() => {
  const arrays = performance.getEntriesByType("resource").filter((e) => e.name.includes("/blob/"));
  const frame = probe.records()[0];
  return {
    arrays: Math.max(...arrays.map((entry) => entry.responseEnd)) / 1e3,
    issued: (frame.at - performance.timeOrigin) / 1e3,
    render: frame.render / 1e3,
  };
}"""


def rows() -> list[Row]:
    mesh = shapes.blob(shapes.LARGE)
    loads = []
    with pages.browser() as browser, pages.served(shapes.editor_of(mesh)) as address:
        for _ in range(LOADS):
            with pages.tab(browser) as page:
                pages.show(page, address)
                loads.append(page.evaluate(LOADED))
    arrays, issued, render = (
        statistics.median(load[name] for load in loads) for name in ("arrays", "issued", "render")
    )
    said = f"all arrays are there after {arrays:.2f} s, drawing in software {render:.2f} s of it"
    what = f"first view of {len(mesh.faces):,} faces, from the address to the picture"
    return [
        at_most(what, issued + render, LIMIT_S, "s", said),
        at_most(f"{what}, less drawing in software", issued, LIMIT_S, "s"),
    ]


def size() -> list[Row]:
    return [at_most("bundle: the page", PAGE.stat().st_size / 1e6, LIMIT_MB, "MB")]
