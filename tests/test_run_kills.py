"""Kills at every instant of a write and of a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from geodistill import runs
from geodistill.runs import (
    atomic_write,
    load_tensors,
    save_tensors,
)
from tests.run_folders import names, whole_run


def crash(call: Callable[[], object], instant: int) -> bool:
    """Run `call` in a child that dies before its file operation number `instant`; did it die?"""
    child = os.fork()
    if child == 0:
        count = 0

        def dying(original: Callable[..., object]) -> Callable[..., object]:
            def operation(*args: object, **kwargs: object) -> object:
                nonlocal count
                if count == instant:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
                return original(*args, **kwargs)

            return operation

        for name in ("fsync", "replace", "unlink", "mkdir", "rmdir", "open", "chmod"):
            setattr(os, name, dying(getattr(os, name)))
        try:
            call()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked child")


@needs_fork
def test_kill_at_every_instant_of_a_write(tmp_path: Path) -> None:
    path = tmp_path / "x"
    instant = 0
    while crash(lambda: atomic_write(path, b"new" * 1000), instant):
        assert not path.exists() or path.read_bytes() == b"new" * 1000
        instant += 1
    assert instant >= 3 and path.read_bytes() == b"new" * 1000


@needs_fork
@pytest.mark.parametrize("folders", [False, True])
def test_kill_at_every_instant_of_an_overwriting_run(
    folders: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a killed process has written stays with the system, so syncing would only cost time.
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    folder = tmp_path / "run"
    instant = 0
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        whole_run(folder, 1, folders=folders)
        if not crash(lambda: whole_run(folder, 2, folders=folders), instant):
            break
        field = int(load_tensors(folder / "field.safetensors")[0]["seed"])
        assert field in (1, 2)
        assert runs.result(folder) in ({"seed": 1}, {"seed": 2})
        if runs.result(folder) == {"seed": 2}:
            assert field == 2 and (folder / "config.yaml").read_text() == "seed: 2\n"
        whole_run(folder, 2, folders=folders)
        check_whole(folder, folders=folders)
        instant += 1
    check_whole(folder, folders=folders)
    assert instant > 30


@needs_fork
@pytest.mark.parametrize("field", ["run/field.safetensors", "outside.safetensors"])
def test_kill_at_every_instant_of_a_new_run(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command again always goes on; it is never asked to overwrite."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    folder, output = tmp_path / "run", tmp_path / field

    def run() -> None:
        whole_run(folder, 2, overwrite=False, field=output)

    instant = 0
    while crash(run, instant):
        if runs.result(folder) is None:
            run()
        assert int(load_tensors(output)[0]["seed"]) == 2
        instant += 1
        shutil.rmtree(folder)
        output.unlink(missing_ok=True)
    check_whole(folder, output)
    assert instant > 20


def check_whole(folder: Path, field: Path | None = None, folders: bool = False) -> None:
    field = field or folder / "field.safetensors"
    inside = {field.name} if field.parent == folder else set()
    for name in ("logs", "logs_2") if folders else ():
        assert names(folder / name) == {"2.txt"}
        inside.add(name)
    assert names(folder) == {".lock", "DONE", "config.yaml", "env.json", "metrics.jsonl"} | inside
    assert runs.result(folder) == {"seed": 2}
    assert int(load_tensors(field)[0]["seed"]) == 2
    assert (folder / "config.yaml").read_text() == "seed: 2\n"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": step, "loss": 2 / step} for step in (1, 2, 3)]


@needs_fork
def test_kill_at_any_time(tmp_path: Path) -> None:
    """Kills by the clock, against a writer that never stops."""
    path = tmp_path / "field.safetensors"

    def forever() -> None:
        version = 0
        while True:
            version += 1
            save_tensors(path, {"x": torch.full((5000,), version)}, {"version": version})

    for attempt in range(12):
        child = os.fork()
        if child == 0:
            try:
                forever()
            finally:
                os._exit(0)
        time.sleep(0.02 + 0.004 * attempt)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if path.exists():
            tensors, metadata = load_tensors(path)
            assert tensors["x"].unique().tolist() == [metadata["version"]]
    assert path.exists()
