"""Processes that prepare scans ahead, and what becomes of a training with them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from geodistill.checks import InputError
from geodistill.cli import main
from geodistill.fit.detector import batches, training
from tests.detect.small_kitti import write_kitti
from tests.fit.small_recipe import SMALL_GRID

SETTINGS = (*SMALL_GRID, "batch=2", "workers=2", "epochs=100000")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("kitti"), 4, 1, reach_m=28)


def words(root: Path, out: Path, *more: str) -> list[str]:
    options = [word for value in (*SETTINGS, *more) for word in ("--set", value)]
    where = ("--data", str(root), "-o", str(out))
    return ["train", "detector/pillars_small_16x", *options, *where]


def trained(root: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "geodistill", *words(root, out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def started(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """Once it has learnt something."""
    assert process.stderr is not None
    for line in process.stderr:
        if "codes" in line:
            return process
    raise AssertionError(f"ended with {process.wait()}")


def children(process: subprocess.Popen[str]) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not listed.is_file():
        pytest.skip("needs the processes that Linux lists")
    return [int(word) for word in listed.read_text().split()]


def test_a_polite_kill_of_the_whole_job_keeps_what_was_learnt(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = started(trained(root, tmp_path / "run"))
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 130 and "Traceback" not in said, said
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()
    goes_on = Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr(training, "train_detector", goes_on)
    assert main(words(root, tmp_path / "run", "workers=0")) == 130  # with fewer, too
    assert main(words(root, tmp_path / "run", "batch=1")) == 2
    assert goes_on.call_count == 1 and goes_on.call_args.args[2].resumed


def test_a_worker_that_is_killed_is_told_in_one_line(root: Path, tmp_path: Path) -> None:
    process = started(trained(root, tmp_path / "run"))
    os.kill(children(process)[0], signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == 1, said
    assert "a process that prepares scans was ended from outside" in said.splitlines()[-1]
    assert "Traceback" not in said


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset by peer"), EOFError()])
def test_a_worker_that_ends_while_it_hands_over_a_batch(error: Exception) -> None:
    with pytest.raises(InputError, match="was ended from outside"), training.worker_errors():
        raise error


def test_too_few_open_files_are_told() -> None:
    with pytest.raises(InputError, match="more open files"), training.worker_errors():
        raise RuntimeError("received 0 items of ancdata")


def test_workers_may_have_as_many_open_files_as_this_process(root: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1] - 1, limits[1]))
        feed = Mock(examples=lambda step: [step])
        assert list(batches.stream(feed, 0, 3, workers=1)) == [[0], [1], [2]]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limits[1], limits[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_scan_that_a_worker_cannot_read_is_told_in_one_line(root: Path, tmp_path: Path) -> None:
    data = shutil.copytree(root, tmp_path / "kitti")
    process = started(trained(data, tmp_path / "run"))
    first = sorted((data / "training" / "velodyne").iterdir())[0]
    first.write_bytes(first.read_bytes()[:-3])
    _, said = process.communicate()
    assert process.returncode == 1, said
    assert first.name in said.splitlines()[-1] and "Traceback" not in said
