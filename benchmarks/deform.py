"""Measure deformation against its targets, beside what else does the same, in one run.

    pip install -e '.[bench]' libigl potpourri3d
    python benchmarks/deform.py [--only scale,bind,exact,mirrors,decimation] [--json]

Seconds are wall time on otherwise idle cores, medians where a form is repeated. A peer that is not
installed is left out and said so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from deforming import bind, decimation, exact, mirrors, scale
from deforming.rows import Row, table

PARTS: dict[str, Callable[[], list[Row]]] = {
    "scale": scale.rows,
    "bind": bind.rows,
    "exact": exact.rows,
    "mirrors": mirrors.rows,
    "decimation": decimation.rows,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the rows of each part; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    options = parser.parse_args(argv)
    rows: list[Row] = []
    for name in options.only.split(","):
        rows += PARTS[name]()
    print(json.dumps([row.__dict__ for row in rows], indent=1) if options.json else table(rows))
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
