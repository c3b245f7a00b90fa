"""Measure the viewer's deformation page against its targets, and viser beside it, in one run.

    pip install -e '.[bench]' playwright viser    # and Chromium: apt-get install chromium
    python benchmarks/viewer.py [--only shader,handle,drag,first,bundle,viser] [--json]

Chromium has no GPU here: it draws in software, on the same cores as everything else. Each row says
what of that it contains. Without viser its rows say so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from rows import Row, run_parts
from viewing import dragging, loading, placing, pushing, shader

PARTS: dict[str, Callable[[], list[Row]]] = {
    "shader": shader.rows,
    "handle": placing.rows,
    "drag": dragging.rows,
    "first": loading.rows,
    "bundle": loading.size,
    "viser": pushing.rows,
}


if __name__ == "__main__":
    sys.exit(run_parts(PARTS, "Measure the viewer's deformation page against its targets."))
