"""Runs of nerfstudio are found by any of their names, and their settings make no objects."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from geodistill.checks import InputError, shown
from geodistill.config import tagged_yaml
from geodistill.config.tagged_yaml import Tagged, dump_tagged, read_tagged_yaml
from geodistill.io.fields.nerfstudio_settings import setting
from geodistill.io.nerfstudio import (
    cameras_of,
    checkpoint_of,
    is_run,
    load_model,
    open_run,
    user_from_run,
)
from geodistill.io.posed import load_cameras
from tests.io import layouts
from tests.io.nerfstudio_samples import settings, turn, write_run

STATE = {"field.aabb": torch.tensor([[-1.0, -1, -1], [1, 1, 1]])}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", STATE, settings("nerfacto", {"max_res": 4096, "note": "a"}))


@pytest.mark.parametrize(
    "name", ["", "config.yml", "nerfstudio_models", "nerfstudio_models/step-000029999.ckpt"]
)
def test_every_name_of_a_run(folder: Path, name: str) -> None:
    path = folder / name
    assert is_run(path)
    run = open_run(path)
    assert run.folder == folder
    assert run.checkpoint == folder / "nerfstudio_models/step-000029999.ckpt"
    assert (run.method, run.model["max_res"]) == ("nerfacto", 4096)
    assert run.dataparser["scale_factor"] == 1.0


def test_the_newest_checkpoint(folder: Path) -> None:
    for step in (2000, 100_000, 30_000):
        write_run(folder, STATE, None, step=step)
    assert checkpoint_of(folder).name == "step-000100000.ckpt"
    early = folder / "nerfstudio_models/step-000002000.ckpt"
    assert open_run(early).checkpoint == early


def test_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("a: 1")
    (tmp_path / "nerfstudio_models").mkdir()
    (tmp_path / "nerfstudio_models" / "other.ckpt").touch()
    for path in (tmp_path, tmp_path / "config.yml", tmp_path / "none", tmp_path / "a.ckpt"):
        assert not is_run(path)
    with pytest.raises(InputError, match=r"holds no nerfstudio_models/step-\*.ckpt"):
        checkpoint_of(tmp_path)


@pytest.mark.parametrize("prefix", ["_model.", "module._model.", "_model.module."])
def test_names_of_distributed_runs(tmp_path: Path, prefix: str) -> None:
    folder = write_run(tmp_path, STATE, None, prefix=prefix)
    tensors = load_model(checkpoint_of(folder))
    assert set(tensors) == {"field.aabb", "device_indicator_param"}


def test_checkpoints_of_others(tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(InputError, match="no checkpoint of nerfstudio: it has no 'pipeline'"):
        load_model(path)
    torch.save({"pipeline": {"model.x": torch.ones(1)}}, path)
    with pytest.raises(InputError, match="holds no model of nerfstudio"):
        load_model(path)


# Settings


def test_tags_become_plain_values(folder: Path) -> None:
    found = read_tagged_yaml(folder / "config.yml")
    assert found["_target"] == "nerfstudio.engine.trainer.Trainer"
    assert found["data"] == ["data", "lego"]
    assert found["pipeline"]["datamanager"]["data"] == ["data", "lego"]
    assert found["optimizers"]["means"]["optimizer"]["eps"] == 1e-15
    assert found["logging"]["local_writer"]["stats_to_track"] == [["Train Iter (time)"]]


def test_settings_run_nothing(tmp_path: Path) -> None:
    path, witness = tmp_path / "config.yml", tmp_path / "witness"
    path.write_text(f"a: !!python/object/apply:os.system ['touch {witness}']\n")
    assert read_tagged_yaml(path) == {"a": [f"touch {witness}"]}
    assert not witness.exists()


@pytest.mark.parametrize(
    "text, words",
    [
        ("[1, 2]", "must hold a YAML mapping"),
        ("1: 2", "must hold a YAML mapping"),
        ("a: [", "is not valid YAML"),
        ("a: 2024-13-45", "is not valid YAML"),
        ("? [1]\n: 2", "is not valid YAML"),
        ("a: " + "[" * 5000, "nested too deeply|not valid YAML"),
        ("a: &x {b: 1}\nc: {<<: *x}", "is not valid YAML"),
        ("a: " + "9" * 5000, "is not valid YAML"),
        ("a: 'x" + "y" * (1 << 18) + "'", "longer than settings are"),
    ],
)
def test_settings_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_tagged_yaml(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert tagged_yaml.LONGEST == 1 << 18


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_tagged_yaml(tmp_path / "none.yml")
    (tmp_path / "a.yml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(InputError, match="is not valid YAML"):
        read_tagged_yaml(tmp_path / "a.yml")


def aliases(levels: int) -> str:
    """A text whose last list holds 2^levels lists, written in a line for each level."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, levels)]
    return "\n".join(lines)


def test_aliases_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text(aliases(10))
    assert len(read_tagged_yaml(path)) == 10
    for text in (aliases(60), "a: &a [*a]", "a: &a {b: *a}"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"a\.yml refers to one part over and over"):
            read_tagged_yaml(path)


def test_a_method_without_a_name(tmp_path: Path) -> None:
    text = aliases(12) + "\nmethod_name: *a11\n"
    assert open_run(write_run(tmp_path, STATE, text)).method == ""


@pytest.mark.parametrize(
    "value", [16**5000, -(16**5000), [[1]], "1", math.nan, math.inf], ids=shown
)
@pytest.mark.parametrize("default", [1.0, 1, True])
def test_settings_of_another_kind(value: object, default: float) -> None:
    with pytest.raises(InputError, match=r"config\.yml has key = .{1,40}, which is not") as caught:
        setting({"key": value}, "key", default, Path("config.yml"))
    assert "\n" not in str(caught.value)


# Frame


def test_the_way_back(tmp_path: Path) -> None:
    R, t, scale = turn(4), np.array([0.3, -2.0, 1.0]), 0.25
    write_run(tmp_path, STATE, None, (R, t, scale))
    x = np.random.default_rng(0).normal(size=(9, 3))
    there = np.array([scale * (R @ row + t) for row in x])
    back = user_from_run(tmp_path).apply(torch.from_numpy(there))
    np.testing.assert_allclose(back.numpy(), x, atol=1e-12)


def test_without_the_frame_a_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert user_from_run(tmp_path).s == 1.0
    assert "stays in nerfstudio's frame" in capsys.readouterr().err


def test_the_cameras_of_the_data_set(tmp_path: Path) -> None:
    """Where the run names `data/lego`, relative to a folder above the run's own."""
    made = layouts.scene()
    layouts.write_nerfstudio(tmp_path / "data/lego", made)
    run = write_run(tmp_path / "outputs/lego/nerfacto/now", STATE, settings("nerfacto", {}))
    found = cameras_of(open_run(run))
    expected = load_cameras(tmp_path / "data/lego", "train").cameras
    assert found is not None and len(found) >= 3 and found.size == expected.size
    torch.testing.assert_close(found.world_from_cam, expected.world_from_cam)
    torch.testing.assert_close(found.K, expected.K)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "data/lego, which"),
        ("{}", "has no list 'frames'"),
        ('{"frames": [{"file_path": "a.png"}]}', "are left out"),
    ],
)
def test_without_its_data_set_a_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture, data: str | None, words: str
) -> None:
    if data is not None:
        (tmp_path / "data/lego").mkdir(parents=True)
        (tmp_path / "data/lego/transforms.json").write_text(data)
    run = write_run(tmp_path / "run", STATE, settings("nerfacto", {}))
    assert cameras_of(open_run(run)) is None
    assert words in capsys.readouterr().err


def test_one_picture_shows_nothing_of_a_capture(tmp_path: Path) -> None:
    table = layouts.transforms_table(layouts.scene())
    layouts.write_nerfstudio(tmp_path / "data/lego", layouts.scene())
    (tmp_path / "data/lego/transforms.json").write_text(
        json.dumps({**table, "frames": table["frames"][:1]})
    )
    assert cameras_of(open_run(write_run(tmp_path / "r", STATE, settings("nerfacto", {})))) is None


@pytest.mark.parametrize(
    "table, words",
    [
        ({"scale": 1.0}, "has no transform"),
        ({"transform": np.eye(3, 4).tolist()}, "must have a 'scale' above 0"),
        ({"transform": np.eye(3, 4).tolist(), "scale": -1}, "must have a 'scale' above 0"),
        ({"transform": np.eye(3, 4).tolist(), "scale": "x"}, "not a finite number"),
        ({"transform": np.diag([1, 1, -1, 1])[:3].tolist(), "scale": 1}, "not a rotation"),
        ({"transform": np.diag([1, 1, 2, 1])[:3].tolist(), "scale": 1}, "not a rotation"),
        ({"transform": np.eye(3).tolist(), "scale": 1}, "must be a 3x4 or 4x4 matrix"),
        ({"transform": [[1], [2, 3]], "scale": 1}, "not a 3x4 or 4x4 matrix"),
        ([1], "is not a JSON object"),
    ],
)
def test_frames_that_are_none(tmp_path: Path, table: object, words: str) -> None:
    path = tmp_path / "dataparser_transforms.json"
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match=words) as caught:
        user_from_run(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    path.write_text("{")
    with pytest.raises(InputError, match="is not valid JSON"):
        user_from_run(tmp_path)


def test_written_settings_are_read_back(tmp_path: Path) -> None:
    value = {
        "a": Tagged(
            "object:m.Class", {"_target": Tagged("name:m.Other", ""), "x": 1e-15, "y": 2.5}
        ),
        "b": [1, "yes: no", None, True, Tagged("tuple", [1, 2]), [], {}],
        "c": Tagged("object/apply:pathlib.Path", ["/data/a b"]),
        "d": {"e": {"f": [{"g": 1}, -3.0]}},
    }
    (tmp_path / "a.yml").write_text(dump_tagged(value))
    assert read_tagged_yaml(tmp_path / "a.yml") == {
        "a": {"_target": "m.Other", "x": 1e-15, "y": 2.5},
        "b": [1, "yes: no", None, True, [1, 2], [], {}],
        "c": ["/data/a b"],
        "d": {"e": {"f": [{"g": 1}, -3.0]}},
    }
