"""A process that forks once per command, so that each has a process of its own without its import.

Run as a script by `commands.Host`: a request is a line of JSON on stdin, the answer one on stdout.
It computes nothing itself: what a child inherits is the state of a fresh interpreter.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
DEADLINE_S = 300
CRASHED = 99


def serve() -> None:
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    import torch
    import torch._dynamo  # torch's optimisers import it on first use, for seconds

    torch.set_num_threads(1)
    from geodistill.cli import VERBS
    from tests.faults.small import shrink

    for module in VERBS.values():
        import_module(module)
    shrink()
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(request: dict[str, Any]) -> dict[str, Any]:
    """Pipes rather than files, since a full disk must not swallow what the command says."""
    out, err = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out[1], 1)
        os.dup2(err[1], 2)
        for end in (*out, *err):
            os.close(end)
        os._exit(_obey(request))
    texts = []
    os.close(out[1])
    os.close(err[1])
    for end in (out[0], err[0]):
        with open(end, encoding="utf-8", errors="replace") as stream:
            texts.append(stream.read())
    _, status, usage = os.wait4(child, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "out": texts[0],
        "err": texts[1],
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }


def _obey(request: dict[str, Any]) -> int:
    signal.alarm(DEADLINE_S)
    os.chdir(request["cwd"])
    try:
        from tests.faults import points

        if request["every_step"]:
            points.checkpoint_every_step()
        if request["strike"]:
            points.arm(**request["strike"])
        from geodistill.cli import main

        return main(request["argv"])
    except BaseException:
        traceback.print_exc()
        return CRASHED
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    serve()
