"""Times every kernel against the best pure-torch form of the same thing, side by side in one run.

    python benchmarks/kernels.py [--json] [--threads 1] [--repeats 7] [--only hash,composite]

Each row is the median CPU time of interleaved repeats; ratios compare with the fastest torch form.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

import torch
from timing.grids import hash_case, line_product_case, plane_line_case, voxel_case
from timing.layers import adam_case, mlp_case
from timing.measure import Case, measure
from timing.rays import composite_case, march_case
from timing.splats import plan_case, splat_case
from timing.triangles import footprint_case, rasterize_case

from geodistill import kernels

CASES: dict[str, Callable[[], Case]] = {
    "hash": hash_case,
    "composite": lambda: composite_case(fused=True),
    "rays": lambda: composite_case(fused=False),
    "plane16": lambda: plane_line_case(16),
    "plane48": lambda: plane_line_case(48),
    "line96": lambda: line_product_case(96),
    "line288": lambda: line_product_case(288),
    "voxel": voxel_case,
    "march": march_case,
    "splat3": lambda: splat_case(3),
    "splat64": lambda: splat_case(64),
    "plan": plan_case,
    "adam": adam_case,
    "mlp2": lambda: mlp_case((32, 64, 16)),
    "mlp3": lambda: mlp_case((32, 64, 64, 3)),
    "triangles": rasterize_case,
    "footprint": footprint_case,
}


def report(result: dict[str, object]) -> None:
    print(result["kernel"])
    for mode in ("forward", "forward+backward"):
        numbers = result.get(mode)
        if isinstance(numbers, dict):
            others = ", ".join(f"{name} {ms}" for name, ms in numbers["torch_ms"].items())
            print(
                f"  {mode:17s} ours {numbers['ours_ms']:8.2f} ms  x{numbers['ratio']:<6} {others}"
            )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default=",".join(CASES), help=f"some of {','.join(CASES)}")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kernels.keep_memory()  # as training does, for every form alike
    torch.manual_seed(0)
    results = []
    for name in options.only.split(","):
        results.append(measure(CASES[name](), options.repeats))
        if not options.json:
            report(results[-1])
    if options.json:
        print(json.dumps({"threads": options.threads, "cpu_ms": results}, indent=1))


if __name__ == "__main__":
    main()
