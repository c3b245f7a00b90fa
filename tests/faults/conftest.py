from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.commands import Host
from tests.faults.worlds import write_world

SMALL = ("--to", "plenoxels", "--set", "resolution=16", "--steps", "3")
"""The rest of a conversion that takes no time."""


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    if not hasattr(os, "fork"):
        pytest.skip("commands are run in forked processes")
    host = Host()
    yield host
    host.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of the analytic object."""
    return write_world(tmp_path_factory.mktemp("world") / "data")


@pytest.fixture(scope="session")
def teacher(host: Host, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A field file of the object."""
    folder = tmp_path_factory.mktemp("teacher")
    fitted = host.run(
        folder,
        *("fit", world, "--as", "plenoxels", "-o", "teacher.safetensors", "--quiet"),
        *("--set", "resolution=24", "--steps", "60"),
    )
    assert fitted.code == 0, fitted
    return folder / "teacher.safetensors"


@pytest.fixture(scope="session")
def finished(host: Host, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder; `done` gives a test its own."""
    folder = tmp_path_factory.mktemp("finished")
    converted = host.run(folder, "convert", teacher, "-o", "done", "--quiet", *SMALL)
    assert converted.code == 0, converted
    return folder / "done"


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    """A finished run folder that a command may be told to overwrite."""
    return shutil.copytree(finished, tmp_path / "done")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory, given its options, where the system lets us."""
    place = tmp_path / "mounted"
    place.mkdir()
    mounted = []

    def mount_with(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("only root may mount a file system")
        mounted.append(place)
        return place

    yield mount_with
    for path in mounted:
        subprocess.run(["umount", str(path)], check=True)
