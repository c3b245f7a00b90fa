"""`geodistill VERB ...`: one executable; a verb's room is imported when the verb is chosen.

A verb is a module with `Arguments` (a frozen dataclass), `run(arguments) -> dict` and
`report(result) -> str`. The result is printed on stdout: as the report, or with --json as one JSON
object on the last line; everything else goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from geodistill import __version__
from geodistill.checks import GeodistillError, UsageError, choose

VERBS = {
    "convert": "geodistill.cli.convert",
    "fit": "geodistill.cli.fit",
    "export": "geodistill.cli.export",
    "lift": "geodistill.cli.lift",
    "query": "geodistill.cli.query",
    "deform": "geodistill.cli.deform",
    "simulate": "geodistill.cli.simulate",
    "train": "geodistill.cli.train",
    "cache": "geodistill.cli.cache",
    "eval": "geodistill.cli.eval",
    "detect": "geodistill.cli.detect",
    "compare": "geodistill.cli.compare",
    "render": "geodistill.cli.render",
    "view": "geodistill.cli.view",
    "info": "geodistill.cli.info",
    "doctor": "geodistill.cli.doctor",
}

RESUMABLE = ("convert", "fit", "simulate", "train", "cache")

HELP = """\
usage: geodistill VERB [ARGUMENTS]      geodistill VERB --help for one verb

  convert   turn a scene into a radiance field, splats or a mesh, without any images
  fit       train a radiance field or splats from posed images
  export    write a mesh, points, splats or a field in another file format
  lift      lift the features of an image teacher onto a geometry
  query     ask lifted features what is like a place, a text, or one another
  deform    deform a mesh by handles, in the browser: what looks like them moves with them
  simulate  make labelled LiDAR scans of generated streets
  train     train a 3D detector, alone or taught by a larger one
  cache     store a training's batches and its teacher's outputs for many students
  eval      measure how good a detector is: the KITTI benchmark's average precision
  detect    find the boxes of objects in a LiDAR scan
  compare   measure how alike two representations of one scene are
  render    make pictures or a video of a scene
  view      show a scene in the browser
  info      say what a file is
  doctor    say what works on this machine

options of every verb:
  --json    print one JSON object as the last line on stdout
  --quiet   print nothing but results and errors

examples:
  geodistill convert --from ngp --to tensorf
  geodistill fit data/lego --as ngp -o lego_ngp
  geodistill convert lego_ngp --to plenoxels -o lego_plenoxels
  geodistill convert lego_ngp --to mesh -o lego.glb
  geodistill export scene.ply -o scene.spz
  geodistill lift dragon.glb --teacher lite0 -o dragon.safetensors
  geodistill query dragon.safetensors --click 66,62,-2
  geodistill deform dragon.glb
  geodistill simulate lidar -o streets
  geodistill train detector/pillars_small --data streets -o teacher
  geodistill eval teacher -o report
  geodistill detect scan.bin --model teacher -o boxes.json
  geodistill compare lego_ngp lego_plenoxels -o sheet.png
  geodistill render lego_plenoxels --orbit 120 -o orbit.mp4
  geodistill view lego.glb

geodistill --version prints the version. Exit codes: 0 done, 1 bad input, 2 bad usage,
70 internal error, 130 interrupted.
"""

EXIT_INPUT, EXIT_USAGE, EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_PIPE = 1, 2, 70, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in argv
    verb = argv[0] if argv else "--help"
    try:
        with _sigterm_as_interrupt():
            if verb in ("-h", "--help", "help"):
                print(HELP, end="")
            elif verb in ("--version", "version"):
                print(f"geodistill {__version__}")
            else:
                _run(verb, argv[1:])
        sys.stdout.flush()
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except BrokenPipeError:
        _drop_output()
        return EXIT_PIPE
    except BaseException as error:
        if "GEODISTILL_DEBUG" in os.environ and not isinstance(error, GeodistillError):
            raise
        code, kind, message = explain(error, verb)
        print(f"geodistill {verb}: {message}", file=sys.stderr, flush=True)
        if as_json:
            try:
                print(json.dumps({"error": message, "kind": kind}), flush=True)
            except OSError:  # of a full disk: the line above says it
                _drop_output()
        return code


def _drop_output() -> None:
    """Where nobody takes it; without this the interpreter would complain at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def explain(error: BaseException, verb: str) -> tuple[int, str, str]:
    """The exit code, the kind and the one line that stand for an exception."""
    if isinstance(error, UsageError):
        return EXIT_USAGE, "usage", _line(error)
    if isinstance(error, GeodistillError):
        return EXIT_INPUT, "input", _line(error)
    if isinstance(error, KeyboardInterrupt):
        again = "; the same command goes on from its last checkpoint, if any"
        return EXIT_INTERRUPTED, "interrupted", "interrupted" + again * (verb in RESUMABLE)
    if _is_out_of_memory(error):
        return EXIT_INPUT, "input", "out of memory: close other programs or ask for a smaller size"
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return EXIT_INPUT, "input", f"{name}{error.strerror or _line(error)}"
    text = f"internal error: {type(error).__name__}: {_line(error)}"
    return EXIT_INTERNAL, "internal", f"{text} (set GEODISTILL_DEBUG=1 for the traceback)"


def _run(verb: str, argv: list[str]) -> None:
    from importlib import import_module

    if verb.startswith("-"):
        raise UsageError(f"a verb comes first, got '{verb}'; known: {', '.join(VERBS)}")
    module: Any = import_module(choose("verb", verb, VERBS))
    from geodistill import log
    from geodistill.cli.arguments import parse
    from geodistill.runs import jsonable

    arguments = parse(module.Arguments, argv, f"geodistill {verb}")
    before = log.level()
    # Under torchrun the first process speaks for all; each says its own errors.
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    first = alone or os.environ.get("RANK", "0") == "0"
    log.set_level(log.NORMAL if first and not arguments.quiet else log.QUIET)
    try:
        if not first:
            module.run(arguments)
            return
        if not arguments.json:
            print(module.report(module.run(arguments)))
            return
        # A library that prints must not come between the caller and the JSON line.
        with contextlib.redirect_stdout(sys.stderr):
            result = module.run(arguments)
            log.say(module.report(result))
        print(json.dumps(jsonable(result), allow_nan=False))
    finally:
        log.set_level(before)


def _is_out_of_memory(error: BaseException) -> bool:
    # PyTorch reports it as a RuntimeError, in words that differ between the CPU and a GPU.
    text = str(error).lower()
    said = "out of memory" in text or "can't allocate memory" in text
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and said)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """A polite kill ends a run as Ctrl-C does: with its checkpoint kept."""

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
