"""Measure every conversion: fidelity, seconds, speed-up over training from scratch, ablations.

    python benchmarks/scenes.py                      # once: the three scenes
    python benchmarks/convert.py [--part rows|matrix|kinds|scratch|ablation|teachers|fits|all]
                                 [--scenes NAME ...] [--only TEXT] [--list] [--report]

Every measurement is a cell: one line of ``records.jsonl``, with a fingerprint of the code and the
data that it depends on. Records, fields and contact sheets (teacher | student | difference) lie in
``$GEODISTILL_CACHE/benchmarks/convert``, by default below ``~/.cache/geodistill``. The command runs
the cells that are missing, the important and cheap ones first, and may be interrupted at any time;
the same command goes on. At the end, or when interrupted, it prints all tables and writes them
between the markers in ``docs/benchmarks.md``, and a picture of every kind made into every other
beside it, which ``--only`` and ``--scenes`` leave alone unless
``--out`` names a page.

The figures of that page are ``benchmarks/results/convert.jsonl``: with ``--records`` naming a copy
of it, measuring goes on where they end. A teacher that is on record but not in the cache is fitted
again, which on another kind of processor gives other bits: its record and the conversions of it
stand if it is as good within 0.1 dB.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from converting import grid, measure, plan, tables
from converting.cells import Cell, in_order
from converting.store import Store
from pages import DOCS, write_between_markers

from assets import cache_root
from geodistill.checks import GeodistillError, UsageError
from geodistill.log import say
from geodistill.runs.lock import Lock

PAGE = DOCS / "benchmarks.md"
SHEET = Path("sheets", "any_to_any.jpg")
SECTION = "convert"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 if a cell failed, 2 for bad usage, 130 if interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except GeodistillError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    scale = plan.smoke_scale() if arguments.smoke else plan.full_scale()
    if arguments.schedules:
        scale = replace(scale, schedules=arguments.schedules)
    root = arguments.smoke or cache_root()
    store = Store(
        root / "benchmarks" / "convert",
        root / "scenes",
        arguments.records,
        arguments.keep_stale,
        arguments.max_others,
    )
    cells = chosen(scale, arguments.part, arguments.scenes, arguments.only)
    if arguments.list:
        print(listing(cells, store))
        return 0
    status = 0 if arguments.report else run_cells(cells, store)
    text = tables.report(scale, store)
    print(text, end="")
    page = root / "benchmarks.md" if arguments.smoke else PAGE
    narrow = bool(arguments.only or arguments.scenes)
    if arguments.out is not None or (not narrow and tables.measured(scale, store)):
        write_between_markers(arguments.out or page, SECTION, text)
        sheet = (arguments.out or page).parent / SHEET
        if (shown := grid.picture(scale, store, sheet)) is not None:
            sheet.parent.mkdir(exist_ok=True)
            shown.save(sheet, quality=85)
    return status


def chosen(
    scale: plan.Scale, part: str, scenes: Sequence[str] | None = None, only: str = ""
) -> list[Cell]:
    """The cells that were asked for and what they need, in the order in which they are run.

    Raises:
        UsageError: no such scene.
    """
    for scene in scenes or ():
        if scene not in scale.scenes:
            raise UsageError(f"unknown scene '{scene}'; known: {', '.join(scale.scenes)}")
    parts = plan.PARTS if part == "all" else {part: plan.PARTS[part]}
    return in_order(
        task
        for tasks in parts.values()
        for task in tasks(scale)
        if task.cell.scene in (scenes or scale.scenes)
        and (only in task.cell.title or only in task.cell.name)
    )


def listing(cells: Sequence[Cell], store: Store) -> str:
    """One line per cell: its state, how long it takes, what it is."""
    lines, states, left = [], [], 0.0
    for cell in cells:
        seconds, state = store.expected_seconds(cell), state_of(cell, store)
        if state == "done" and is_due(cell, cells, store):
            state = "again"
        left += seconds if state in ("missing", "again") else 0.0
        states.append(state)
        lines.append(f"{state:<8} {seconds / 60:7.1f} min  {cell.title}")
        if state == "lacking":
            lines[-1] += f" ({reason_lacking(cell)})"
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    return "\n".join([*lines, f"{counts}; about {left / 3600:.1f} hours to go"])


def state_of(cell: Cell, store: Store) -> str:
    """done, stale (done by older code), lacking (the package lacks a setting) or missing."""
    record = store.record(cell)
    if record is not None:
        return "stale" if record["stale"] else "done"
    return "lacking" if reason_lacking(cell) else "missing"


def is_due(cell: Cell, cells: Sequence[Cell], store: Store) -> bool:
    """Whether it was never measured, or what it made is gone and still needed."""
    if store.record(cell) is None or store.has_made(cell):
        return state_of(cell, store) == "missing"
    return any(c.source == cell and state_of(c, store) == "missing" for c in cells)


def reason_lacking(cell: Cell) -> str | None:
    """Which setting this version of the package does not have."""
    if cell.kind != "convert":
        return None
    try:
        measure.settings_of(cell)
    except UsageError as error:
        return str(error).partition(";")[0]
    return None


def run_cells(cells: Sequence[Cell], store: Store) -> int:
    """Measure what is missing; a cell that fails does not stop the others."""
    store.folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(store.folder / ".lock")
    failed = 0
    try:
        for number, cell in enumerate(cells, start=1):
            if not is_due(cell, cells, store):
                continue
            say(f"[{number}/{len(cells)}] {cell.title}")
            failed += not _attempt(cell, store)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return 130
    finally:
        lock.release()
    if failed:
        say(f"{failed} of {len(cells)} cells failed")
    return 1 if failed else 0


def _attempt(cell: Cell, store: Store) -> bool:
    try:
        record = measure.measure(cell, store)
    except GeodistillError as error:
        say(f"failed: {error}")
        return False
    except Exception:
        say(f"failed: {traceback.format_exc()}")
        return False
    figures = {"psnr_db": "{:.2f} dB to the teacher", "truth_psnr_db": "{:.2f} dB to the truth"}
    shown = [text.format(record[key]) for key, text in figures.items() if key in record]
    say(", ".join([f"{record['seconds']:.1f} s", *shown]))
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--part", choices=[*plan.PARTS, "all"], default="all", help="what to measure")
    add("--scenes", nargs="+", metavar="NAME", help="only cells of these scenes")
    add("--only", default="", metavar="TEXT", help="only cells whose title or name holds TEXT")
    add("--out", type=Path, metavar="FILE.md", help="page to write (default: docs/benchmarks.md)")
    add("--list", action="store_true", help="show the cells, their state and time, and stop")
    add("--report", action="store_true", help="measure nothing, write the tables")
    add("--records", type=Path, metavar="FILE.jsonl", help="where figures are kept")
    add("--keep-stale", action="store_true", help="accept and mark what older code measured")
    add(
        "--max-others",
        type=float,
        metavar="CORES",
        help="measure again what was measured while other processes used more than this",
    )
    add(
        "--schedules",
        type=lambda text: tuple(float(word) for word in text.split(",")),
        metavar="24,10",
        help="lengths of the runs from scratch, in conversions; the fastest one counts",
    )
    add("--threads", type=int, help="threads (default: torch's)")
    add("--smoke", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
