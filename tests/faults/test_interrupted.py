"""Commands that are struck in the middle: killed, interrupted, or left without disk space.

Each is struck again and again at another point, and given again each time. In the end its output
is, to the bit, that of a command that was left alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from geodistill.runs.tensors import load_tensors, read_metadata, save_tensors
from tests.faults.commands import Host, complaint, contents, lasting, struck, then
from tests.faults.host import TESTS

STEPS = 24
INTERRUPTED = "interrupted; the same command goes on from its last checkpoint, if any"

FITS = {
    "ngp": ("log2_size=10", "levels=4", "max_resolution=64"),
    "tensorf": ("resolution=16", "density_rank=2", "color_rank=4", "floor=-2"),
    "tensorf-cp": ("resolution=16", "density_rank=6", "color_rank=12", "floor=-2"),
    "plenoxels": ("resolution=16",),
    "mlp": ("depth=2", "width=16", "octaves=4"),
    "composite": (
        *("ngp.log2_size=10", "ngp.levels=4", "ngp.max_resolution=64"),
        *("tensorf.resolution=16", "tensorf.density_rank=2", "tensorf.color_rank=4"),
    ),
}

EVERYWHERE = (
    ("folder", 1),  # nothing is there yet
    ("begun", 1),  # env.json is written
    ("written", 2),  # config.yaml is complete
    ("step", 1),
    ("checkpoint", 1),  # a step is done and not saved
    ("begun", 5),
    ("written", 3),  # some checkpoint is complete, the one before it in place
    ("step", 3),
    ("log", 1),
    ("log", 2),
    ("step", 4),
    ("written", 4),
    ("field", 1),  # training is over
    ("judge", 1),  # the field is written
    ("finish", 1),
)
"""Points and the number of the call that is struck, counted from where the last strike left off."""

SOME = (("step", 2), ("written", 3), ("log", 1), ("step", 6), ("judge", 1))


def fit(world: Path, name: str, steps: int = STEPS) -> tuple[object, ...]:
    return ("fit", world, "--as", name, *_rest(name, steps=steps))


def convert(teacher: Path, name: str, *more: str) -> tuple[object, ...]:
    return ("convert", teacher, "--to", name, *_rest(name, *more))


def _rest(name: str, *more: str, steps: int = STEPS) -> tuple[str, ...]:
    settings = (part for key in FITS[name] for part in ("--set", key))
    return (*settings, "--steps", str(steps), "--quiet", "-o", "out", *more)


Reference = Callable[[tuple[object, ...]], dict[str, bytes]]


@pytest.fixture(scope="module")
def reference(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What a command makes when nothing happens to it."""
    known: dict[tuple[object, ...], dict[str, bytes]] = {}

    def left_alone(command: tuple[object, ...]) -> dict[str, bytes]:
        if command not in known:
            known[command] = then(host, tmp_path_factory.mktemp("whole"), command)
        return known[command]

    return left_alone


@pytest.mark.parametrize("name", FITS)
def test_a_fit_survives_kills(
    name: str, host: Host, reference: Reference, world: Path, tmp_path: Path
) -> None:
    command, folder = fit(world, name), tmp_path / "killed"
    folder.mkdir()
    points = EVERYWHERE if name == "ngp" else SOME
    killed = struck(host, folder, command, points, "kill")
    assert {result.code for result in killed} == {-9}
    assert then(host, folder, command) == reference(command)


CONVERSIONS = {
    "default": ("tensorf", ()),
    "pvd": ("ngp", ("--recipe", "pvd")),
    "active": ("tensorf", ("--recipe", "pvd", "--active", "cameras,rays,points")),
}


@pytest.mark.parametrize("recipe", CONVERSIONS)
def test_a_conversion_survives_kills(
    recipe: str, host: Host, reference: Reference, teacher: Path, tmp_path: Path
) -> None:
    name, more = CONVERSIONS[recipe]
    command, folder = convert(teacher, name, *more), tmp_path / "killed"
    folder.mkdir()
    points = EVERYWHERE if recipe == "default" else SOME
    killed = struck(host, folder, command, points, "kill")
    assert {result.code for result in killed} == {-9}
    assert then(host, folder, command) == reference(command)


def test_a_fresh_process_goes_on_where_a_killed_one_stopped(
    host: Host, reference: Reference, world: Path, tmp_path: Path
) -> None:
    """Nothing that decides the result is left over from the process of the other tests."""
    command, folder = fit(world, "ngp"), tmp_path / "killed"
    folder.mkdir()
    struck(host, folder, command, (("step", 9),), "kill")
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; import torch; torch.set_num_threads(1)\n"
        "from tests.faults.small import shrink; shrink()\n"
        "from geodistill.cli import main; sys.exit(main(sys.argv[3:]))"
    )
    argv = [str(TESTS.parent), str(TESTS), *map(str, command)]
    subprocess.run([sys.executable, "-c", code, *argv], cwd=folder, check=True)
    assert lasting(folder) == reference(command)


@pytest.mark.parametrize("strike", ["interrupt", "terminate"])
def test_ctrl_c_ends_with_one_line_and_a_run_that_goes_on(
    strike: str, host: Host, reference: Reference, world: Path, tmp_path: Path
) -> None:
    """Each strike is obeyed once its step is done and saved: all of them need twice the steps."""
    command, folder = fit(world, "ngp", 2 * STEPS), tmp_path / "stopped"
    folder.mkdir()
    points = EVERYWHERE if strike == "interrupt" else SOME
    for result in struck(host, folder, command, points, strike):
        said = complaint(result, 130)
        assert said == f"geodistill fit: {INTERRUPTED}"
    assert not list(folder.rglob("*.tmp-*"))
    assert then(host, folder, command) == reference(command)


def test_ctrl_c_saves_what_was_done_since_the_last_checkpoint(
    host: Host, reference: Reference, world: Path, tmp_path: Path
) -> None:
    command, folder = fit(world, "ngp"), tmp_path / "stopped"
    folder.mkdir()
    assert host.run(folder, *command, strike=("step", 9, "interrupt")).code == 130
    checkpoint = folder / "out" / "checkpoint.safetensors"
    assert read_metadata(checkpoint)["step"] == 8
    assert then(host, folder, command) == reference(command)


@pytest.mark.parametrize("verb", ["fit", "convert"])
def test_other_inputs_are_not_gone_on_with(
    verb: str, host: Host, teacher: Path, world: Path, tmp_path: Path
) -> None:
    """Same command and same names, but another scene than the one that was interrupted."""
    shutil.copytree(world, tmp_path / "data")
    field = shutil.copy(teacher, tmp_path / "src.safetensors")
    command = convert(field, "tensorf") if verb == "convert" else fit(Path("data"), "ngp")
    assert host.run(tmp_path, *command, strike=("step", 9, "interrupt")).code == 130
    before = contents(tmp_path / "out")
    if verb == "fit":
        shutil.copy(world / "train" / "r_0.png", tmp_path / "data" / "train" / "r_1.png")
    else:
        tensors, metadata = load_tensors(field)
        tensors["world_from_field"][0, 3] += 1
        save_tensors(field, tensors, metadata)
    said = complaint(host.run(tmp_path, *command), 2)
    name = {"fit": "DATASET", "convert": "SRC"}[verb]
    assert f"an interrupted run with other contents of {name}: run it as before" in said
    assert contents(tmp_path / "out") == before
    assert host.run(tmp_path, *command, "--overwrite").code == 0


def test_ctrl_c_stops_a_conversion(
    host: Host, reference: Reference, teacher: Path, tmp_path: Path
) -> None:
    command, folder = convert(teacher, "tensorf"), tmp_path / "stopped"
    folder.mkdir()
    for result in struck(host, folder, command, (("survey", 1), *SOME), "interrupt"):
        said = complaint(result, 130)
        assert said == f"geodistill convert: {INTERRUPTED}"
    assert then(host, folder, command) == reference(command)


OVERWRITING = (("step", 1), ("begun", 3), ("step", 9), ("field", 1), ("judge", 1), ("finish", 1))


@pytest.mark.parametrize("strike", ["kill", "interrupt", "full"])
def test_a_finished_run_stays_until_the_new_one_is_complete(
    strike: str, host: Host, reference: Reference, teacher: Path, done: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "struck"
    folder.mkdir()
    done.rename(folder / "out")
    before = contents(folder)
    command = (*convert(teacher, "tensorf"), "--overwrite")
    for point in OVERWRITING:
        struck(host, folder, command, (point,), strike)
        assert contents(folder) == before, point
    assert then(host, folder, command) == reference(command)


def test_a_field_file_is_the_old_one_or_the_new_one(
    host: Host, reference: Reference, teacher: Path, tmp_path: Path
) -> None:
    """An output that is given as a file has its run folder beside it."""
    command = (*convert(teacher, "tensorf")[:-1], "new.safetensors", "--overwrite")
    folder, old = tmp_path / "struck", teacher.read_bytes()
    folder.mkdir()
    (folder / "new.safetensors").write_bytes(old)
    for point in (("step", 3), ("field", 1), ("judge", 1), ("finish", 1)):
        struck(host, folder, command, (point,), "kill")
        assert (folder / "new.safetensors").read_bytes() == old, "until the run is finished"
    assert then(host, folder, command) == reference(command)


FULL = (("folder", 1), ("step", 1), ("checkpoint", 2), ("log", 1), ("field", 1), ("judge", 1))


@pytest.mark.parametrize("verb", ["fit", "convert"])
def test_a_full_disk_ends_with_one_line_and_a_run_that_goes_on(
    verb: str, host: Host, reference: Reference, world: Path, teacher: Path, tmp_path: Path
) -> None:
    command = fit(world, "ngp") if verb == "fit" else convert(teacher, "tensorf")
    folder = tmp_path / "full"
    folder.mkdir()
    for result in struck(host, folder, command, FULL, "full"):
        said = complaint(result, 1)
        assert said.startswith(f"geodistill {verb}: cannot write out/")
        assert said.endswith(": files may not grow that large here, choose another output")
    assert not list(folder.rglob("*.tmp-*"))
    assert then(host, folder, command) == reference(command)


@pytest.mark.parametrize("free_kb", [0, 30, 100, 200])
def test_a_disk_without_space_for_the_new_run_keeps_the_old_one(
    free_kb: int,
    host: Host,
    reference: Reference,
    teacher: Path,
    finished: Path,
    mount: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """A real file system, with less and less left on it."""
    command = (*convert(teacher, "tensorf"), "--overwrite")
    disk = mount("size=4m")
    shutil.copytree(finished, disk / "out")
    before = contents(disk)
    space = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(bytes(space.f_bavail * space.f_frsize - 1024 * free_kb))
    said = complaint(host.run(disk, *command, every_step=True), 1)
    assert "no space left on the disk to write" in said and "free some and run again" in said
    assert {name: contents(disk)[name] for name in before} == before
    filler.unlink()
    assert then(host, disk, command) == reference(command)


def test_a_folder_that_is_read_only(
    host: Host, teacher: Path, world: Path, mount: Callable[[str], Path]
) -> None:
    disk = mount("size=1m")
    (disk / "views").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    render = ("render", teacher, "--orbit", "1", "--resolution", "16", "-o")
    compare = ("compare", teacher, teacher, "--views", "1", "--resolution", "16", "-o")
    for command in (
        fit(world, "plenoxels"),
        convert(teacher, "tensorf"),
        (*render, "views"),
        (*render, "new"),
        (*compare, "sheet.png"),
    ):
        said = complaint(host.run(disk, *command), 1)
        assert "no permission to write" in said and said.endswith(": choose another output")


def test_pictures_on_a_full_disk_are_the_old_ones(
    host: Host, teacher: Path, tmp_path: Path
) -> None:
    render = ("render", teacher, "--orbit", "2", "--resolution", "16", "--quiet", "-o")
    compare = ("compare", teacher, teacher, "--views", "1", "--resolution", "16", "--quiet", "-o")
    commands = [(*render, "views"), (*compare, "sheet.png")]
    if find_spec("OpenEXR"):
        commands.append((*render, "layers", "--format", "exr"))
    if find_spec("imageio_ffmpeg"):
        commands.append((*render, "film.mp4"))
    for command in commands:
        assert host.run(tmp_path, *command).code == 0
        before = contents(tmp_path)
        again = host.run(tmp_path, *command, "--overwrite", strike=("begun", 0, "full"))
        said = complaint(again, 1)
        assert "cannot write " in said or "no space left in " in said
        assert contents(tmp_path) == before
