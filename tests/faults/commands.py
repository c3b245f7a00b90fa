"""Whole commands in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOST = Path(__file__).with_name("host.py")


@dataclass(frozen=True)
class Result:
    """How a command ended: its exit code (negative: the signal that killed it) and its output."""

    code: int
    out: str
    err: str
    cpu_s: float

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out.splitlines()[-1])


class Host:
    """Runs `geodistill` command lines, each in a fresh process of small sizes and one thread."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self,
        cwd: Path,
        *argv: object,
        strike: tuple[str, int, str] | None = None,
        every_step: bool = False,
    ) -> Result:
        """Run `geodistill ARGV` in a folder.

        Args:
            cwd: the folder.
            argv: the command line.
            strike: a key of `points.POINTS`, which call of it, and a key of `points.STRIKES`.
            every_step: checkpoint after each step.
        """
        request = {
            "cwd": str(cwd),
            "argv": [str(argument) for argument in argv],
            "strike": dict(zip(("point", "call", "strike"), strike, strict=True)) if strike else {},
            "every_step": every_step,
        }
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Result(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def complaint(result: Result, code: int) -> str:
    """The one line with which a command refused, after checking that it said nothing else."""
    assert result.code == code, result
    assert result.out == "", result
    lines = result.err.splitlines()
    assert len(lines) == 1, result
    assert lines[0].startswith("geodistill "), result
    return lines[0]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, without what an unfinished run keeps for itself."""
    own = {".work", ".lock"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not own & set(path.relative_to(folder).parts)
    }


def lasting(folder: Path) -> dict[str, bytes]:
    """The files below a folder, with what the clock decides taken out."""
    files = contents(folder)
    for name, data in files.items():
        if name.endswith("metrics.jsonl"):
            lines = [json.loads(line) for line in data.splitlines()]
            files[name] = json.dumps([{**line, "seconds": 0} for line in lines]).encode()
        elif name.endswith("DONE"):
            done = json.loads(data)
            done["outputs"].pop("seconds", None)
            files[name] = json.dumps(done).encode()
    return files


def struck(
    host: Host,
    folder: Path,
    command: tuple[object, ...],
    points: tuple[tuple[str, int], ...],
    strike: str,
) -> list[Result]:
    """Give the command once per point, struck there; every point must be reached."""
    results = []
    for point, call in points:
        result = host.run(folder, *command, strike=(point, call, strike), every_step=True)
        assert result.code != 0, f"{point} {call} was never reached"
        results.append(result)
    return results


def then(host: Host, folder: Path, command: tuple[object, ...]) -> dict[str, bytes]:
    """What the command makes of what is there."""
    done = host.run(folder, *command)
    assert done.code == 0, done
    return lasting(folder)
