"""Requests that make no sense: refused without touching what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.commands import Host, complaint, contents
from tests.faults.conftest import SMALL

CASES: dict[str, tuple[tuple[str, ...], str]] = {
    "architecture to": (
        ("convert", "{src}", "--to", "tensorff"),
        "'--to' must be one of ngp, tensorf, tensorf-cp, plenoxels, mlp, composite, splats, mesh, "
        "got 'tensorff' (did you mean 'tensorf'?)",
    ),
    "architecture from": (
        ("convert", "{src}", "--from", "plenoxel", "--to", "ngp"),
        "got 'plenoxel' (did you mean 'plenoxels'?)",
    ),
    "architecture as": (("fit", "{data}", "--as", "mpl"), "got 'mpl' (did you mean 'mlp'?)"),
    "wrong from": (
        ("convert", "{src}", "--from", "ngp", "--to", "ngp"),
        "teacher.safetensors is plenoxels, not ngp: leave --from out or name the architecture",
    ),
    "unknown key": (
        ("convert", "{src}", "--to", "ngp", "--set", "levls=3"),
        "unknown key 'levls' (did you mean 'levels'?); known: levels, features, ",
    ),
    "key of another": (
        ("convert", "{src}", "--to", "mlp", "--set", "levels=3"),
        "unknown key 'levels'",
    ),
    "nested key": (
        ("fit", "{data}", "--as", "composite", "--set", "ngp.levls=3"),
        "unknown key 'ngp.levls' (did you mean 'levels'?)",
    ),
    "not key=value": (
        ("convert", "{src}", "--to", "ngp", "--set", "levels"),
        "'levels' is not of the form key=value",
    ),
    "type": (
        ("convert", "{src}", "--to", "ngp", "--set", "levels=three"),
        "'levels' must be an integer, got 'three'",
    ),
    "choice": (
        ("convert", "{src}", "--to", "ngp", "--set", "convention=tiny"),
        "'convention' must be one of",
    ),
    "no levels": (
        ("convert", "{src}", "--to", "ngp", "--set", "levels=0"),
        "'levels' must be at least 1, got 0",
    ),
    "no width": (
        ("fit", "{data}", "--as", "mlp", "--set", "width=-4"),
        "'width' must be at least 1, got -4",
    ),
    "no voxels": (
        ("convert", "{src}", "--to", "plenoxels", "--set", "resolution=0"),
        "'resolution' must be at least 8, got 0",
    ),
    "no rank": (
        ("convert", "{src}", "--to", "composite", "--set", "tensorf.density_rank=0"),
        "'tensorf.density_rank' must be at least 1, got 0",
    ),
    "nan": (
        ("convert", "{src}", "--to", "tensorf", "--set", "floor=nan"),
        "'floor' must be finite, got nan",
    ),
    "huge table": (
        ("convert", "{src}", "--to", "ngp", "--set", "log2_size=60"),
        "log2_size is 60; it must be from 3 to 28",
    ),
    "steps": (("convert", "{src}", "--to", "ngp", "--steps", "0"), "--steps must be at least 1"),
    "steps and budget": (
        ("convert", "{src}", "--to", "ngp", "--steps", "9", "--budget", "9s"),
        "--steps and --budget both say when to stop: give one of them",
    ),
    "budget": (
        ("convert", "{src}", "--to", "ngp", "--budget", "soon"),
        "--budget: 'soon' is not a duration: write it as 90s, 2m or 1h",
    ),
    "seed": (("fit", "{data}", "--as", "ngp", "--seed", "-1"), "--seed must be from 0 to"),
    "threads": (
        ("convert", "{src}", "--to", "ngp", "--threads", "100000000"),
        "--threads must be at most 1024, got 100000000",
    ),
    "device of a fit": (
        ("fit", "{data}", "--as", "ngp", "--device", "cuda"),
        "--device cuda: only fit --as splats trains on a GPU so far; leave --device out",
    ),
    "device of a conversion": (
        ("convert", "{src}", "--to", "ngp", "--device", "cuda"),
        "--device cuda: only fit --as splats trains",
    ),
    "active": (
        ("convert", "{src}", "--to", "ngp", "--active", "rays"),
        "--active belongs to --recipe pvd: add it or leave --active out",
    ),
    "level": (
        ("convert", "{src}", "--to", "ngp", "--recipe", "pvd", "--active", "ray"),
        "got 'ray' (did you mean 'rays'?)",
    ),
    "background": (
        ("compare", "{src}", "{src}", "--background", "black"),
        "--background says what is behind the images of --data, which is missing",
    ),
    "viewpoints beside data": (
        ("compare", "{src}", "{src}", "--data", "{data}", "--views", "3"),
        "--views, --resolution and --seed are for viewpoints without --data",
    ),
    "enormous steps": (
        ("convert", "{src}", "--to", "ngp", "--steps", "1" + "0" * 24),
        "--steps must be at most 1000000000",
    ),
    "split": (
        ("render", "{src}", "--data", "{data}", "--split", "tset"),
        "unknown split 'tset' (did you mean 'test'?)",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused(
    case: str, host: Host, teacher: Path, world: Path, done: Path, tmp_path: Path
) -> None:
    argv, reason = CASES[case]
    argv = tuple(part.format(src=teacher, data=world) for part in argv)
    if argv[0] != "render":
        argv = (*argv, "--overwrite")
    before = contents(tmp_path)
    said = complaint(host.run(tmp_path, *argv, "-o", done), 2)
    assert reason in said
    assert contents(tmp_path) == before


OUTPUTS = {
    "fit": (
        ("fit", "{data}", "--as", "ngp", "-o", "out.onnx"),
        ".onnx is not written",
    ),
    "convert": (
        ("convert", "{src}", "--to", "ngp", "-o", "out.npz"),
        "-o out.npz: .npz files hold plenoxels, not ngp",
    ),
    "compare": (
        ("compare", "{src}", "{src}", "-o", "out.jpg"),
        "-o out.jpg: the contact sheet is a PNG, name it NAME.png",
    ),
    "render": (
        ("render", "{src}", "--orbit", "2", "-o", "out.gif"),
        "-o out.gif: name a folder for pictures (--format png or exr) or NAME.mp4",
    ),
    "no film of two channels": (
        ("render", "{src}", "--orbit", "2", "--channels", "depth,color", "-o", "out.MP4"),
        "a film shows one channel",
    ),
    "no channels": (
        ("render", "{src}", "--orbit", "2", "--channels", "", "-o", "out"),
        "--channels",
    ),
    "enormous": (
        ("render", "{src}", "--orbit", "2", "--resolution", "1" + "0" * 30, "-o", "out"),
        "--resolution must be at most 100000",
    ),
    "a split of nothing": (
        ("render", "{src}", "--orbit", "2", "--split", "train", "-o", "out"),
        "--split says which views of --data to render, which is missing",
    ),
    "nowhere": (("render", "{src}", "--orbit", "2", "-o", ""), "--output is empty"),
    "render into another's folder": (
        ("render", "{src}", "--orbit", "2", "-o", "done"),
        "done holds other things (",
    ),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_an_output_of_another_kind_is_refused(
    case: str, host: Host, teacher: Path, world: Path, done: Path, tmp_path: Path
) -> None:
    argv, reason = OUTPUTS[case]
    before = contents(tmp_path)
    argv = tuple(part.format(src=teacher, data=world) for part in argv)
    assert reason in complaint(host.run(tmp_path, *argv), 2)
    assert contents(tmp_path) == before


def test_a_finished_run_whose_field_is_gone_says_so(
    host: Host, teacher: Path, tmp_path: Path
) -> None:
    command = ("convert", teacher, "-o", "out.safetensors", "--quiet", *SMALL)
    assert host.run(tmp_path, *command).code == 0
    field = (tmp_path / "out.safetensors").read_bytes()
    (tmp_path / "out.safetensors").unlink()
    said = complaint(host.run(tmp_path, *command), 2)
    assert (
        "out.safetensors is gone, though its run out.safetensors.run is finished: pass --overwrite"
        in said
    )
    assert host.run(tmp_path, *command, "--overwrite").code == 0
    assert (tmp_path / "out.safetensors").read_bytes() == field


def test_a_finished_output_is_not_replaced_unasked(
    host: Host, teacher: Path, done: Path, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    said = complaint(host.run(tmp_path, "convert", teacher, "-o", "done", *SMALL), 2)
    assert "done exists and is finished: choose another -o or pass --overwrite" in said
    assert contents(tmp_path) == before


@pytest.mark.parametrize("target", ["source.safetensors", "source.run/../source.safetensors"])
def test_a_source_is_not_overwritten_by_its_student(
    target: str, host: Host, teacher: Path, tmp_path: Path
) -> None:
    """A run that is interrupted after that could not be resumed: its teacher would be gone."""
    source = tmp_path / "source.safetensors"
    source.write_bytes(teacher.read_bytes())
    (tmp_path / "source.run").mkdir()
    command = ("convert", "source.safetensors", "-o", target, "--overwrite")
    said = complaint(host.run(tmp_path, *command, *SMALL), 2)
    assert "is what is to be converted: choose another -o" in said
    assert source.read_bytes() == teacher.read_bytes()


@pytest.mark.parametrize("source", ["run", "run/field.safetensors"])
def test_a_run_is_not_replaced_by_what_is_made_of_it(
    source: str, host: Host, teacher: Path, tmp_path: Path
) -> None:
    """The files of the old run go when the new one takes its place, whatever they are called."""
    assert host.run(tmp_path, "convert", teacher, "-o", "run", *SMALL).code == 0
    before = contents(tmp_path)
    command = ("convert", source, "--to", "mesh", "-o", "run", "--overwrite")
    said = complaint(host.run(tmp_path, *command), 2)
    assert "run holds what is to be converted: choose another -o" in said
    assert contents(tmp_path) == before


def test_an_interrupted_run_is_not_taken_for_another(
    host: Host, teacher: Path, tmp_path: Path
) -> None:
    command = ("convert", teacher, "-o", "out", "--quiet", *SMALL)
    assert host.run(tmp_path, *command, strike=("finish", 1, "kill")).code == -9
    before = contents(tmp_path)
    said = complaint(host.run(tmp_path, *command, "--seed", "1"), 2)
    assert "out holds an interrupted run with other seed: run it as before" in said
    assert contents(tmp_path) == before
    assert host.run(tmp_path, *command).code == 0
