"""Features that are kept for the next time."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from geodistill.geometry.mesh import Mesh
from geodistill.lift import kept as keeping
from geodistill.lift.files import FeatureSet
from geodistill.lift.kept import kept
from tests.deform.shapes import blob
from tests.deform.test_deform_command import textured
from tests.viewer.editing import features_of

HOW = {"views": 24, "resolution": 256, "seed": 0}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEODISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


class Finder:
    """Counts how often features are looked for."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.times = mesh, 0

    def __call__(self) -> FeatureSet:
        self.times += 1
        return features_of(self.mesh)


def test_the_second_time_they_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    mesh = textured(blob(2))
    find = Finder(mesh)
    first = kept(mesh, "teacher", HOW, find)
    assert capsys.readouterr().err == ""
    second = kept(mesh, "teacher", HOW, find)
    assert find.times == 1 and torch.equal(first.features, second.features)
    assert "those of the last time" in capsys.readouterr().err


def test_what_they_come_from_tells_them_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = textured(blob(2))
    (material,) = mesh.materials
    assert material.texture is not None and mesh.uv is not None
    painted = replace(material, texture=255 - material.texture)
    meshes = [
        mesh,
        replace(mesh, vertices=mesh.vertices + 1),
        replace(mesh, uv=mesh.uv.flip(1)),
        replace(mesh, materials=(painted,)),
        replace(mesh, colors=torch.full((len(mesh.vertices), 4), 9, dtype=torch.uint8)),
    ]
    find = Finder(mesh)
    for made in meshes:
        kept(made, "teacher", HOW, find)
    kept(mesh, "another", HOW, find)
    for name in HOW:
        kept(mesh, "teacher", {**HOW, name: 7}, find)
    wanted = len(meshes) + 1 + len(HOW)
    assert find.times == wanted
    monkeypatch.setattr(keeping, "_code", lambda: "another geodistill")
    kept(mesh, "teacher", HOW, find)
    assert find.times == wanted + 1


def test_a_damaged_file_is_said_and_made_again(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh = blob(2)
    find = Finder(mesh)
    kept(mesh, "teacher", HOW, find)
    (file,) = cache.iterdir()
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data)
    found = kept(mesh, "teacher", HOW, find)
    assert find.times == 2 and "found anew" in capsys.readouterr().err
    assert torch.equal(kept(mesh, "teacher", HOW, find).features, found.features)
    assert find.times == 2


def test_features_of_another_mesh_are_not_taken(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(blob(2), "teacher", HOW, Finder(blob(2)))
    (file,) = cache.iterdir()
    other = file.read_bytes()
    file.unlink()
    mesh = blob(1)
    find = Finder(mesh)
    kept(mesh, "teacher", HOW, find)
    (file,) = cache.iterdir()
    file.write_bytes(other)
    assert len(kept(mesh, "teacher", HOW, find).features) == len(mesh.vertices)
    assert find.times == 2 and "found anew" in capsys.readouterr().err


def test_several_may_keep_the_same_at_once(cache: Path) -> None:
    mesh, count = blob(2), 4
    find, together = Finder(mesh), threading.Barrier(count, timeout=60)

    def at_once() -> FeatureSet:
        together.wait()  # nobody has kept anything before everybody looks for it
        return features_of(mesh)

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(kept, mesh, "teacher", HOW, at_once) for _ in range(count)]
        assert all(torch.equal(f.result().features, features_of(mesh).features) for f in futures)
    assert len(list(cache.iterdir())) == 1
    kept(mesh, "teacher", HOW, find)
    assert find.times == 0


def test_what_a_killed_process_left_goes_once_nobody_can_be_writing_it(cache: Path) -> None:
    cache.mkdir(parents=True)
    old, new = (cache / f".some.safetensors.tmp-{name}" for name in ("0ld", "new"))
    for path in (old, new):
        path.write_bytes(b"half of it")
    os.utime(old, (1, 1))
    kept(blob(2), "teacher", HOW, Finder(blob(2)))
    assert not old.exists() and new.exists()


def test_a_cache_that_cannot_be_written_does_no_harm(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.parent.mkdir()
    cache.write_text("no folder")
    mesh = blob(2)
    found = kept(mesh, "teacher", HOW, Finder(mesh))
    assert torch.equal(found.features, features_of(mesh).features)
    assert "not kept for the next time" in capsys.readouterr().err


def test_what_was_not_used_for_longest_goes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = blob(2)
    find = Finder(mesh)
    for number in range(3):
        kept(mesh, f"teacher {number}", HOW, find)
        (new,) = (path for path in cache.iterdir() if path.stat().st_mtime > 1e6)
        os.utime(new, (number, number))
    kept(mesh, "teacher 0", HOW, find)  # used again: the oldest is teacher 1's now
    size = next(cache.iterdir()).stat().st_size
    monkeypatch.setattr(keeping, "MOST_BYTES", 3 * size)
    kept(mesh, "teacher 3", HOW, find)
    assert find.times == 4 and len(list(cache.iterdir())) == 3
    kept(mesh, "teacher 0", HOW, find)
    kept(mesh, "teacher 2", HOW, find)
    assert find.times == 4
    kept(mesh, "teacher 1", HOW, find)
    assert find.times == 5
