"""Splats of the fields of the three scenes, how near they come to them and in what time.

    python benchmarks/scenes.py
    python benchmarks/convert.py --part teachers
    python benchmarks/splats.py [--json]

The fields are the teachers that benchmarks/convert.py has fitted. Seconds are wall time on
otherwise idle cores; PSNR is to the field, over 20 views at the resolution of training.
"""

from __future__ import annotations

import sys
import time

from deforming.rows import Row, at_least, at_most, run_parts

from geodistill.checks import InputError
from geodistill.distill.splats import SplatConfig, to_splats
from geodistill.geometry.fields import Field, load_field
from geodistill.metrics.fidelity import compare
from geodistill.runs import cache_root
from geodistill.shade.viewable import viewable

SCENES = ("dragon", "controller", "robot")
MOST_S, LEAST_DB = 90.0, 30.0


def rows() -> list[Row]:
    found = []
    for name in SCENES:
        field = _teacher(name)
        start = time.perf_counter()
        splats = to_splats(field)
        spent = time.perf_counter() - start
        report = compare(field, viewable(splats), resolution=SplatConfig().resolution).report
        what = f"{name}, field to {len(splats):,} splats"
        found.append(at_least(f"{what}: PSNR", report["psnr_db"], LEAST_DB, "dB"))
        found.append(at_most(f"{what}: time", spent, MOST_S, "s"))
    return found


def _teacher(scene: str) -> Field:
    """The longest fit of an ngp that is in the cache."""
    folder = cache_root() / "benchmarks" / "convert"
    runs = sorted(folder.glob(f"{scene}-fit-ngp-*.run"), key=lambda run: run.stat().st_mtime)
    if not runs:
        raise InputError(f"no field of {scene} in {folder}: run benchmarks/convert.py first")
    return load_field(runs[-1])


if __name__ == "__main__":
    sys.exit(run_parts({"splats": rows}, "Measure splats made of fields."))
