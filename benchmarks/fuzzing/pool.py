"""Worker processes that are given numbers, watched, and replaced when they hang or die."""

from __future__ import annotations

import json
import os
import queue
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from geodistill.checks import InputError

HERE = Path(__file__).parent.parent
START_S = 120.0


@dataclass(frozen=True)
class Limits:
    seconds: float = 20.0
    megabytes: int = 2048


@dataclass(frozen=True)
class Outcome:
    number: int
    kind: str  # "read", "refused" or "failed"
    why: str


class Worker:
    """One process for one kind of file."""

    def __init__(self, kind: str, seeds: Path, scratch: Path, limits: Limits) -> None:
        self.limits = limits
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "1",
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
        }
        arguments = [kind, str(seeds), str(scratch), str(limits.megabytes)]
        self._errors = scratch.with_suffix(".err")
        scratch.parent.mkdir(parents=True, exist_ok=True)
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fuzzing.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
        if self._answer(START_S) is None:
            self.stop()
            raise InputError(f"no reader of {kind}: {self.last_words()}")

    def ask(self, number: int) -> Outcome:
        """The outcome of a mutation; the process is dead afterwards where it hung or died."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{number}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            return Outcome(number, "failed", f"the process is dead: {self.last_words()}")
        answer = self._answer(self.limits.seconds)
        if answer is not None:
            return Outcome(number, answer[1], answer[2])
        status = self.process.poll()
        self.stop()
        if status is None:
            return Outcome(number, "failed", f"no end within {self.limits.seconds:g} s")
        return Outcome(number, "failed", f"died with status {status}: {self.last_words()}")

    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def last_words(self) -> str:
        lines = self._errors.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else "without a word"

    def _answer(self, seconds: float) -> list | None:
        stdout = self.process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], seconds)[0]:
            return None
        line = stdout.readline()  # written in one piece
        if not line.endswith(b"\n"):
            self.process.wait()
            return None
        return json.loads(line)


def outcomes(
    kind: str, seeds: Path, numbers: Sequence[int], jobs: int, limits: Limits
) -> Iterator[Outcome]:
    """What becomes of each mutation, in the order in which they end.

    Raises InputError when the seeds themselves are not read.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in numbers:
        waiting.put(number)
    found: queue.SimpleQueue[Outcome | BaseException | None] = queue.SimpleQueue()

    def work(scratch: str) -> None:
        worker: Worker | None = None
        try:
            while True:
                number = waiting.get_nowait()
                if worker is None or not worker.alive():
                    worker = Worker(kind, seeds, Path(scratch) / "x", limits)
                found.put(worker.ask(number))
        except queue.Empty:
            found.put(None)
        except BaseException as error:
            found.put(error)
        finally:
            if worker is not None:
                worker.stop()

    with tempfile.TemporaryDirectory() as folder:
        threads = [
            threading.Thread(target=work, args=(f"{folder}/{job}",), daemon=True)
            for job in range(min(jobs, len(numbers)))
        ]
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            one = found.get()
            if isinstance(one, BaseException):
                raise one
            if one is None:
                running -= 1
            else:
                yield one
        for thread in threads:
            thread.join()
