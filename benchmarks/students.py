"""Train detectors on simulated streets, alone and taught in many ways, and say what it helped.

    pip install -e '.[bench]'
    python benchmarks/students.py [--only PATTERN] [--jobs 2]     train what is not trained yet
    python benchmarks/students.py --report                        the tables of what is there

A training takes 6 to 50 minutes of one core; what is done is kept, in
benchmarks/results/detector.jsonl, and an interrupted one goes on. The tables are written between
the markers in docs/detector_benchmarks.md. Data, batches and runs are in
~/.cache/geodistill/benchmarks/detector, or in --work.
"""

from __future__ import annotations

import sys

from detecting.students import main

if __name__ == "__main__":
    sys.exit(main())
