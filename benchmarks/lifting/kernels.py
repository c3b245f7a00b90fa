"""The kernels that lifting stands on, against their peers."""

from __future__ import annotations

import torch
from rows import Row, at_least
from timing.measure import measure
from timing.splats import splat_case
from timing.triangles import rasterize_case

from geodistill import kernels

REPEATS = 7


def rows() -> list[Row]:
    """CPU time of one thread, as benchmarks/kernels.py takes it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    kernels.keep_memory()
    try:
        triangles = measure(rasterize_case(), REPEATS)
        splats = measure(splat_case(64), REPEATS)
    finally:
        torch.set_num_threads(threads)
    seen, both = triangles["forward"], splats["forward+backward"]
    assert isinstance(seen, dict) and isinstance(both, dict)
    ours, others = seen["ours_ms"], dict(seen["torch_ms"])
    embree = others.pop("Embree rays", None)
    best = min(others, key=others.__getitem__)
    name = str(triangles["kernel"])
    made = [
        at_least(f"{name}: times as fast as {best}", others[best] / ours, 5, "x", f"{ours:.1f} ms"),
        at_least(
            f"{splats['kernel']}, forward and backward: times as fast as {both['best_torch']}",
            both["ratio"],
            8,
            "x",
            f"{both['ours_ms']:.1f} ms",
        ),
    ]
    if embree is None:
        return [*made, Row(f"{name}: against Embree", "not measured: embreex is not installed")]
    return [*made, at_least(f"{name}: times as fast as Embree's rays", embree / ours, 3, "x")]
