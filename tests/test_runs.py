from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
import safetensors.torch
import torch

from geodistill import runs
from geodistill.checks import InputError, UsageError
from geodistill.runs import (
    Run,
    atomic_write,
    load_tensors,
    read_metadata,
    save_tensors,
    scratch_folder,
)

TENSORS = {
    "weights": torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7,
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "mask": torch.tensor([True, False, True]),
    "ids": torch.tensor([[1, -2]], dtype=torch.int64),
    "empty": torch.zeros(0, 3),
}
METADATA = {"architecture": "ngp", "levels": [1, 2], "scale": 1 / 3, "note": "ü"}


def save(folder: Path) -> Path:
    path = folder / "field.safetensors"
    save_tensors(path, TENSORS, METADATA)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def message(error: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Tensor files


def test_round_trip(tmp_path: Path) -> None:
    tensors, metadata = load_tensors(save(tmp_path))
    assert metadata == METADATA == read_metadata(tmp_path / "field.safetensors")
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_the_safetensors_library_reads_it(tmp_path: Path) -> None:
    read = safetensors.torch.load_file(save(tmp_path))
    assert all(torch.equal(read[name], tensor) for name, tensor in TENSORS.items())


def test_same_content_same_bytes(tmp_path: Path) -> None:
    first = save(tmp_path).read_bytes()
    save_tensors(tmp_path / "b", dict(reversed(TENSORS.items())), METADATA)
    assert (tmp_path / "b").read_bytes() == first


def test_views_are_saved_as_what_they_show(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3).requires_grad_()
    save_tensors(tmp_path / "x", {"t": base.T, "row": base[1]}, {})
    tensors, _ = load_tensors(tmp_path / "x")
    assert torch.equal(tensors["t"], base.T) and torch.equal(tensors["row"], base[1])


def test_loaded_tensors_do_not_depend_on_the_file(tmp_path: Path) -> None:
    path = save(tmp_path)
    tensors, _ = load_tensors(path)
    tensors["weights"] += 1
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(tensors["weights"], TENSORS["weights"] + 1)


def test_metadata_must_be_json(tmp_path: Path) -> None:
    text = message(UsageError, lambda: save_tensors(tmp_path / "x", {}, {"a": object()}))
    assert "is not JSON" in text and not (tmp_path / "x").exists()


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = save(tmp_path)
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    padding = len(whole[8 : 8 + header]) - len(whole[8 : 8 + header].rstrip(b" "))
    for position in range(len(whole)):
        if 8 + header - padding <= position < 8 + header:
            continue  # blanks that only fill the header up
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        assert message(InputError, lambda: load_tensors(path)).startswith(str(path))


def test_every_truncation_is_found(tmp_path: Path) -> None:
    path = save(tmp_path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert message(InputError, lambda: load_tensors(path)).startswith(str(path))


def test_missing_and_folder(tmp_path: Path) -> None:
    assert message(InputError, lambda: load_tensors(tmp_path / "x")).endswith("x does not exist")
    assert "is a folder" in message(InputError, lambda: load_tensors(tmp_path))


def test_foreign_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"a": torch.ones(2)}, path)
    assert "looks like a PyTorch pickle" in message(InputError, lambda: load_tensors(path))
    path.write_bytes(pickle.dumps({"a": list(range(99))}))
    assert "looks like a Python pickle" in message(InputError, lambda: load_tensors(path))
    path.write_text('{"frames": []}')
    assert "looks like a JSON text" in message(InputError, lambda: load_tensors(path))
    path.write_bytes(b"ply\nformat ascii 1.0\n")
    assert "looks like a PLY file" in message(InputError, lambda: load_tensors(path))
    path.write_bytes(b"hello world, this is nothing")
    assert "is not a safetensors file" in message(InputError, lambda: load_tensors(path))
    path.write_bytes(b"")
    assert "is empty" in message(InputError, lambda: load_tensors(path))
    safetensors.torch.save_file({"a": torch.ones(2)}, path, metadata={"format": "pt"})
    assert "geodistill did not write it" in message(InputError, lambda: load_tensors(path))


def test_newer_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodistill.runs.tensors.FORMAT", 2)
    path = save(tmp_path)
    monkeypatch.undo()
    assert "format 2" in (text := message(InputError, lambda: load_tensors(path)))
    assert "upgrade geodistill" in text


# Atomic writes


def test_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o600)
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new" and names(tmp_path) == {"x"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_write_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    atomic_write(tmp_path / "link", lambda file: file.write(b"new"))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"


def full_disk_while_writing(file: IO[bytes]) -> None:
    file.write(b"half of it")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_while_writing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    text = message(InputError, lambda: atomic_write(tmp_path / "x", full_disk_while_writing))
    assert text.startswith(f"no space left on the disk to write {tmp_path / 'x'}")
    assert (tmp_path / "x").read_bytes() == b"old" and names(tmp_path) == {"x"}


def test_full_disk_at_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = save(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", fail)
    assert "no space left" in message(InputError, lambda: save_tensors(path, {}, {}))
    assert path.read_bytes() == before and names(tmp_path) == {path.name}


def test_interrupted_write(tmp_path: Path) -> None:
    def interrupted(file: IO[bytes]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "x", interrupted)
    assert names(tmp_path) == set()


def test_unwritable_places(tmp_path: Path) -> None:
    place = tmp_path / "no" / "x"
    assert "does not exist" in message(InputError, lambda: atomic_write(place, b""))
    assert "is a folder" in message(InputError, lambda: atomic_write(tmp_path, b""))


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are a POSIX notion")
def test_a_write_that_the_system_cuts_short(tmp_path: Path) -> None:
    """A real failing write: the process may not write files beyond 64 kB."""
    code = (
        "import resource, sys; from geodistill.runs import atomic_write\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "atomic_write(sys.argv[1], bytes(1 << 20))"
    )
    (tmp_path / "x").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x"], capture_output=True)
    assert b"InputError: cannot write" in done.stderr
    assert (tmp_path / "x").read_bytes() == b"old" and names(tmp_path) == {"x"}


# Kills


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


def whole_run(folder: Path, seed: int, overwrite: bool = True) -> None:
    run = Run.open(folder, "fit", {"seed": seed}, overwrite=overwrite)
    start = 0
    if (latest := run.latest()) is not None:
        start = latest[0]
        assert latest[1]["seed"] == seed, "a checkpoint of another run"
    for step in range(start + 1, 4):
        run.log(step, loss=seed / step)
        run.checkpoint(step, {"seed": torch.tensor(seed)}, {})
    save_tensors(run.path("field.safetensors"), {"seed": torch.tensor(seed)}, {})
    if seed == 1:
        atomic_write(run.path("only_in_the_first.txt"), b"")
    run.finish({"seed": seed})


@needs_fork
def test_kill_at_every_instant_of_an_overwriting_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a killed process has written stays with the system, so syncing would only cost time.
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    folder = tmp_path / "run"
    instant = 0
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        whole_run(folder, 1)
        if not crash(lambda: whole_run(folder, 2), instant):
            break
        field = int(load_tensors(folder / "field.safetensors")[0]["seed"])
        assert field in (1, 2)
        assert runs.result(folder) in ({"seed": 1}, {"seed": 2})
        if runs.result(folder) == {"seed": 2}:
            assert field == 2 and (folder / "config.yaml").read_text() == "seed: 2\n"
        whole_run(folder, 2)
        check_whole(folder)
        instant += 1
    check_whole(folder)
    assert instant > 30


@needs_fork
def test_kill_at_every_instant_of_a_new_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command again always goes on; it is never asked to overwrite."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    folder = tmp_path / "run"
    instant = 0
    while crash(lambda: whole_run(folder, 2, overwrite=False), instant):
        if runs.result(folder) is None:
            whole_run(folder, 2, overwrite=False)
        else:
            assert int(load_tensors(folder / "field.safetensors")[0]["seed"]) == 2
        instant += 1
        shutil.rmtree(folder)
    check_whole(folder)
    assert instant > 20


def check_whole(folder: Path) -> None:
    assert names(folder) == {
        ".lock",
        "DONE",
        "config.yaml",
        "env.json",
        "field.safetensors",
        "metrics.jsonl",
    }
    assert runs.result(folder) == {"seed": 2}
    assert int(load_tensors(folder / "field.safetensors")[0]["seed"]) == 2
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


# Run folders


def test_a_run(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", "fit", {"lr": 1e-5, "data": Path("a/b")})
    assert not run.resumed and run.latest() is None
    run.log(1, loss=0.5, bad=float("nan"), worse=torch.tensor(float("inf")))
    run.checkpoint(1, TENSORS, {"epoch": 3, "loss": 0.1})
    assert (step := run.latest()) is not None
    assert step[0] == 1 and step[2] == {"epoch": 3, "loss": 0.1}
    assert torch.equal(step[1]["weights"], TENSORS["weights"])
    run.finish({"psnr_db": 30.5, "output": Path("x/y")})
    folder = tmp_path / "run"
    assert names(folder) == {".lock", "DONE", "config.yaml", "env.json", "metrics.jsonl"}
    assert runs.result(folder) == {"psnr_db": 30.5, "output": "x/y"}
    line = json.loads((folder / "metrics.jsonl").read_text())
    assert line == {"step": 1, "loss": 0.5, "bad": None, "worse": None}
    env = json.loads((folder / "env.json").read_text())
    assert env["command"] == "fit" and env["torch"] == torch.__version__


def test_resume(tmp_path: Path) -> None:
    run = Run.open(tmp_path, "fit", {"lr": 1e-5})
    for step in range(1, 6):
        run.log(step, loss=step)
        if step == 3:
            run.checkpoint(step, {}, {})
    run.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')  # a kill in the middle of a line
    (tmp_path / ".checkpoint.safetensors.tmp-123").write_bytes(b"a killed writer's")
    run = Run.open(tmp_path, "fit", {"lr": 1e-5})
    assert run.resumed and (latest := run.latest()) and latest[0] == 3
    run.log(4, loss=4)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    assert not any("tmp-" in name for name in names(tmp_path))


def test_a_failed_run_lets_go_and_resumes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Run.open(tmp_path, "fit", {}) as run:
        run.checkpoint(3, {}, {})
        raise KeyboardInterrupt
    with Run.open(tmp_path, "fit", {}) as run:
        assert (latest := run.latest()) and latest[0] == 3
        run.finish({})
    assert runs.result(tmp_path) == {}


def test_a_run_that_came_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(InputError), Run.open(folder, "fit", {}):
        raise InputError("bad input")
    assert not folder.exists()
    whole_run(folder, 1)
    before = names(folder) - {".lock"}
    with pytest.raises(InputError), Run.open(folder, "fit", {}, overwrite=True):
        raise InputError("bad input")
    assert names(folder) == before
    with pytest.raises(InputError), Run.open(tmp_path / "kept", "fit", {}) as run:
        run.log(1, loss=2.0)
        raise InputError("diverged")
    assert "metrics.jsonl" in names(tmp_path / "kept")


def test_another_input_is_not_gone_on_with(tmp_path: Path) -> None:
    with Run.open(tmp_path, "fit", {}, inputs={"DATASET": "1"}) as run:
        run.checkpoint(3, {}, {})
    with Run.open(tmp_path, "fit", {}, inputs={"DATASET": "1"}) as run:
        assert run.resumed
    text = message(UsageError, lambda: Run.open(tmp_path, "fit", {}, inputs={"DATASET": "2"}))
    assert "an interrupted run with other contents of DATASET" in text
    with Run.open(tmp_path, "fit", {}, inputs={"DATASET": "2"}, overwrite=True) as run:
        assert not run.resumed


def test_resume_before_the_first_checkpoint(tmp_path: Path) -> None:
    run = Run.open(tmp_path, "fit", {})
    run.log(1, loss=1)
    run.close()
    run = Run.open(tmp_path, "fit", {})
    assert run.resumed and run.latest() is None
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_a_moved_run_resumes(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "here", "fit", {"a": 1})
    run.checkpoint(7, TENSORS, {})
    run.close()
    for path in (tmp_path / "here").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
    shutil.move(tmp_path / "here", tmp_path / "there")
    run = Run.open(tmp_path / "there", "fit", {"a": 1})
    assert run.resumed and (latest := run.latest()) and latest[0] == 7


def test_other_settings(tmp_path: Path) -> None:
    with Run.open(tmp_path, "fit", {"seed": 0, "opt": {"lr": 1.0}, "same": 1}) as run:
        run.checkpoint(1, {}, {})
    other = {"seed": 1, "opt": {"lr": 2.0}, "same": 1}
    text = message(UsageError, lambda: Run.open(tmp_path, "fit", other))
    assert "holds an interrupted run with other seed, opt.lr:" in text
    text = message(UsageError, lambda: Run.open(tmp_path, "convert", other))
    assert "holds an interrupted run of 'fit'" in text
    run = Run.open(tmp_path, "fit", other, overwrite=True)
    assert not run.resumed


def test_other_settings_replace_a_run_that_saved_nothing(tmp_path: Path) -> None:
    with Run.open(tmp_path, "fit", {"seed": 0}) as run:
        run.log(1, loss=1)
    with Run.open(tmp_path, "fit", {"seed": 1}) as run:
        assert not run.resumed
    assert not (tmp_path / "metrics.jsonl").exists()
    assert (tmp_path / "config.yaml").read_text() == "seed: 1\n"


def test_overwrite_drops_an_interrupted_run(tmp_path: Path) -> None:
    run = Run.open(tmp_path, "fit", {"seed": 0})
    run.log(1, loss=1)
    run.checkpoint(1, {}, {})
    run.close()
    run = Run.open(tmp_path, "fit", {"seed": 1}, overwrite=True)
    assert not run.resumed and run.latest() is None
    assert not (tmp_path / "metrics.jsonl").exists()


def test_overwrite_goes_on_with_the_same_run(tmp_path: Path) -> None:
    run = Run.open(tmp_path, "fit", {"seed": 0})
    run.checkpoint(1, {}, {})
    run.close()
    assert Run.open(tmp_path, "fit", {"seed": 0}, overwrite=True).latest() is not None


def test_a_finished_run_is_kept(tmp_path: Path) -> None:
    whole_run(tmp_path, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    text = message(UsageError, lambda: Run.open(tmp_path, "fit", {"seed": 1}))
    assert text == f"{tmp_path} exists and is finished: choose another -o or pass --overwrite"
    run = Run.open(tmp_path, "fit", {"seed": 2}, overwrite=True)
    save_tensors(run.staged(tmp_path / "field.safetensors"), {"seed": torch.tensor(2)}, {})
    run.close()
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert {**after, ".lock": b""} == {**before, ".lock": b""}
    run = Run.open(tmp_path, "fit", {"seed": 2}, overwrite=True)
    assert run.resumed
    run.finish({"seed": 2})
    assert int(load_tensors(tmp_path / "field.safetensors")[0]["seed"]) == 2
    assert "only_in_the_first.txt" not in names(tmp_path)


def test_a_file_added_by_the_user_survives_an_overwrite(tmp_path: Path) -> None:
    whole_run(tmp_path, 1)
    (tmp_path / "notes.txt").write_text("mine")
    whole_run(tmp_path, 2)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_not_a_run_folder(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"")
    text = message(UsageError, lambda: Run.open(tmp_path, "fit", {}, overwrite=True))
    assert "is not a run folder (it holds photo.png)" in text
    assert names(tmp_path) == {"photo.png"}
    text = message(UsageError, lambda: Run.open(tmp_path / "photo.png", "fit", {}))
    assert "is a file, not a run folder" in text
    text = message(InputError, lambda: Run.open(tmp_path / "photo.png" / "x", "fit", {}))
    assert "cannot write" in text


def test_outputs_outside_the_folder_are_kept(tmp_path: Path) -> None:
    folder, field = runs.output_paths(tmp_path / "x.safetensors")
    field.write_bytes(b"precious")
    text = message(UsageError, lambda: Run.open(folder, "fit", {}, outputs=[field]))
    assert text == f"{field} exists: choose another -o or pass --overwrite"
    assert not folder.exists()
    run = Run.open(folder, "fit", {}, overwrite=True, outputs=[field])
    run.staged(field).write_bytes(b"new")
    run.close()
    assert field.read_bytes() == b"precious", "until the run is finished"
    text = message(UsageError, lambda: Run.open(folder, "fit", {}, outputs=[field]))
    assert text.startswith(f"{field} exists")
    run = Run.open(folder, "fit", {}, overwrite=True, outputs=[field])
    assert run.resumed
    run.staged(field).write_bytes(b"newer")
    run.finish({})
    assert field.read_bytes() == b"newer" and field.name not in names(folder)


def test_an_output_that_was_put_out_by_a_killed_run_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, field = runs.output_paths(tmp_path / "x.safetensors")
    with pytest.raises(KeyboardInterrupt), Run.open(folder, "fit", {}, outputs=[field]) as run:
        run.staged(field).write_bytes(b"field")
        run.checkpoint(1, {}, {})
        with monkeypatch.context() as patch:
            patch.setattr(runs.layout, "conclude", interrupt)
            run.finish({})
    assert field.read_bytes() == b"field"
    with Run.open(folder, "fit", {}, outputs=[field]) as run:
        assert run.resumed
        run.staged(field).write_bytes(b"field")
        run.finish({"a": 1})
    assert runs.result(folder) == {"a": 1} and field.name not in names(folder)


def test_output_paths() -> None:
    assert runs.output_paths("a/b") == (Path("a/b"), Path("a/b/field.safetensors"))
    assert runs.output_paths("a/b.safetensors") == (Path("a/b.run"), Path("a/b.safetensors"))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    run = Run.open(tmp_path, "fit", {})
    code = f"from geodistill.runs import Run; Run.open({str(tmp_path)!r}, 'fit', {{}})"
    second = [sys.executable, "-c", code]
    done = subprocess.run(second, capture_output=True, text=True)
    assert f"another process (pid {os.getpid()}) is working in {tmp_path}" in done.stderr
    run.close()
    assert subprocess.run(second, capture_output=True).returncode == 0


def test_a_damaged_checkpoint_is_reported(tmp_path: Path) -> None:
    run = Run.open(tmp_path, "fit", {})
    run.checkpoint(1, TENSORS, {})
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    assert "does not match its checksum" in message(InputError, run.latest)


def test_log_on_a_full_disk(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    run = Run.open(tmp_path, "fit", {})
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    assert "no space left" in message(InputError, lambda: run.log(1, loss=1))
    run.close()


def test_jsonable() -> None:
    value = {"a": (1, 2.5), "b": torch.tensor([1.0, float("nan")]), "c": Path("x") / "y", 3: True}
    assert runs.jsonable(value) == {"a": [1, 2.5], "b": [1.0, None], "c": "x/y", "3": True}
    with pytest.raises(TypeError):
        runs.jsonable(object())


def test_a_scratch_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "film.mp4") as folder:
        (folder / "part").write_bytes(b"half")
    assert not folder.exists() and not list(tmp_path.iterdir())


def test_no_scratch_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    said = pytest.raises(InputError, match=r"cannot write film\.mp4: .* set TMPDIR")
    with said, scratch_folder(Path("film.mp4")):
        pass
