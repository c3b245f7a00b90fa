"""Damaged files for every reader: an error line or a valid result, and nothing else.

    python benchmarks/fuzz.py [--only splats.spz,mesh.obj] [--count 2000] [--jobs 2]
    python benchmarks/fuzz.py --one splats.spz:1234 [--keep FOLDER]

Small files of every kind, by our writers and by hand, are damaged at random, the same way for the
same number, and read in processes with a limit of time and of address space. It fails where a
reader ends in anything but an error of one line that names the file, or a result that is whole:
a traceback, a warning, a crash, no end, more memory. `--one` shows what a mutation does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from fuzzing import worker  # noqa: E402
from fuzzing.pool import Limits, Outcome, outcomes  # noqa: E402
from fuzzing.readers import endings, reader_of  # noqa: E402
from fuzzing.seeds import KINDS, write_seeds  # noqa: E402

from geodistill import log  # noqa: E402
from geodistill.checks import GeodistillError, UsageError, choose  # noqa: E402

SHOWN = 12


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    try:
        if options.one:
            return show(options.one, options.keep)
        kinds = options.only.split(",") if options.only else [*KINDS]
        limits = Limits(options.seconds, options.megabytes)
        failed = 0
        with tempfile.TemporaryDirectory() as folder:
            for kind in kinds:
                choose("kind of file", kind, KINDS)
                write_seeds(kind, Path(folder))
                numbers = range(options.first, options.first + options.count)
                failed += report(kind, Path(folder), numbers, options.jobs, limits)
        without = [] if options.only else sorted(endings() - KINDS.keys())
        for kind in without:
            print(f"{kind}: no seeds, add some to fuzzing/seeds.py", flush=True)
        print(f"{failed} of {len(kinds) * options.count} failed" if failed else "none failed")
        return int(failed > 0 or bool(without))
    except GeodistillError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def report(kind: str, seeds: Path, numbers: Sequence[int], jobs: int, limits: Limits) -> int:
    """Print a line for a kind, and one for each failure. Returns how many failed."""
    start = time.monotonic()
    found: list[Outcome] = []
    with log.progress(len(numbers), kind) as progress:
        for outcome in outcomes(kind, seeds, numbers, jobs, limits):
            found.append(outcome)
            progress.advance()
    counts = Counter(outcome.kind for outcome in found)
    reasons = len({outcome.why for outcome in found if outcome.kind == "refused"})
    failed = sorted((o for o in found if o.kind == "failed"), key=lambda outcome: outcome.number)
    print(
        f"{kind}: {len(found)} mutations, {counts['refused']} refused for {reasons} reasons, "
        f"{counts['read']} read, {len(failed)} failed, {time.monotonic() - start:.0f} s",
        flush=True,
    )
    for outcome in failed[:SHOWN]:
        print(f"  FAILED --one {kind}:{outcome.number}: {outcome.why}", flush=True)
    if len(failed) > SHOWN:
        print(f"  and {len(failed) - SHOWN} more", flush=True)
    return len(failed)


def show(what: str, keep: str | None) -> int:
    """Read one mutation here, without limits, so that a traceback is seen whole."""
    kind, _, number = what.partition(":")
    choose("kind of file", kind, KINDS)
    with tempfile.TemporaryDirectory() as folder:
        write_seeds(kind, Path(folder))
        seeds = worker.seed_folders(Path(folder), kind)
        files = worker.mutation(kind, seeds, int(number))
        place = Path(keep) if keep else Path(folder) / "files"
        place.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (place / name).write_bytes(content)
        path = place / next(iter(files))
        try:
            found = reader_of(kind).function()(path)
            reader_of(kind).check(found)
        except GeodistillError as error:
            print(f"refused: {error}")
            return 0
    print("read")
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Read damaged files of every kind.")
    parser.add_argument("--only", help=f"some of {','.join(KINDS)}")
    parser.add_argument("--count", type=int, default=2000, help="mutations of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--seconds", type=float, default=Limits.seconds, help="for a mutation")
    parser.add_argument("--megabytes", type=int, default=Limits.megabytes, help="of address space")
    parser.add_argument("--one", metavar="KIND:NUMBER", help="read this mutation alone")
    parser.add_argument("--keep", metavar="FOLDER", help="with --one: leave its files there")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
