"""Run folders: begun, resumed, finished, overwritten, moved."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from geodistill import runs
from geodistill.checks import InputError, UsageError
from geodistill.runs import (
    Run,
    load_tensors,
    save_tensors,
)
from tests.run_folders import TENSORS, message, names, whole_run


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


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


def test_what_an_interrupted_run_put_out_goes_with_it(tmp_path: Path) -> None:
    with Run.open(tmp_path, "train", {"seed": 0}) as run:
        run.checkpoint(1, {"x": torch.zeros(1)}, {})
        save_tensors(run.path("best.safetensors"), {"x": torch.zeros(1)}, {})
        run.path("tensorboard").mkdir()
    Run.open(tmp_path, "train", {"seed": 1}, overwrite=True).close()
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"config.yaml", "env.json", ".lock"}


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    with Run.open(tmp_path, "train", {"seed": 0}) as run:
        run.checkpoint(1, {"x": torch.zeros(1)}, {})
    (tmp_path / "config.yaml").write_text("[")
    with pytest.raises(InputError, match=r"is not valid YAML.* --overwrite begins the run anew"):
        Run.open(tmp_path, "train", {"seed": 0})
    Run.open(tmp_path, "train", {"seed": 0}, overwrite=True).close()
    assert (tmp_path / "config.yaml").read_text() == "seed: 0\n"


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    with Run.open(tmp_path, "train", {"seed": 0}) as run:
        save_tensors(run.path("checkpoint.safetensors"), {"x": torch.zeros(1)}, {})
    with pytest.raises(InputError, match=r"is no checkpoint of a run: delete .* to begin"):
        Run.open(tmp_path, "train", {"seed": 0}).latest()


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
    assert runs.output_paths("a/b.safetensors") == (
        Path("a/b.safetensors.run"),
        Path("a/b.safetensors"),
    )


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
