"""`Run`: an open run folder. The layout of the folder is in layout.py."""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from geodistill import config as config_files
from geodistill.checks import InputError, UsageError
from geodistill.runs import layout
from geodistill.runs.files import (
    atomic_write,
    copy_file,
    make_folder,
    remove_leftovers,
    write_error,
)
from geodistill.runs.lock import Lock
from geodistill.runs.tensors import load_tensors, read_metadata, save_tensors

if TYPE_CHECKING:
    from torch import Tensor


class Run:
    """A run folder, locked by this process: made by `Run.open`, closed by `finish` or `close`.

    As a context manager it closes itself: an error leaves a run that can be resumed, or nothing if
    it came before there was anything to go on from.
    `resumed` says whether an interrupted run of the same command and config goes on here; then
    `latest` returns its newest checkpoint, or None if it had not come that far.
    """

    def __init__(
        self, folder: Path, work: Path, resumed: bool, lock: Lock, outside: list[Path]
    ) -> None:
        self.folder = folder
        self.resumed = resumed
        self._work, self._lock, self._outside = work, lock, outside
        self._metrics: BinaryIO | None = None
        self._listeners: list[Callable[[int, Mapping[str, Any]], None]] = []

    @classmethod
    def open(
        cls,
        folder: Path | str,
        command: str,
        config: Any,
        overwrite: bool = False,
        outputs: Sequence[Path] = (),
        inputs: Mapping[str, str] | None = None,
    ) -> Run:
        """Open `folder` for `command` with `config` (a dataclass or a mapping of plain values).

        `outputs` are the files outside the folder that the run is going to write, `inputs` digests
        of what it reads: an interrupted run goes on only while they are the same.

        Raises UsageError when the folder holds a finished run, an interrupted run of another
        command, config or inputs, or one of `outputs` exists (all three unless `overwrite`); when
        it holds something that is not a run; and when another process works in it.
        """
        folder = Path(folder)
        config = config_files.to_dict(config)
        _expect_kept(folder, overwrite, outputs)
        layout.expect_usable(folder, overwrite)
        if not overwrite:
            _expect_absent(folder, outputs)
        make_folder(folder)
        lock = Lock(folder / layout.LOCK)
        try:
            layout.settle(folder)
            layout.expect_usable(folder, overwrite)  # again: another process may have finished it
            work = folder / layout.WORK if (folder / layout.DONE).exists() else folder
            make_folder(work)
            remove_leftovers(work)
            inputs = inputs or {}
            resumed = layout.holds_same(work, command, config, inputs, overwrite)
            if not resumed:
                layout.begin(work, command, config, inputs)
            outside = [output for output in outputs if output.parent != folder]
            run = cls(folder, work, resumed, lock, outside)
            if resumed:
                run._rewind_metrics()
        except BaseException:
            lock.release()
            raise
        return run

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is not None:
            layout.abandon(self.folder, self._work)
        self.close()

    def path(self, name: str) -> Path:
        """Where a file of this run is written now."""
        return self._work / name

    def staged(self, final: Path) -> Path:
        """Where to write now what shall be at `final`, in this folder or one of `outputs` outside
        it, once the run is finished."""
        return self.path(final.name)

    def checkpoint(
        self, step: int, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]
    ) -> None:
        """Save a resumable state (`extra` is JSON-able); the last one stays until this is safe."""
        if self._metrics is not None:
            try:
                os.fsync(self._metrics.fileno())
            except OSError as error:
                raise write_error(self.path(layout.METRICS), error) from None
        save_tensors(self.path(layout.CHECKPOINT), tensors, {"step": step, "extra": extra})

    def latest(self) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
        """The newest checkpoint as (step, tensors, extra), or None."""
        path = self.path(layout.CHECKPOINT)
        if not path.exists():
            return None
        with _explained(path):
            tensors, metadata = load_tensors(path)
            _expect_checkpoint(path, metadata)
        return metadata["step"], tensors, metadata["extra"]

    def log(self, step: int, **metrics: Any) -> None:
        """Append one line to metrics.jsonl; a resume drops the lines behind its checkpoint."""
        line = (json.dumps(layout.jsonable({"step": step, **metrics})) + "\n").encode()
        path = self.path(layout.METRICS)
        try:
            if self._metrics is None:
                self._metrics = path.open("ab")
            self._metrics.write(line)
            self._metrics.flush()
        except OSError as error:
            raise write_error(path, error) from None
        for listener in self._listeners:
            listener(step, metrics)

    def logged(self, step: int, key: str) -> bool:
        """Whether metrics.jsonl has a line of a step with this among its metrics."""
        path = self.path(layout.METRICS)
        lines = path.read_bytes().splitlines() if path.is_file() else []
        return any(_step(line) == step and key in json.loads(line) for line in lines)

    def watch(self, listener: Callable[[int, Mapping[str, Any]], None]) -> None:
        """Tell a listener, too, what is logged from now on: the step and the metrics."""
        self._listeners.append(listener)

    def finish(self, outputs: Mapping[str, Any]) -> None:
        """Mark the run as finished with its outputs (JSON-able), settle its files and close it.

        Raises InputError when the system refuses a file outside the folder; then the run can be
        resumed.
        """
        self._close_metrics()
        for output in self._outside:
            copy_file(self.staged(output), output)
        layout.conclude(self._work, outputs, [output.name for output in self._outside])
        layout.settle(self.folder)
        self._work = self.folder
        self.close()

    def close(self) -> None:
        """Let go of the folder; an unfinished run can be resumed."""
        self._close_metrics()
        self._lock.release()

    def _close_metrics(self) -> None:
        if self._metrics is not None:
            # Only what `log` already reported as unwritten can still fail here.
            with contextlib.suppress(OSError):
                self._metrics.close()
            self._metrics = None

    def _rewind_metrics(self) -> None:
        path = self.path(layout.METRICS)
        if not path.exists():
            return
        checkpoint = self.path(layout.CHECKPOINT)
        with _explained(checkpoint):
            known = read_metadata(checkpoint) if checkpoint.exists() else {"step": -1, "extra": {}}
            _expect_checkpoint(checkpoint, known)
            last = known["step"]
        kept = [line for line in path.read_bytes().split(b"\n") if _step(line) <= last]
        atomic_write(path, b"".join(line + b"\n" for line in kept))


@contextlib.contextmanager
def _explained(checkpoint: Path) -> Iterator[None]:
    """A checkpoint cannot be made again, only done without."""
    try:
        yield
    except InputError as error:
        reason = str(error).removesuffix("make it again").rstrip(":; ")
        raise InputError(f"{reason}: delete {checkpoint} to begin this run anew") from None


def _expect_checkpoint(path: Path, metadata: Mapping[str, Any]) -> None:
    if not {"step", "extra"} <= metadata.keys():
        raise InputError(f"{path} is no checkpoint of a run")


def _expect_kept(folder: Path, overwrite: bool, outputs: Sequence[Path]) -> None:
    for output in outputs:
        if not overwrite and (folder / layout.DONE).exists() and not output.exists():
            raise UsageError(
                f"{output} is gone, though its run {folder} is finished: pass --overwrite to make "
                "it again"
            )


def _expect_absent(folder: Path, outputs: Sequence[Path]) -> None:
    """What stands at an output may be what this run put there, if it was killed just then."""
    for output in outputs:
        staged = folder / output.name
        ours = staged.is_file() and output.is_file() and filecmp.cmp(staged, output, shallow=False)
        if output.exists() and not ours:
            raise UsageError(f"{output} exists: choose another -o or pass --overwrite")


def _step(line: bytes) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut short by a kill
