"""Splats of the fields of the three scenes, and fields of these splats: how near they come to what
they are made of, and in what time.

    python benchmarks/scenes.py
    python benchmarks/convert.py --part teachers
    python benchmarks/splats.py [--json]

The fields are the teachers that benchmarks/convert.py has fitted. Seconds are wall time on
otherwise idle cores, of fields that of the survey too; PSNR is to what it was made of, over 20
views at the resolution that the splats were trained at.
"""

from __future__ import annotations

import sys
import time

from converting import plan
from rows import Row, at_least, at_most, run_parts

from geodistill.checks import InputError
from geodistill.convert.splat_field import volume_of
from geodistill.distill.pvd import convert
from geodistill.distill.splats import SplatConfig, to_splats
from geodistill.geometry.fields import Field, load_field
from geodistill.geometry.fields.tensorf import TensorfConfig
from geodistill.geometry.splats import Splats
from geodistill.metrics.fidelity import compare
from geodistill.runs import cache_root
from geodistill.shade.viewable import viewable

SCENES = ("dragon", "controller", "robot")
MOST_S, LEAST_DB, LEAST_FIELD_DB = 90.0, 30.0, 29.0


def rows() -> list[Row]:
    found = []
    for name in SCENES:
        field = teacher(name)
        start = time.perf_counter()
        splats = to_splats(field)
        spent = time.perf_counter() - start
        report = compare(field, viewable(splats), resolution=SplatConfig().resolution).report
        what = f"{name}, field to {len(splats):,} splats"
        found.append(at_least(f"{what}: PSNR", report["psnr_db"], LEAST_DB, "dB"))
        found.append(at_most(f"{what}: time", spent, MOST_S, "s"))
        found += _field_rows(name, splats)
    return found


def _field_rows(name: str, splats: Splats) -> list[Row]:
    start = time.perf_counter()
    student = convert(volume_of(splats), "tensorf", TensorfConfig())
    spent = time.perf_counter() - start
    looked_at = viewable(splats)
    report = compare(looked_at, student, resolution=SplatConfig().resolution).report
    what = f"{name}, {len(splats):,} splats to tensorf"
    return [
        at_least(f"{what}: PSNR", report["psnr_db"], LEAST_FIELD_DB, "dB"),
        at_most(f"{what}: time", spent, MOST_S, "s"),
    ]


def teacher(scene: str) -> Field:
    """The ngp that benchmarks/convert.py converts from."""
    folder = cache_root() / "benchmarks" / "convert"
    fits = folder.glob(f"{plan.teacher(plan.full_scale(), scene).name}.*.run/DONE")
    if not (finished := sorted(fits, key=lambda done: done.stat().st_mtime)):
        raise InputError(f"no field of {scene} in {folder}: run benchmarks/convert.py first")
    return load_field(finished[-1].parent)


if __name__ == "__main__":
    sys.exit(
        run_parts({"splats": rows}, "Measure splats made of fields, and fields made of splats.")
    )
