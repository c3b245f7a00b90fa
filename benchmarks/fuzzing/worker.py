"""A process that reads damaged files on demand, within a limit of memory.

    python -m fuzzing.worker KIND SEEDS SCRATCH MEGABYTES

Each line on stdin is a number; the answer is one line of JSON on stdout: the number, "read",
"refused" or "failed", and why. Before the first answer come all seeds as they are, which must be
read.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import sys
import traceback
import warnings
import zlib
from pathlib import Path
from typing import Any

from fuzzing.damage import damaged
from fuzzing.readers import Reader, reader_of
from geodistill import log
from geodistill.checks import GeodistillError

PAGE = resource.getpagesize()


def main(kind: str, seeds: str, scratch: str, megabytes: str) -> None:
    log.set_level(log.QUIET)
    reader, folders = reader_of(kind), seed_folders(Path(seeds), kind)
    for folder in folders:
        outcome, why = attempt(reader, files_in(folder), Path(scratch))
        if outcome != "read":
            raise SystemExit(f"{folder.name}, a seed of {kind}, is {outcome}: {why}")
    limit_memory(int(megabytes))
    print(json.dumps(["ready", "", ""]), flush=True)
    for line in sys.stdin:
        number = int(line)
        outcome, why = attempt(reader, mutation(kind, folders, number), Path(scratch))
        print(json.dumps([number, outcome, why]), flush=True)


def seed_folders(seeds: Path, kind: str) -> list[Path]:
    """A folder for each scene; the file to be read has the name in its MAIN."""
    return sorted(folder for folder in (seeds / kind).iterdir())


def files_in(folder: Path) -> dict[str, bytes]:
    """Files of a scene, the one to be read first."""
    main, *others = (folder / "ORDER").read_text().split("\n")
    return {name: (folder / name).read_bytes() for name in (main, *others)}


def mutation(kind: str, folders: list[Path], number: int) -> dict[str, bytes]:
    files = files_in(folders[number % len(folders)])
    return damaged(files, next(iter(files)), [zlib.crc32(kind.encode()), number])


def limit_memory(megabytes: int) -> None:
    """Of address space, beyond what the interpreter and its libraries have taken."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    limit = taken + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def attempt(reader: Reader, files: dict[str, bytes], scratch: Path) -> tuple[str, str]:
    """Outcome and reason of reading files out of an empty folder."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name, content in files.items():
        (scratch / name).write_bytes(content)
    path = scratch / next(iter(files))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = reader.function()(path)
            reader.check(found)
    except GeodistillError as error:
        return _refusal(str(error), scratch)
    except BaseException as error:
        return "failed", _place(error)
    return "read", ""


def _refusal(text: str, scratch: Path) -> tuple[str, str]:
    """One line that names a file and is short enough to be read, or a failure."""
    bare = text.replace(str(scratch), "")
    if len(text.splitlines()) != 1 or not text.isprintable():
        return "failed", f"the error is not one line: {text!r}"
    if bare == text:
        return "failed", f"the error does not name the file: {text}"
    if len(bare) > 1000:
        return "failed", f"the error has {len(bare)} characters: {bare[:200]}"
    return "refused", re.sub(r"\d+", "#", bare)[:80]


def _place(error: BaseException) -> str:
    """Where in the package it was raised, and what."""
    frames: list[Any] = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f"geodistill{os.sep}" in f.filename] or frames
    name = ours[-1].filename.rsplit(f"{os.sep}geodistill{os.sep}", 1)[-1]
    text = f"{type(error).__name__} at {name}:{ours[-1].lineno}: {error}"
    return " ".join(text.split())[:300]


if __name__ == "__main__":
    main(*sys.argv[1:])
