"""Measure deformation against its targets, beside what else does the same, in one run.

    pip install -e '.[bench]' libigl potpourri3d
    python benchmarks/deform.py [--only scale,bind,exact,mirrors,decimation] [--json]

Seconds are wall time on otherwise idle cores, medians where a form is repeated. A peer that is not
installed is left out and said so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from deforming import bind, decimation, exact, mirrors, scale
from rows import Row, run_parts

PARTS: dict[str, Callable[[], list[Row]]] = {
    "scale": scale.rows,
    "bind": bind.rows,
    "exact": exact.rows,
    "mirrors": mirrors.rows,
    "decimation": decimation.rows,
}


if __name__ == "__main__":
    sys.exit(run_parts(PARTS, "Measure deformation against its targets."))
