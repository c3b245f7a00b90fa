"""Files of runs: checksummed tensors, and writes that a crash cannot spoil."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import pytest
import safetensors.torch
import torch

from geodistill import runs
from geodistill.checks import InputError, UsageError
from geodistill.runs import (
    atomic_write,
    load_tensors,
    read_metadata,
    save_tensors,
    scratch_folder,
    write_files,
)
from tests.run_folders import METADATA, TENSORS, message, names, save

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


def test_the_files_of_a_format(tmp_path: Path) -> None:
    """Folders are made, pieces joined, and what comes first is there when a later one fails."""
    path = tmp_path / "run/config.yml"
    write_files(path, {"data/images/a.png": b"one", "data/b": [b"t", b"w", b"o"], path.name: b"3"})
    written = {str(file.relative_to(path.parent)): file for file in path.parent.rglob("*")}
    found = {name: file.read_bytes() for name, file in written.items() if file.is_file()}
    assert found == {"data/images/a.png": b"one", "data/b": b"two", "config.yml": b"3"}
    with pytest.raises(InputError, match="a file stands where a folder is needed"):
        write_files(path, {"data/c": b"new", "data/b/d": b"", path.name: b"4"})
    assert path.read_bytes() == b"3" and (tmp_path / "run/data/c").read_bytes() == b"new"


# Folders for others' files


def test_a_scratch_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "film.mp4") as folder:
        (folder / "part").write_bytes(b"half")
    assert not folder.exists() and not list(tmp_path.iterdir())


def test_no_scratch_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    said = pytest.raises(InputError, match=r"cannot write film\.mp4: .* set TMPDIR")
    with said, scratch_folder(Path("film.mp4")):
        pass


@pytest.mark.parametrize("name", [None, "a.glb"])
def test_a_finished_run_stands_for_its_result(tmp_path: Path, name: str | None) -> None:
    """In its folder, or beside it."""
    folder = tmp_path / ("run" if name is None else f"{name}.run")
    folder.mkdir()
    file = folder / "splats.ply" if name is None else tmp_path / name
    file.write_bytes(b"")
    assert runs.result_file(folder) == folder
    (folder / "config.yaml").write_text("")
    assert runs.is_unfinished(folder)
    (folder / "DONE").write_text("{}")
    assert runs.result_file(folder) == file and not runs.is_unfinished(folder)
    assert runs.result_file(file) == file
