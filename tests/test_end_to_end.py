"""The whole program from a data set on disk to pictures, through its command line.

Sizes and steps are tiny, so fields are rough; what is checked is that every road is open, that the
figures that come out of different commands agree, and that everything stands where the user put it.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import AnalyticField

import geodistill
from geodistill import cli
from geodistill.cameras import Similarity, look_at
from geodistill.cli.conversion import BUNDLED
from tests.faults.small import shrink
from tests.faults.worlds import VIEWS, write_world

FITS: dict[str, tuple[int, tuple[str, ...]]] = {
    "ngp": (80, ("log2_size=12", "levels=4", "max_resolution=64")),
    "tensorf": (80, ("resolution=24", "density_rank=4", "color_rank=8", "floor=0")),
    "tensorf-cp": (80, ("resolution=24", "density_rank=12", "color_rank=24", "floor=0")),
    "plenoxels": (80, ("resolution=24",)),
    "mlp": (60, ("depth=2", "width=32", "octaves=4")),
    "composite": (
        80,
        (
            *("ngp.log2_size=10", "ngp.levels=4", "ngp.max_resolution=64"),
            *("tensorf.resolution=24", "tensorf.density_rank=4", "tensorf.color_rank=8"),
            "tensorf.floor=-2",
        ),
    ),
}
"""Steps and settings of a small field of each architecture."""

FIDELITY = {
    *("output", "psnr_db", "ssim", "opacity_iou", "depth_error"),
    *("seconds", "parameters", "bytes"),
}
WHITE_DB = 8.0
"""PSNR of a white picture to the test views: what a field that learnt nothing reaches."""


@dataclass(frozen=True)
class Ended:
    """How a command that succeeded ended."""

    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The last line of stdout, with nothing before it."""
        (line,) = self.out.splitlines()
        return json.loads(line)


def geodistill_(*argv: object) -> Ended:
    """Run a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([str(argument) for argument in argv])
    assert code == 0, err.getvalue()
    return Ended(out.getvalue(), err.getvalue())


def settings(name: str, steps: int | None = None) -> list[str]:
    default, keys = FITS[name]
    return [*(p for k in keys for p in ("--set", k)), "--steps", str(steps or default), "--json"]


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Small sizes and one thread while this file is tested."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch.setattr)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world") / "data")


@pytest.fixture(scope="module")
def fields(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """A field of each architecture: what `fit --json` said of it."""
    folder = tmp_path_factory.mktemp("fields")
    return {
        name: geodistill_("fit", world, "--as", name, "-o", folder / name, *settings(name)).json
        for name in FITS
    }


@pytest.mark.parametrize("name", FITS)
def test_fit(name: str, fields: dict[str, dict[str, Any]]) -> None:
    fitted, folder = fields[name], Path(fields[name]["output"])
    assert fitted.keys() >= {"output", "test_psnr_db", "seconds", "parameters", "bytes"}
    assert fitted["test_psnr_db"] > WHITE_DB + 3
    assert fitted["seconds"] > 0
    field = geodistill.load_field(folder)
    assert field.architecture == name
    assert field.parameter_count() == fitted["parameters"]
    assert (folder / "field.safetensors").stat().st_size == fitted["bytes"]
    assert {path.name for path in folder.iterdir()} == {
        *(".lock", "DONE", "config.yaml", "env.json", "field.safetensors", "metrics.jsonl"),
    }


def test_the_settings_of_a_run_make_it_again(
    world: Path, fields: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    first = Path(fields["plenoxels"]["output"])
    geodistill_("fit", "--config", first / "config.yaml", "-o", tmp_path / "again")
    again = tmp_path / "again" / "field.safetensors"
    assert again.read_bytes() == (first / "field.safetensors").read_bytes()


CONVERSIONS: dict[str, tuple[str, str, float, tuple[str, ...]]] = {
    "plenoxels to ngp": ("plenoxels", "ngp", 13, ()),
    "plenoxels to tensorf-cp": ("plenoxels", "tensorf-cp", 13, ()),
    "plenoxels of half the size": ("plenoxels", "plenoxels", 13, ("--set", "resolution=12")),
    "ngp to plenoxels": ("ngp", "plenoxels", 14, ()),
    "ngp to tensorf": ("ngp", "tensorf", 14, ("--from", "ngp")),
    "ngp of half the size": ("ngp", "ngp", 13, ("--set", "log2_size=11")),
    "ngp to mlp": ("ngp", "mlp", 11, ()),
    "tensorf to composite": ("tensorf", "composite", 13, ()),
    "composite to ngp": ("composite", "ngp", 13, ()),
    "mlp to plenoxels": ("mlp", "plenoxels", 13, ()),
    "pvd": ("ngp", "tensorf", 12, ("--recipe", "pvd")),
    "pvd-al": ("plenoxels", "ngp", 11, ("--recipe", "pvd", "--active", "cameras,rays,points")),
}
"""Source, target, the least PSNR to the source in dB, and options."""


@pytest.mark.parametrize("case", CONVERSIONS)
def test_convert(case: str, fields: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    source, target, least_db, options = CONVERSIONS[case]
    command = ("convert", fields[source]["output"], "--to", target, "-o", tmp_path / "out")
    ended = geodistill_(*command, *settings(target, 40), *options)
    made = ended.json
    assert made.keys() >= FIDELITY
    assert made["psnr_db"] > least_db and 0 < made["ssim"] <= 1
    assert "PSNR" in ended.err  # the report, for a person
    teacher, student = (geodistill.load_field(place) for place in (command[1], made["output"]))
    assert student.architecture == target
    assert student.parameter_count() == made["parameters"]
    torch.testing.assert_close(student.world_from_field, teacher.world_from_field)
    assert student.views is not None and len(student.views) == VIEWS["train"]
    sheet = Image.open(tmp_path / "out" / "contact_sheet.png")
    assert sheet.size == (3 * 24, 4 * 24)


def test_convert_to_a_file_and_compare_on_the_data(
    world: Path, fields: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    source = fields["plenoxels"]["output"]
    output = tmp_path / "student.safetensors"
    command = ("convert", source, "--to", "ngp", "-o", output, "--data", world)
    made = geodistill_(*command, *settings("ngp")).json
    assert made["output"] == str(output) and output.stat().st_size == made["bytes"]
    assert (tmp_path / "student.safetensors.run" / "DONE").exists()
    compared = geodistill_("compare", source, output, "--data", world, "--json").json
    for key in FIDELITY - {"output", "seconds"}:
        assert made[key] == compared[key]
    # Two verbs, one figure: how the teacher fares on the test pictures.
    assert compared["truth_psnr_db_a"] == fields["plenoxels"]["test_psnr_db"]
    assert made["truth_psnr_db_b"] == compared["truth_psnr_db_b"]


def test_compare(fields: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    a, b = fields["ngp"]["output"], fields["plenoxels"]["output"]
    ended = geodistill_("compare", a, b, "-o", tmp_path / "sheet.png", "--resolution", 24, "--json")
    compared = ended.json
    assert compared.keys() >= FIDELITY
    assert compared["output"] == str(tmp_path / "sheet.png")
    assert 8 < compared["psnr_db"] < 30
    with Image.open(tmp_path / "sheet.png") as image:
        sheet = np.asarray(image).astype(int)
    left, right, difference = np.split(sheet, 3, axis=1)
    assert np.array_equal(difference, np.minimum(4 * np.abs(left - right), 255))
    same = geodistill_("compare", a, a, "--resolution", 24, "--views", 2, "--json").json
    assert same["opacity_iou"] == 1 and same["ssim"] == pytest.approx(1) and same["output"] is None


def over_white(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        rgba = np.asarray(image.convert("RGBA")).astype(float) / 255
    return rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]


def test_render_the_test_views(
    world: Path, fields: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """The pictures are what the PSNR of the fit says of them, by other arithmetic."""
    fitted = fields["plenoxels"]
    views = tmp_path / "views"
    rendered = geodistill_("render", fitted["output"], "--data", world, "-o", views, "--json").json
    assert rendered["output"] == str(views) and rendered["views"] == VIEWS["test"]
    scores = []
    for number, path in enumerate(sorted(views.iterdir())):
        error = over_white(path) - over_white(world / "test" / f"r_{number}.png")
        scores.append(-10 * math.log10((error**2).mean()))
    assert len(scores) == VIEWS["test"]
    assert np.mean(scores) == pytest.approx(fitted["test_psnr_db"], abs=0.05)


def test_render_an_orbit_in_every_format(fields: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    orbit = ("render", fields["plenoxels"]["output"], "--orbit", 3, "--resolution", 32)
    channels = "color,depth,opacity,normal"
    geodistill_(*orbit, "-o", tmp_path / "png", "--channels", channels)
    names = {"0000.png", "0000_depth.png", "0000_opacity.png", "0000_normal.png"}
    pictures = {path.name: path for path in (tmp_path / "png").iterdir()}
    assert names <= pictures.keys() and len(pictures) == 12
    alpha = np.asarray(Image.open(pictures["0000.png"]))[..., 3]
    again = [*map(str, orbit[:2]), "--orbit", "2", "--resolution", "16"]
    again += ["-o", str(tmp_path / "png")]
    assert cli.main(again) == 2  # what stands there is kept unless --overwrite is given
    assert {path.name for path in (tmp_path / "png").iterdir()} == pictures.keys()
    still = over_white(pictures["0000.png"])
    assert cli.main([*again, "--overwrite"]) == 0
    assert {path.name for path in (tmp_path / "png").iterdir()} == {"0000.png", "0001.png"}
    assert 0.05 < (alpha > 128).mean() < 0.9
    if find_spec("OpenEXR"):
        from geodistill.io.exr import read_exr

        geodistill_(*orbit, "-o", tmp_path / "exr", "--format", "exr", "--channels", channels)
        layers = read_exr(tmp_path / "exr" / "0000.exr")
        assert layers.keys() == {*"RGBAZ", "N.X", "N.Y", "N.Z"}
        np.testing.assert_allclose(layers["A"].numpy(), alpha / 255, atol=0.6 / 255)
        assert torch.equal(layers["Z"].isfinite(), layers["A"] > 0.5)
    if find_spec("imageio_ffmpeg"):
        import imageio_ffmpeg

        film = tmp_path / "orbit.mp4"
        assert geodistill_(*orbit, "-o", film, "--json").json["output"] == str(film)
        first = film.read_bytes()
        assert cli.main([*map(str, orbit), "-o", str(film)]) == 2 and film.read_bytes() == first
        reader = imageio_ffmpeg.read_frames(str(film))
        assert next(reader)["size"] == (32, 32)
        frames = [np.frombuffer(frame, np.uint8).reshape(32, 32, 3) for frame in reader]
        assert len(frames) == 3
        assert np.abs(frames[0] / 255 - still).mean() < 0.05  # the film is compressed


def test_info_and_doctor(fields: dict[str, dict[str, Any]]) -> None:
    for name, fitted in fields.items():
        told = geodistill_("info", fitted["output"], "--json").json
        assert (told["architecture"], told["parameters"]) == (name, fitted["parameters"])
        assert told["views"] == VIEWS["train"]
    found = geodistill_("doctor", "--json").json
    assert found["devices"]["cpu"] and found["kernels"]["hash_encode"]
    assert "hash_encode" in geodistill_("doctor").out


def test_the_executable(fields: dict[str, dict[str, Any]]) -> None:
    command = [sys.executable, "-m", "geodistill", "info", fields["ngp"]["output"], "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert Ended(ended.stdout, ended.stderr).json["architecture"] == "ngp"


def test_a_run_folder_can_be_moved(fields: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    before = fields["ngp"]["output"]
    moved = shutil.copytree(before, tmp_path / "elsewhere" / "ngp")
    told = [geodistill_("info", place, "--json").json for place in (before, moved)]
    assert told[0] == told[1]


def test_the_bundled_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's first command, on a smaller student."""
    if not BUNDLED.exists():
        pytest.skip("the bundled field has not been made in this checkout")
    monkeypatch.chdir(tmp_path)
    command = ("convert", "--from", "ngp", "--to", "tensorf", "--size", "small", "--steps", "20")
    ended = geodistill_(*command, "--json")
    assert ended.json["output"] == "bundled_tensorf"
    assert ended.json["psnr_db"] > 15 and ended.json["opacity_iou"] > 0.5
    assert geodistill.load_field("bundled_tensorf").architecture == "tensorf"
    assert (tmp_path / "bundled_tensorf" / "contact_sheet.png").exists()


def test_the_scene_stays_where_the_user_has_it(
    world: Path, fields: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """A world in other units, turned and shifted, gives the same scene in that world."""
    turn = look_at((0.3, -0.5, 0.7), (0.0, 0.1, 0.2))[:3, :3].double()
    placed = Similarity(turn, torch.tensor([420.0, -37.0, 95.0]).double(), 100.0)
    moved = write_world(tmp_path / "moved", placed)
    command = ("fit", moved, "--as", "plenoxels", "-o", tmp_path / "far", *settings("plenoxels"))
    far, near = geodistill_(*command).json, fields["plenoxels"]
    assert far["test_psnr_db"] == pytest.approx(near["test_psnr_db"], abs=0.5)
    command = ("convert", tmp_path / "far", "--to", "ngp", "-o", tmp_path / "far_ngp")
    converted = geodistill_(*command, *settings("ngp")).json
    grid = torch.cartesian_prod(*[torch.linspace(-0.9, 0.9, 19)] * 3)
    truth = AnalyticField().sigma(grid)
    solid, free = grid[truth > 100], grid[truth < 1e-6]
    for output, scale in (
        (near["output"], 1.0),
        (far["output"], 100.0),
        (converted["output"], 100),
    ):
        field = geodistill.load_field(output)
        place = Similarity.identity() if scale == 1 else placed
        inside, outside = (field.density(place.apply(p.double())) * scale for p in (solid, free))
        # Light is absorbed by the object, not beside it.
        assert inside.mean() > 8 * outside.mean() and inside.mean() > 0.5, output
    bounds = geodistill_("info", far["output"], "--json").json["bounds"]
    assert np.all(np.array(bounds[0]) < placed.t.numpy())
    assert np.all(np.array(bounds[1]) > placed.t.numpy())
    assert 100 < np.ptp(np.array(bounds), axis=0).max() < 500
    compared = geodistill_("compare", far["output"], converted["output"], "--data", moved, "--json")
    assert compared.json["truth_psnr_db_a"] == far["test_psnr_db"]
    assert compared.json["psnr_db"] > 12
