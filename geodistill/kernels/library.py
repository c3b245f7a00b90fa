"""Loads the C++ library into the process, beside the OpenMP runtime that torch brings."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from ctypes import c_int32, c_int64, c_uint32, c_void_p
from pathlib import Path
from typing import Any

# torch first: the library takes its OpenMP symbols from the runtime that torch has loaded.
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
        library = _open()
    except OSError as error:
        return None, f"the C++ library does not load: {error}"
    sources = digest(PATH.with_name("src"))
    if sources not in (0, c_uint32(library.gd_digest(0)).value):
        return None, "the C++ library is older than its sources: run pip install -e . again"
    return library, ""


def _open() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(PATH))
    except OSError:
        # A torch that hides its OpenMP runtime, or has none: the system's serves the library alone.
        ctypes.CDLL("libgomp.so.1", mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(PATH))


LIBRARY, REASON = _load()
"""The library, or None and the reason in one sentence."""


if LIBRARY is not None:
    LIBRARY.gd_march.restype = c_void_p


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
