"""Where a command can be struck, and with what; used in the process that is going to be struck."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from typing import Any

POINTS = {
    "begun": ("os", "fsync"),  # a file's bytes are written, none of it is sure
    "written": ("os", "replace"),  # a file is complete but has not its name yet
    "removed": ("os", "unlink"),
    "folder": ("os", "mkdir"),
    "step": ("geodistill.train.Budget", "progress"),  # the step that follows is not done
    "checkpoint": ("geodistill.train", "checkpoint"),
    "log": ("geodistill.runs.Run", "log"),
    "survey": ("geodistill.convert.cache", "field_samples"),
    "field": ("geodistill.geometry.fields", "save_field"),
    "batch": ("geodistill.fit.detector.stored", "save_tensors"),
    "validate": ("geodistill.fit.detector.job.DetectorJob", "validate"),
    "judge": ("geodistill.render.viewable", "render_view"),
    "finish": ("geodistill.runs.Run", "finish"),
}
"""name -> the owner and the function whose calls are counted."""


def full_disk() -> None:
    """From now on no file of this process can grow."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def _signal(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


STRIKES: dict[str, Callable[[], None]] = {
    "kill": _signal(signal.SIGKILL),
    "interrupt": _signal(signal.SIGINT),
    "terminate": _signal(signal.SIGTERM),
    "full": full_disk,
}


def arm(point: str, call: int, strike: str) -> None:
    """Strike this process when it enters call number `call` (from 1) of a point's function.

    Call 0 strikes before the command begins.
    """
    if call == 0:
        STRIKES[strike]()
    owner, name = _find(POINTS[point])
    original = getattr(owner, name)
    count = 0

    def watched(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == call:
            STRIKES[strike]()
        return original(*args, **kwargs)

    setattr(owner, name, watched)


def checkpoint_every_step() -> None:
    from geodistill import train

    train.CHECKPOINT_SECONDS = 0.0


def _find(place: tuple[str, str]) -> tuple[Any, str]:
    from importlib import import_module

    owner, name = place
    try:
        return import_module(owner), name
    except ModuleNotFoundError:
        module, _, attribute = owner.rpartition(".")
        return getattr(import_module(module), attribute), name
