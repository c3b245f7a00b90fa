"""Measure detectors and what teaches them against their targets.

    pip install -e '.[bench]' spconv
    python benchmarks/detector.py [--only figures,metric,sparse,overhead,precision,streets] [--json]

Seconds are of the processor, medians of repetitions on otherwise idle cores; but the metric is
timed once, and the simulator once by the clock. spconv's package for CPUs is a peer: where it is
not installed it is left out and said so. The trainings of students are a table of their own, which
takes hours: benchmarks/students.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from detecting import figures, metric, overhead, precision, sparse, streets
from rows import Row, run_parts

PARTS: dict[str, Callable[[], list[Row]]] = {
    "figures": figures.rows,
    "metric": metric.rows,
    "sparse": sparse.rows,
    "overhead": overhead.rows,
    "precision": precision.rows,
    "streets": streets.rows,
}


if __name__ == "__main__":
    sys.exit(run_parts(PARTS, "Measure detectors against their targets."))
