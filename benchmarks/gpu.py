"""What a GPU makes faster, beside the CPU of the same machine in one run.

    pip install gsplat
    python benchmarks/gpu.py [--json]

Medians of wall time; the GPU is waited for. Needs a CUDA device.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from rows import Row, run_parts
from timing.splats import SIZE, SPLATS, scene

from geodistill import kernels
from geodistill.kernels import cuda, reference
from geodistill.teachers import load_teacher

REPEATS = 7
CHANNELS = 64


def splats() -> list[Row]:
    """The splats of benchmarks/kernels.py, forward and backward."""
    torch.manual_seed(0)
    geometry, depths = scene()
    inputs = (*geometry, torch.rand(SPLATS, CHANNELS))

    def pass_of(module: Any, device: str) -> Callable[[], object]:
        given = [v.to(device).requires_grad_() for v in inputs]
        plan = kernels.splat_plan(*(v.detach() for v in given[:3]), depths.to(device), SIZE)
        return lambda: torch.autograd.grad(module.splat(*given, plan).pixels.square().sum(), given)

    made = {
        "C++ on the CPU": _seconds(pass_of(kernels, "cpu")),
        "reference on the GPU": _seconds(pass_of(reference, "cuda")),
    }
    if cuda.rasterizer() is not None:
        made["gsplat on the GPU"] = _seconds(pass_of(kernels, "cuda"))
    what = f"{SPLATS:,} splats, {CHANNELS} channels, {SIZE[0]} x {SIZE[1]}, forward and backward"
    return [Row(f"{what}: {name}", f"{1000 * s:.2f} ms") for name, s in made.items()]


def teachers() -> list[Row]:
    """Eight pictures of 448 x 448."""
    images = torch.rand(8, 448, 448, 3, generator=torch.Generator().manual_seed(0))
    made = []
    for device in ("cpu", "cuda"):
        teacher = load_teacher("lite0", device=device)
        seconds = _seconds(lambda teacher=teacher: teacher.features(images))
        made.append(Row(f"lite0, eight pictures of 448 px, {device}", f"{1000 * seconds:.1f} ms"))
    return made


def _seconds(action: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        action()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return median(times[1:])


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py: PyTorch sees no CUDA device here")
    print(f"{torch.cuda.get_device_name()}, {torch.get_num_threads()} CPU threads", file=sys.stderr)
    parts = {"splats": splats, "teachers": teachers}
    sys.exit(run_parts(parts, "What a GPU makes faster."))
