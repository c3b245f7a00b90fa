"""Splats in PyTorch checkpoints: gsplat's files of one and of several ranks, splatfacto's runs."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from geodistill.checks import InputError, UsageError
from geodistill.geometry.fields import field_path
from geodistill.geometry.harmonics import sh_basis
from geodistill.geometry.kinds import kind_of
from geodistill.geometry.splats import load_splats, load_splats_with_attributes
from geodistill.io.nerfstudio import open_run
from geodistill.io.splats import SplatArrays, read_splats, write_splats
from geodistill.io.splats.arrays import SH_C0
from tests.io.nerfstudio_samples import settings, turn, write_run
from tests.io.splat_samples import degrees_apart, expect_valid, some_arrays

COUNT = 40


def gsplat_columns(splats: SplatArrays) -> dict[str, torch.Tensor]:
    found = {
        "means": splats["means"],
        "scales": splats["log_scales"],
        "quats": 3 * splats["rotations"],
        "opacities": splats["opacity_logits"],
        "sh0": splats["sh"][:, :1],
        "shN": splats["sh"][:, 1:],
    }
    return {name: torch.from_numpy(values.copy()) for name, values in found.items()}


def splatfacto_state(splats: SplatArrays, prefix: str = "gauss_params.") -> dict[str, torch.Tensor]:
    columns = gsplat_columns(splats)
    columns["features_dc"] = columns.pop("sh0")[:, 0]
    columns["features_rest"] = columns.pop("shN")
    columns["opacities"] = columns["opacities"][:, None]
    return {f"{prefix}{name}": values for name, values in columns.items()}


def save_gsplat(path: Path, splats: SplatArrays, step: int = 29999, **more: torch.Tensor) -> Path:
    torch.save({"step": step, "splats": gsplat_columns(splats) | more}, path)
    return path


def expect_same(found: SplatArrays, splats: SplatArrays) -> None:
    for name in ("means", "log_scales", "opacity_logits", "sh"):
        np.testing.assert_array_equal(found[name], splats[name])
    np.testing.assert_allclose(found["rotations"], splats["rotations"], atol=1e-6)


@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize("ending", [".pt", ".pth", ".ckpt"])
def test_gsplat(tmp_path: Path, degree: int, ending: str) -> None:
    splats = some_arrays(COUNT, degree)
    path = save_gsplat(tmp_path / f"ckpt_29999_rank0{ending}", splats)
    assert kind_of(path) == "splats"
    expect_same(read_splats(path), splats)


def test_gsplat_keeps_further_columns(tmp_path: Path) -> None:
    wide, narrow = torch.rand(COUNT, 3), torch.rand(COUNT)
    path = save_gsplat(tmp_path / "a.pt", some_arrays(COUNT), feature=wide, label=narrow)
    attributes = load_splats_with_attributes(path)[1]
    assert torch.equal(attributes["feature"], wide) and torch.equal(attributes["label"], narrow)


def test_gsplat_of_half_precision_and_old_names(tmp_path: Path) -> None:
    columns = {k: v.half() for k, v in gsplat_columns(some_arrays(COUNT)).items()}
    columns["means3d"] = columns.pop("means")
    torch.save({"step": 1, "splats": columns}, tmp_path / "a.pt")
    found = read_splats(tmp_path / "a.pt")
    np.testing.assert_array_equal(found["means"], columns["means3d"].float().numpy())


def test_files_of_several_ranks_are_one_scene(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    parts = [some_arrays(COUNT, seed=seed) for seed in range(3)]
    paths = [save_gsplat(tmp_path / f"ckpt_29999_rank{i}.pt", part) for i, part in enumerate(parts)]
    save_gsplat(tmp_path / "ckpt_6999_rank0.pt", parts[0], step=6999)
    found = [read_splats(path) for path in paths]
    assert "one of 3 files" in capsys.readouterr().err
    for splats in found:
        assert len(splats["means"]) == 3 * COUNT
    means = {tuple(row) for part in parts for row in part["means"].tolist()}
    for splats in found:
        assert {tuple(row) for row in splats["means"].tolist()} == means
    assert len(read_splats(tmp_path / "ckpt_6999_rank0.pt")["means"]) == COUNT


def test_a_missing_rank_and_another_step(tmp_path: Path) -> None:
    splats = some_arrays(COUNT)
    save_gsplat(tmp_path / "ckpt_9_rank0.pt", splats)
    save_gsplat(tmp_path / "ckpt_9_rank2.pt", splats)
    with pytest.raises(InputError, match=r"lacks ckpt_9_rank1\.pt"):
        read_splats(tmp_path / "ckpt_9_rank0.pt")
    save_gsplat(tmp_path / "ckpt_9_rank1.pt", splats, step=8)
    with pytest.raises(InputError, match="are of different steps"):
        read_splats(tmp_path / "ckpt_9_rank0.pt")
    save_gsplat(tmp_path / "ckpt_9_rank1.pt", some_arrays(COUNT, 2))
    with pytest.raises(InputError, match="'shN' has other shapes"):
        read_splats(tmp_path / "ckpt_9_rank0.pt")


def test_what_is_not_finite_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    splats = some_arrays(COUNT)
    columns = gsplat_columns(splats)
    columns["means"][3, 1] = torch.nan
    columns["shN"][5, 0, 2] = torch.inf
    columns["quats"][7] = 0
    torch.save({"step": 1, "splats": columns}, tmp_path / "a.pt")
    found = read_splats(tmp_path / "a.pt")
    assert "3 of its 40 splats are not finite and left out" in capsys.readouterr().err
    kept = [row for row in range(COUNT) if row not in (3, 5, 7)]
    np.testing.assert_array_equal(found["means"], splats["means"][kept])
    columns["scales"][:] = torch.nan
    torch.save({"step": 1, "splats": columns}, tmp_path / "b.pt")
    complaint = r"b\.pt is damaged: 40 of its 40 .* cannot be drawn, 40 by NaN or infinite 'scales'"
    with pytest.raises(InputError, match=complaint):
        read_splats(tmp_path / "b.pt")
    columns = {name: values[:0] for name, values in columns.items()}
    torch.save({"step": 1, "splats": columns}, tmp_path / "c.pt")
    with pytest.raises(InputError, match="holds no splats"):
        read_splats(tmp_path / "c.pt")


def test_columns_of_other_shapes_are_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    more = {"codes": torch.rand(COUNT, 2, 2), "grid": torch.rand(3), "label": torch.rand(COUNT)}
    path = save_gsplat(tmp_path / "a.pt", some_arrays(COUNT), **more)
    assert [*read_splats(path)["attributes"]] == ["label"]
    line = f"{path}: codes, grid are no columns of its 40 splats: left out\n"
    assert capsys.readouterr().err == line


def test_harmonics_of_degree_four(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    splats = some_arrays(COUNT, 3)
    columns = gsplat_columns(splats)
    columns["shN"] = torch.cat([columns["shN"], torch.rand(COUNT, 9, 3)], dim=1)
    torch.save({"step": 1, "splats": columns}, tmp_path / "a.pt")
    expect_same(read_splats(tmp_path / "a.pt"), splats)
    assert "those above degree 3 are left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("means", None, "lacks 'means'"),
        ("shN", None, "lacks 'shN'"),
        ("means", torch.rand(COUNT, 2), r"'means' has shape \[40, 2\]"),
        ("means", torch.rand(COUNT - 1, 3), r"has shape \[40, 3\] of 39 splats"),
        ("means", torch.tensor(1.0), "other shapes|has shape"),
        ("opacities", torch.rand(COUNT, 2), "'opacities' has shape"),
        ("sh0", torch.rand(COUNT, 3), "'sh0' has shape"),
        ("shN", torch.rand(COUNT, 3), "'shN' has shape"),
        ("shN", torch.rand(COUNT, 5, 3), "has 6 harmonics a colour"),
        ("quats", torch.ones(COUNT, 4, dtype=torch.int64), "no tensor of floating-point numbers"),
        ("quats", 3.0, "no tensor of floating-point numbers"),
    ],
)
def test_damaged_columns(tmp_path: Path, name: str, change: object, words: str) -> None:
    columns: dict = gsplat_columns(some_arrays(COUNT))
    if change is None:
        del columns[name]
    else:
        columns[name] = change
    torch.save({"step": 1, "splats": columns}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=words) as caught:
        read_splats(tmp_path / "a.pt")
    assert str(tmp_path / "a.pt") in str(caught.value) and "\n" not in str(caught.value)


def test_colours_of_a_network_are_refused(tmp_path: Path) -> None:
    columns = gsplat_columns(some_arrays(COUNT))
    del columns["sh0"], columns["shN"]
    columns |= {"features": torch.rand(COUNT, 32), "colors": torch.rand(COUNT, 3)}
    torch.save({"step": 1, "splats": columns}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="trained with app_opt"):
        read_splats(tmp_path / "a.pt")


def test_checkpoints_of_fields_are_fields(tmp_path: Path) -> None:
    torch.save({"model": {"encoder.embeddings": torch.zeros(8, 2)}}, tmp_path / "ngp.pth")
    assert kind_of(tmp_path / "ngp.pth") == "field"
    write_run(tmp_path / "run", {"field.aabb": torch.zeros(2, 3)}, settings("nerfacto", {}))
    assert kind_of(tmp_path / "run") == "field"
    with pytest.raises(InputError, match="holds no splats but nerfacto"):
        read_splats(tmp_path / "run")
    with pytest.raises(InputError, match="does not exist"):
        kind_of(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InputError, match="is not a PyTorch checkpoint"):
        kind_of(tmp_path / "text.pt")


# splatfacto


@pytest.mark.parametrize("prefix", ["gauss_params.", ""])
def test_splatfacto(tmp_path: Path, prefix: str) -> None:
    splats = some_arrays(COUNT, 3)
    folder = write_run(
        tmp_path / "run", splatfacto_state(splats, prefix), settings("splatfacto", {})
    )
    for path in (folder, folder / "config.yml", field_path(folder)):
        assert kind_of(path) == "splats"
        expect_same(read_splats(path), splats)


def test_splatfacto_without_harmonics_has_sigmoid_colours(tmp_path: Path) -> None:
    splats = some_arrays(COUNT, 0)
    write_run(tmp_path / "run", splatfacto_state(splats), settings("splatfacto", {"sh_degree": 0}))
    found = read_splats(tmp_path / "run")
    expected = 1 / (1 + np.exp(-splats["sh"]))
    np.testing.assert_allclose(0.5 + SH_C0 * found["sh"], expected, atol=1e-6)


def test_antialiased_splats_are_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    state = splatfacto_state(some_arrays(COUNT))
    write_run(tmp_path / "a", state, settings("splatfacto", {"rasterize_mode": "antialiased"}))
    read_splats(tmp_path / "a")
    assert "with antialiasing (rasterize_mode antialiased)" in capsys.readouterr().err
    write_run(tmp_path / "b", state, settings("splatfacto", {"rasterize_mode": "classic"}))
    read_splats(tmp_path / "b")
    assert "antialiased" not in capsys.readouterr().err


def test_splatfacto_comes_back_to_the_users_world(tmp_path: Path) -> None:
    """The user's splats are moved by hand as nerfstudio moves its world; loading undoes that."""
    splats = some_arrays(COUNT, 3)
    R, t, scale = turn(1), np.array([0.5, -1.0, 2.0]), 0.2
    moved = {k: v.copy() for k, v in splats.items() if isinstance(v, np.ndarray)}
    moved["means"] = (scale * (splats["means"] @ R.T + t)).astype(np.float32)
    xyzw = Rotation.from_matrix(R) * Rotation.from_quat(splats["rotations"][:, [1, 2, 3, 0]])
    moved["rotations"] = xyzw.as_quat()[:, [3, 0, 1, 2]].astype(np.float32)
    moved["log_scales"] = splats["log_scales"] + np.float32(np.log(scale))
    state = splatfacto_state(SplatArrays(**moved, attributes={}))
    write_run(tmp_path / "run", state, settings("splatfacto", {}), (R, t, scale))
    found = load_splats(tmp_path / "run")
    np.testing.assert_allclose(found.means, splats["means"], atol=1e-5)
    np.testing.assert_allclose(found.log_scales, splats["log_scales"], atol=1e-5)
    np.testing.assert_array_equal(found.opacity_logits, splats["opacity_logits"])
    assert degrees_apart(found.rotations.numpy(), splats["rotations"]) < 1e-2
    seen_along = torch.nn.functional.normalize(torch.randn(30, 3).double(), dim=1)
    theirs = torch.from_numpy(splats["sh"]).double()  # in nerfstudio's axes, as trained there
    stored = sh_basis(seen_along @ torch.from_numpy(R).T, 3) @ theirs
    np.testing.assert_allclose(sh_basis(seen_along, 3) @ found.sh.double(), stored, atol=1e-5)


def test_without_the_frame_nothing_moves(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    splats = some_arrays(COUNT)
    write_run(tmp_path / "run", splatfacto_state(splats), settings("splatfacto", {}))
    found = load_splats(tmp_path / "run")
    np.testing.assert_array_equal(found.means, splats["means"])
    np.testing.assert_array_equal(found.sh, splats["sh"])
    assert capsys.readouterr().err.count("stays in nerfstudio's frame") == 1


@pytest.mark.parametrize("seed", range(50))
def test_mutations(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = save_gsplat(tmp_path / "a.pt", some_arrays(4, 0))
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 3))):
        at = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.choice((1, 64))]
            case 2:
                data[at:at] = bytes(rng.randrange(1, 9))
    path.write_bytes(data)
    try:
        expect_valid(read_splats(path))
    except InputError as error:
        assert "\n" not in str(error) and str(path) in str(error)


# Writers


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_a_written_gsplat_checkpoint(tmp_path: Path, degree: int) -> None:
    splats = some_arrays(COUNT, degree)
    splats["attributes"] = {"feature": np.random.default_rng(0).random((COUNT, 3), np.float32)}
    write_splats(tmp_path / "a.pt", splats)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    shapes = {name: tuple(tensor.shape) for name, tensor in content["splats"].items()}
    rest = (degree + 1) ** 2 - 1
    assert content["step"] == 0 and shapes == {
        "means": (COUNT, 3),
        "scales": (COUNT, 3),
        "quats": (COUNT, 4),
        "opacities": (COUNT,),
        "sh0": (COUNT, 1, 3),
        "shN": (COUNT, rest, 3),
        "feature": (COUNT, 3),
    }
    found = read_splats(tmp_path / "a.pt")
    expect_same(found, splats)
    np.testing.assert_array_equal(found["attributes"]["feature"], splats["attributes"]["feature"])


def test_attributes_with_names_of_the_layout(tmp_path: Path) -> None:
    splats = some_arrays(COUNT)
    splats["attributes"] = {"quats": np.zeros(COUNT, np.float32)}
    with pytest.raises(UsageError, match="cannot hold an attribute as 'quats'"):
        write_splats(tmp_path / "a.pt", splats)
    assert not (tmp_path / "a.pt").exists()


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_a_written_run_of_splatfacto(
    tmp_path: Path, degree: int, capsys: pytest.CaptureFixture
) -> None:
    splats = some_arrays(COUNT, degree)
    splats["attributes"] = {"label": np.zeros(COUNT, np.float32)}
    (tmp_path / "run").mkdir()
    write_splats(tmp_path / "run/config.yml", splats)
    assert "cannot hold the attributes label: left out" in capsys.readouterr().err
    found = load_splats(tmp_path / "run")
    np.testing.assert_array_equal(found.means, splats["means"])
    np.testing.assert_array_equal(found.sh[:, : splats["sh"].shape[1]], splats["sh"])
    assert not found.sh[:, splats["sh"].shape[1] :].any() and found.degree == max(degree, 1)
    run = open_run(tmp_path / "run")
    assert run.method == "splatfacto" and run.model["sh_degree"] == found.degree
    assert Path(*run.settings["relative_model_dir"]) == run.checkpoint.parent
    content = torch.load(run.checkpoint, weights_only=True)
    assert content["pipeline"]["_model.gauss_params.features_dc"].shape == (COUNT, 3)
    frames = json.loads((tmp_path / "run/geodistill_data/transforms.json").read_text())["frames"]
    assert (tmp_path / "run/geodistill_data" / frames[0]["file_path"]).is_file()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_data_set_of_a_user_stays(tmp_path: Path) -> None:
    """`ns-process-data` names its files so, and the folder is the natural one."""
    for name in ("data/transforms.json", "data/images/frame_00001.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"of the user")
    before = contents(tmp_path)
    write_splats(tmp_path / "config.yml", some_arrays(COUNT))
    assert before.items() < contents(tmp_path).items()


@pytest.mark.parametrize(
    ("step", "removed"), [(29999, ""), (29999, "config.yml"), (0, "config.yml")]
)
def test_no_run_is_written_among_the_files_of_another(
    tmp_path: Path, step: int, removed: str
) -> None:
    """Whose checkpoint would be replaced, or be read as the newest."""
    state = splatfacto_state(some_arrays(COUNT))
    run = write_run(tmp_path / "run", state, settings("splatfacto", {}), step=step)
    (run / "notes.txt").touch()
    if removed:
        (run / removed).unlink()
    before = contents(run)
    with pytest.raises(UsageError, match=rf"step-0*{step}\.ckpt is of another run: name another"):
        write_splats(run / "config.yml", some_arrays(COUNT))
    assert contents(run) == before


def test_the_frame_of_another_run_stays(tmp_path: Path) -> None:
    (tmp_path / "dataparser_transforms.json").write_text("of the user")
    with pytest.raises(UsageError, match=r"dataparser_transforms\.json is of another run"):
        write_splats(tmp_path / "config.yml", some_arrays(COUNT))
    assert [*contents(tmp_path).values()] == [b"of the user"]


def test_a_run_of_ours_is_written_again(tmp_path: Path) -> None:
    """Over a whole one, and over what an interrupted writer left."""
    for missing in ("", "config.yml", "dataparser_transforms.json"):
        first, second = some_arrays(COUNT, seed=1), some_arrays(COUNT, seed=2)
        write_splats(tmp_path / "config.yml", first)
        if missing:
            (tmp_path / missing).unlink()
        write_splats(tmp_path / "config.yml", second)
        np.testing.assert_array_equal(read_splats(tmp_path)["means"], second["means"])


def test_written_settings_are_what_nerfstudio_makes_objects_of(tmp_path: Path) -> None:
    write_splats(tmp_path / "config.yml", some_arrays(COUNT))
    text = (tmp_path / "config.yml").read_text()
    tags = re.findall(r"!!python/(object/apply|object|name|tuple):?(\S*)", text)
    classes = {name.rpartition(".")[2] for kind, name in tags if kind == "object"}
    assert classes >= {"TrainerConfig", "VanillaPipelineConfig", "SplatfactoModelConfig"}
    assert {name for kind, name in tags if kind == "object/apply"} == {"pathlib.Path"}
