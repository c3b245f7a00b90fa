"""What a figure was measured on and beside what: processor, threads, time, and who else worked."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from geodistill import kernels
from geodistill.runs.environment import cores

_STAT = Path("/proc/stat")
_CPUINFO = Path("/proc/cpuinfo")
_IDLE = (3, 4)
"""Columns of /proc/stat's first line that count idle time and waiting for a disk."""
_COLUMNS = 8
"""Columns of it that are disjoint, from user time to time stolen by other virtual machines."""


def machine() -> dict[str, Any]:
    """Processor, cores, threads, torch, and whether the compiled kernels ran."""
    served = {kinds["cpu"] for kinds in kernels.backends().values()}
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "kernels": "+".join(sorted(served)),
    }


def _cpu_model() -> str:
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class Stopwatch:
    """Wall and CPU seconds of a block, and how many cores other processes used meanwhile."""

    def __enter__(self) -> Stopwatch:
        self.load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        self._busy, self._own = _busy_seconds(), _own_seconds()
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._wall
        self.cpu_seconds = time.process_time() - self._cpu
        busy = _busy_seconds()
        self.others_cores = None
        if busy is not None and self._busy is not None and self.seconds > 0:
            others = (busy - self._busy) - (_own_seconds() - self._own)
            self.others_cores = max(0.0, others / self.seconds)

    def record(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "load_average": self.load_average,
            "others_cores": self.others_cores,
        }


def _busy_seconds() -> float | None:
    """CPU time that all processes of the machine have used; None where the system does not say."""
    if not _STAT.is_file():
        return None
    counts = [int(word) for word in _STAT.read_text().split("\n", 1)[0].split()[1:]][:_COLUMNS]
    busy = sum(count for i, count in enumerate(counts) if i not in _IDLE)
    return busy / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
