"""Loads the C++ library into the process and puts it on the threads that torch has."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from ctypes import c_int32, c_int64, c_uint32, c_void_p
from pathlib import Path
from typing import Any

# torch first: the library runs on the threads of the OpenMP runtime that torch loads.
import torch
from torch import Tensor

from geodistill.kernels.digest import digest

SUFFIX = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
PATH = Path(__file__).with_name(f"_kernels.{SUFFIX}")
SWITCH = "GEODISTILL_KERNELS"
"""Environment variable; `reference` keeps the library out."""


def _load() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get(SWITCH) == "reference":
        return None, f"switched off by {SWITCH}=reference"
    if not PATH.exists():
        return None, "the C++ library was not built: no compiler worked at install time"
    try:
        library = ctypes.CDLL(str(PATH))
    except OSError as error:
        return None, f"the C++ library does not load: {error}"
    if digest(PATH.with_name("src")) not in (0, c_uint32(library.gd_digest()).value):
        return None, "the C++ library is older than its sources: run pip install -e . again"
    library.gd_march.restype = c_void_p
    library.gd_offsets_end.restype = c_int64
    library.gd_use_team(_team())
    return library, ""


def openmp_runtimes() -> list[str]:
    """Files of the OpenMP runtimes in this process; more than one means competing thread pools.

    Reads the process's memory map, so it is empty where the system has none (macOS, Windows).
    """
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    names = ("libgomp", "libomp", "libiomp")
    files = {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}
    return sorted(file for file in files if Path(file).name.startswith(names))


def _team() -> c_void_p | None:
    """Address of GOMP_parallel in the runtime that torch has loaded; None: one thread."""
    for runtime in [*openmp_runtimes(), None]:
        try:
            return ctypes.cast(ctypes.CDLL(runtime).GOMP_parallel, c_void_p)
        except (OSError, AttributeError, TypeError):
            continue
    return None


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_memory() -> None:
    """Let the process keep what it frees: training frees and asks for the same tensors every step.

    glibc returns blocks of more than a few MB to the system at once, and the system's work for
    fresh pages then takes up to half of a step. Other systems are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


LIBRARY, REASON = _load()
"""The library, or None and the reason in one sentence."""


def call(name: str, *arguments: Any) -> Any:
    """Call a function of the library: tensors become pointers, whole numbers int64.

    The last argument of every function is the number of threads, which is torch's own.
    """
    function = getattr(LIBRARY, name)
    return function(*(_plain(argument) for argument in arguments), c_int32(torch.get_num_threads()))


def _plain(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return c_void_p(argument.data_ptr())
    return c_int64(argument) if isinstance(argument, int) else argument


def pointers(tensors: Sequence[Tensor]) -> Any:
    """An array of the tensors' addresses."""
    return (c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
