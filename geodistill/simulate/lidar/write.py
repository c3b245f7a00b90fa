"""Simulated scans as a KITTI folder, written by several processes; what is there is kept."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geodistill.checks import InputError, UsageError, choose
from geodistill.io.kitti import write_labels
from geodistill.io.kitti_frames import write_calibration
from geodistill.io.scans import write_scan
from geodistill.log import progress
from geodistill.runs import atomic_write, make_folder
from geodistill.runs.files import remove_leftovers, write_error
from geodistill.runs.lock import Lock
from geodistill.simulate.lidar.frame import CALIBRATION, TRAIL_S, simulate
from geodistill.simulate.lidar.sensor import SENSORS

SETTINGS, LOCK = "simulation.json", ".lock"
PARTS = (
    *("ImageSets", "training/label_2", "training/velodyne"),
    *("training/calib", "training/trails"),
)
WHOLE = "ImageSets/trainval.txt"  # is written last
VERSION = 3  # of what a seed gives
CHUNK = 4  # frames that a process takes at a time


@dataclass(frozen=True)
class Simulation:
    """Attributes:
    frames: how many.
    val_share: of them, the last ones, that are held out.
    sensor: a key of `SENSORS`.
    around: whole turns; else the sector that the camera sees.
    seed: of everything.
    """

    frames: int = 1000
    val_share: float = 0.2
    sensor: str = "hdl-64e"
    around: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        choose("sensor", self.sensor, SENSORS)
        if self.frames < 1:
            raise UsageError(f"frames must be at least 1, got {self.frames}")
        if not 0 <= self.val_share <= 1:
            raise UsageError(f"val_share must be from 0 to 1, got {self.val_share}")
        if self.seed < 0:
            raise UsageError(f"seed must be at least 0, got {self.seed}")


def write_dataset(root: Path, wanted: Simulation, workers: int, overwrite: bool = False) -> int:
    """Write scans, labels, calibrations, trails and splits.

    A scan is written before its labels: a frame with labels is whole; splits are written last.
    Frames that are there are kept, if they are of the same simulation.

    Args:
        workers: processes; what is written is the same for any number.
        overwrite: remove a data set that is whole, or of another simulation, and make it anew.

    Returns:
        How many frames were written now.

    Raises UsageError where the folder holds something else, InputError where the system refuses.
    """
    _expect_own(root, wanted, overwrite)
    make_folder(root)
    lock = Lock(root / LOCK)
    try:
        settings = {"version": VERSION, **asdict(wanted)}
        if overwrite and ((root / WHOLE).is_file() or _found(root) != settings):
            _clear(root)
        atomic_write(root / SETTINGS, (json.dumps(settings, indent=1) + "\n").encode())
        for part in PARTS:
            make_folder(root / part)
            remove_leftovers(root / part)
        missing = [
            k
            for k in range(wanted.frames)
            if not (root / "training" / "label_2" / f"{k:06d}.txt").is_file()
        ]
        with progress(wanted.frames, "simulating, scans") as bar:
            bar.advance(wanted.frames - len(missing))
            chunks = [missing[k : k + CHUNK] for k in range(0, len(missing), CHUNK)]
            for done in _written(root, wanted, chunks, workers):
                bar.advance(done)
        _write_splits(root, wanted)
    finally:
        lock.release()
    return len(missing)


def _written(
    root: Path, wanted: Simulation, chunks: list[list[int]], workers: int
) -> Iterator[int]:
    if workers <= 1 or len(chunks) <= 1:
        for chunk in chunks:
            yield _write_frames(root, wanted, chunk)
        return
    with _processes(min(workers, len(chunks))) as pool:
        futures = [pool.submit(_write_frames, root, wanted, chunk) for chunk in chunks]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool:
            raise InputError(
                f"a process that simulates into {root} was ended from outside (out of memory?): "
                "the same command goes on, perhaps with fewer --workers"
            ) from None


@contextmanager
def _processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block, whatever ends it."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _one_thread)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _write_frames(root: Path, wanted: Simulation, numbers: list[int]) -> int:
    folder = root / "training"
    for number in numbers:
        found = simulate(SENSORS[wanted.sensor], wanted.seed, number, wanted.around)
        name = f"{number:06d}"
        write_scan(folder / "velodyne" / f"{name}.bin", found.points)
        write_calibration(folder / "calib" / f"{name}.txt", CALIBRATION)
        trails = {"seconds": TRAIL_S, "boxes": found.trails.double().numpy().round(4).tolist()}
        atomic_write(folder / "trails" / f"{name}.json", json.dumps(trails).encode())
        write_labels(folder / "label_2" / f"{name}.txt", found.labels)
    return len(numbers)


def _write_splits(root: Path, wanted: Simulation) -> None:
    names = [f"{k:06d}" for k in range(wanted.frames)]
    learnt = wanted.frames - round(wanted.frames * wanted.val_share)
    for split, own in (("train", names[:learnt]), ("val", names[learnt:]), ("trainval", names)):
        if not own:
            continue
        text = "".join(f"{name}\n" for name in own)
        atomic_write(root / "ImageSets" / f"{split}.txt", text.encode())


def _expect_own(root: Path, wanted: Simulation, overwrite: bool) -> None:
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file, not a folder: choose another -o")
    found = _found(root)
    if found is None:
        if root.is_dir() and any(one.name[0] != "." for one in root.iterdir()):
            raise UsageError(f"{root} holds something that is no simulation: choose another -o")
        return
    if not overwrite and found != {"version": VERSION, **asdict(wanted)}:
        raise UsageError(
            f"{root} holds a simulation with other settings, or of another version: pass "
            "--overwrite, or another -o"
        )


def _found(root: Path) -> Any:
    """The settings of the simulation in a folder, None for none."""
    path = root / SETTINGS
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{path} is damaged: remove the folder, or choose another -o") from None


def _clear(root: Path) -> None:
    """Remove all frames; splits and labels go first, so that none is taken for whole."""
    for part in PARTS:
        for path in sorted((root / part).glob("*.*")):
            try:
                path.unlink()
            except OSError as error:
                raise write_error(path, error) from None
