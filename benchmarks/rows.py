"""Figures with their targets, and how they are timed."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, its target as text and whether it is met, and peers."""

    what: str
    measured: str
    target: str = ""
    met: bool | None = None
    peers: str = ""


def at_most(what: str, value: float, limit: float, unit: str, peers: str = "") -> Row:
    return Row(what, f"{value:.3g} {unit}", f"<= {limit:g} {unit}", value <= limit, peers)


def at_least(what: str, value: float, limit: float, unit: str = "", peers: str = "") -> Row:
    shown = f"{value:.3g} {unit}".strip()
    return Row(what, shown, f">= {limit:g} {unit}".strip(), value >= limit, peers)


def table(rows: Sequence[Row]) -> str:
    """The rows as a table of Markdown."""
    lines = ["| what | measured | target | peers |", "| --- | --- | --- | --- |"]
    for row in rows:
        verdict = {True: " (met)", False: " (missed)", None: ""}[row.met]
        lines.append(f"| {row.what} | {row.measured} | {row.target}{verdict} | {row.peers} |")
    return "\n".join(lines)


def run_parts(
    parts: Mapping[str, Callable[[], list[Row]]], what: str, argv: Sequence[str] | None = None
) -> int:
    """The command line of a benchmark: print the rows of each part; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--only", default=",".join(parts), help=f"some of {','.join(parts)}")
    options = parser.parse_args(argv)
    names = options.only.split(",")
    if unknown := [name for name in names if name not in parts]:
        parser.error(f"unknown part '{unknown[0]}'; known: {', '.join(parts)}")
    rows = [row for name in names for row in parts[name]()]
    print(json.dumps([asdict(row) for row in rows], indent=1) if options.json else table(rows))
    return int(any(row.met is False for row in rows))


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    run()
    return clock() - start


def medians(
    forms: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each form; they take turns, and the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(repeats + 1):
        for name, run in forms.items():
            spent = seconds(run, clock)
            if turn:
                times[name].append(spent)
    return {name: statistics.median(spent) for name, spent in times.items()}
