"""Data sets that a field cannot be made from, and scenes with nothing in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geodistill.runs import load_tensors, save_tensors
from tests.faults.commands import Host, complaint, contents
from tests.faults.conftest import SMALL
from tests.faults.worlds import RESOLUTION

FIT = ("--as", "plenoxels", "--set", "resolution=16", "--steps", "4")


@pytest.fixture
def data(world: Path, tmp_path: Path) -> Path:
    """A data set that a test may spoil."""
    return shutil.copytree(world, tmp_path / "data")


def each_image(change: Callable[[Image.Image], Image.Image]) -> Callable[[Path], None]:
    def spoil(data: Path) -> None:
        for path in data.rglob("*.png"):
            change(Image.open(path)).save(path)

    return spoil


def each_pose(change: Callable[[np.ndarray], np.ndarray], *splits: str) -> Callable[[Path], None]:
    def spoil(data: Path) -> None:
        for split in splits or ("train", "test"):
            path = data / f"transforms_{split}.json"
            table = json.loads(path.read_text())
            for frame in table["frames"]:
                frame["transform_matrix"] = change(np.array(frame["transform_matrix"])).tolist()
            path.write_text(json.dumps(table))

    return spoil


def distant_pose(data: Path) -> None:
    path = data / "transforms_train.json"
    table = json.loads(path.read_text())
    table["frames"][3]["transform_matrix"][0][3] = 1e30
    path.write_text(json.dumps(table))


def away(pose: np.ndarray) -> np.ndarray:
    """Half a turn about the camera's upward axis."""
    return pose * np.array([-1.0, 1.0, -1.0, 1.0])


def without(name: str) -> Callable[[Path], None]:
    return lambda data: (data / name).unlink()


def lens(**values: float) -> Callable[[Path], None]:
    def spoil(data: Path) -> None:
        path = data / "transforms_train.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return spoil


def smaller(name: str) -> Callable[[Path], None]:
    return lambda data: Image.new("RGBA", (20, 20)).save(data / name)


def cut(name: str) -> Callable[[Path], object]:
    return lambda data: (data / name).write_bytes((data / name).read_bytes()[:200])


def one_frame(data: Path) -> None:
    path = data / "transforms_train.json"
    table = json.loads(path.read_text())
    path.write_text(json.dumps({**table, "frames": table["frames"][:1]}))


SIZE = f"{RESOLUTION}x{RESOLUTION}"
CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no data set": (shutil.rmtree, "data does not exist: give the folder of a data set"),
    "no poses": (without("transforms_train.json"), "data has no transforms_train.json"),
    "cut poses": (cut("transforms_train.json"), "transforms_train.json is not valid JSON"),
    "missing image": (
        without("train/r_3.png"),
        "transforms_train.json are missing, the first is {data}/train/r_3.png: put them there",
    ),
    "missing test image": (without("test/r_1.png"), "the first is {data}/test/r_1.png"),
    "other size": (
        smaller("train/r_3.png"),
        f"train/r_0.png is {SIZE} but {{data}}/train/r_3.png is 20x20: all pictures of a data set",
    ),
    "other test size": (smaller("test/r_1.png"), "test/r_1.png is 20x20"),
    "cut image": (cut("train/r_3.png"), "train/r_3.png is truncated or damaged"),
    "no alpha": (each_image(lambda image: image.convert("RGB")), "pass --background white"),
    "transparent": (
        each_image(lambda image: Image.new("RGBA", image.size)),
        "every image is transparent everywhere: check the alpha channel",
    ),
    "looking away": (each_pose(away), "most cameras look away from what they could have in common"),
    "one place": (each_pose(lambda pose: np.eye(4)), "all cameras stand in one place"),
    "one view": (one_frame, "all cameras stand in one place: a scene needs views from several"),
    "distant pose": (
        distant_pose,
        "transforms_train.json: the camera of ./train/r_3 stands 1e+30 from the others' middle",
    ),
    "opaque": (
        each_image(lambda image: image.convert("RGB").convert("RGBA")),
        "the images are opaque everywhere, so what is background is unknown: pass --background",
    ),
    "long lens": (
        lens(camera_angle_x=1e-12),
        "the focal length of ./train/r_0 is 3.2e+13 x 3.2e+13 pixels, its image " + SIZE,
    ),
    "wide lens": (lens(camera_angle_x=3.14159265), "correct the intrinsics"),
    "far away": (
        each_pose(lambda pose: pose * np.array([[1, 1, 1, 1e300]] * 3 + [[1, 1, 1, 1]])),
        "from the origin: correct its pose",
    ),
    "one side": (lens(w=RESOLUTION), "has only one of w and h: add the other"),
    "nan pose": (each_pose(lambda pose: pose * np.nan), "transform_matrix holds NaN or infinity"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fit_is_refused(case: str, host: Host, data: Path, done: Path, tmp_path: Path) -> None:
    spoil, reason = CASES[case]
    spoil(data)
    before = contents(done)
    said = complaint(host.run(tmp_path, "fit", data, "-o", done, "--overwrite", *FIT), 1)
    assert reason.format(data=data) in said
    assert contents(done) == before
    assert not (done / ".work").exists()
    complaint(host.run(tmp_path, "fit", data, "-o", "out", *FIT), 1)
    assert not (tmp_path / "out").exists()


def test_a_fit_without_test_views_says_that_it_is_not_judged(
    host: Host, data: Path, tmp_path: Path
) -> None:
    without("transforms_test.json")(data)
    fitted = host.run(tmp_path, "fit", data, "-o", "out", "--json", *FIT)
    assert fitted.json["test_psnr_db"] is None and "data holds no test views" in fitted.err
    assert (tmp_path / "out" / "field.safetensors").exists()


def test_what_the_remedy_says_helps(host: Host, data: Path, tmp_path: Path) -> None:
    """The same output with another option: there was nothing in it to resume."""
    each_image(lambda image: image.convert("RGB"))(data)
    complaint(host.run(tmp_path, "fit", data, "-o", "out", *FIT), 1)
    fitted = host.run(tmp_path, "fit", data, "-o", "out", "--background", "white", "--json", *FIT)
    assert fitted.code == 0 and (tmp_path / "out" / "field.safetensors").exists()


def test_opaque_images_show_what_the_user_says_is_behind(
    host: Host, data: Path, tmp_path: Path
) -> None:
    def on_white(image: Image.Image) -> Image.Image:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)

    each_image(on_white)(data)
    fitted = host.run(tmp_path, "fit", data, "-o", "out", "--background", "white", "--json", *FIT)
    assert fitted.code == 0 and (tmp_path / "out" / "field.safetensors").exists()


def test_a_picture_without_alpha_among_others_is_named(
    host: Host, data: Path, tmp_path: Path
) -> None:
    Image.open(data / "train" / "r_3.png").convert("RGB").save(data / "train" / "r_3.png")
    fitted = host.run(tmp_path, "fit", data, "-o", "out", "--json", *FIT)
    assert fitted.code == 0 and f"the first is {data / 'train' / 'r_3.png'}" in fitted.err
    assert "have no alpha and count as foreground everywhere" in fitted.err


def test_a_blank_picture_spoils_nothing(host: Host, data: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (RESOLUTION, RESOLUTION)).save(data / "train" / "r_3.png")
    fitted = host.run(tmp_path, "fit", data, "-o", "out", "--json", *FIT[:-1], "40")
    assert fitted.json["test_psnr_db"] > 12


@pytest.mark.parametrize(
    "argv",
    [
        ("compare", "{src}", "{src}", "--data", "{data}", "-o", "old.png", "--overwrite"),
        ("render", "{src}", "--data", "{data}", "--split", "test", "-o", "views"),
        ("convert", "{src}", "--data", "{data}", "-o", "done", "--overwrite", *SMALL),
    ],
)
def test_what_needs_test_views_says_that_there_are_none(
    argv: tuple[str, ...], host: Host, teacher: Path, data: Path, done: Path, tmp_path: Path
) -> None:
    without("transforms_test.json")(data)
    (tmp_path / "old.png").write_bytes(b"an older sheet")
    before = contents(tmp_path)
    said = complaint(host.run(tmp_path, *(part.format(src=teacher, data=data) for part in argv)), 1)
    assert "data has no transforms_test.json" in said
    assert contents(tmp_path) == before


LOOKERS = {
    "compare": ("compare", "{src}", "{src}", "--data", "{data}", "-o", "old.png", "--overwrite"),
    "render": ("render", "{src}", "--data", "{data}", "-o", "views"),
    "camera file": (
        *("render", "{src}", "--cameras", "{data}/transforms_test.json"),
        *("--resolution", "16", "-o", "views"),
    ),
    "convert": ("convert", "{src}", "--data", "{data}", "-o", "done", "--overwrite", *SMALL),
}


@pytest.mark.parametrize("verb", LOOKERS)
def test_cameras_that_see_nothing_are_refused(
    verb: str, host: Host, teacher: Path, data: Path, done: Path, tmp_path: Path
) -> None:
    each_pose(away)(data)
    (tmp_path / "old.png").write_bytes(b"an older sheet")
    argv = [part.format(src=teacher, data=data) for part in LOOKERS[verb]]
    before = contents(tmp_path)
    said = complaint(host.run(tmp_path, *argv), 1)
    assert "none of the 2 cameras of" in said and "sees the scene" in said
    assert contents(tmp_path) == before


@pytest.mark.parametrize("verb", ["compare", "convert"])
def test_photographs_are_compared_on_what_the_user_says_is_behind(
    verb: str, host: Host, teacher: Path, data: Path, done: Path, tmp_path: Path
) -> None:
    def on_black(image: Image.Image) -> Image.Image:
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")

    argv = [part.format(src=teacher, data=data) for part in LOOKERS[verb]]
    each_image(on_black)(data)
    before = contents(tmp_path)
    said = complaint(host.run(tmp_path, *argv), 1)
    assert "the images have no alpha channel" in said and contents(tmp_path) == before
    black = host.run(tmp_path, *argv, "--background", "black", "--json").json
    white = host.run(tmp_path, *argv, "--background", "white", "--json").json
    assert black["truth_psnr_db_a"] > white["truth_psnr_db_a"] + 5


def transparent(field: dict) -> None:
    field["param.values"][:, 0] = -1.0


def unoccupied(field: dict) -> None:
    field["occupancy"][:] = 0


@pytest.mark.parametrize("recipe", ["default", "pvd"])
@pytest.mark.parametrize("drain", [transparent, unoccupied])
def test_an_empty_scene_cannot_be_converted(
    drain: Callable[[dict], None],
    recipe: str,
    host: Host,
    teacher: Path,
    done: Path,
    tmp_path: Path,
) -> None:
    tensors, metadata = load_tensors(teacher)
    drain(tensors)
    save_tensors(tmp_path / "empty.safetensors", tensors, metadata)
    before = contents(done)
    command = ("convert", "empty.safetensors", "--recipe", recipe, "-o", "done", "--overwrite")
    said = complaint(host.run(tmp_path, *command, *SMALL), 1)
    assert "the scene is empty" in said
    assert contents(done) == before
