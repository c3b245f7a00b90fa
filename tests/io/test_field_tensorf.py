"""TensoRF's checkpoints beside its forward pass written out, and files back."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodistill.checks import InputError, UsageError
from geodistill.geometry.fields import build_field
from geodistill.geometry.fields.decoder import DecoderConfig
from geodistill.geometry.fields.foreign import arrays_from_field, field_from_arrays
from geodistill.geometry.fields.tensorf import TensorfConfig, TensorfCpConfig
from geodistill.io.fields import read_field, write_field
from geodistill.io.fields.tensorf import read_tensorf
from geodistill.io.fields.tensorf_write import tensorf_files
from tests.io.field_arrays import densities_and_colors, evaluate
from tests.io.splat_samples import mutated
from tests.io.tensorf_samples import CUBE, SLAB, checkpoint, forward

KINDS = [
    {},
    {"shading": "MLP"},
    {"shading": "MLP_PE"},
    {"shading": "MLP_PE", "point": True},
    {"shading": "MLP_PE", "aabb": CUBE, "grid": (9, 9, 9)},
    {"shading": "SH", "density": "relu"},
    {"kind": "cp", "ranks": ((6, 6, 6), (7, 7, 7))},
    {"kind": "cp", "ranks": ((6, 6, 6), (7, 7, 7)), "shading": "SH", "aabb": CUBE},
]


def saved(found: dict[str, Any], path: Path) -> Path:
    torch.save(found, path)
    return path


def places(aabb: tuple, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Places in and around a box, and directions."""
    draw = np.random.default_rng(4)
    low, high = np.array(aabb)
    d = draw.normal(size=(count, 3))
    x = low + (high - low) * draw.uniform(-0.1, 1.1, (count, 3))
    return x, d / np.linalg.norm(d, axis=1, keepdims=True)


def expect_equal(found: tuple, wanted: tuple, inside: np.ndarray) -> None:
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1][inside], wanted[1][inside], rtol=1e-4, atol=1e-6)
    assert inside.any() and not inside.all() and wanted[0].max() > 1


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_the_forward_pass(options: dict[str, Any], tmp_path: Path) -> None:
    found = checkpoint(**options)
    arrays = read_tensorf(saved(found, tmp_path / "scene.th"))
    x, d = places(options.get("aabb", SLAB))
    sigma, rgb, inside = forward(found, x, d)
    expect_equal(evaluate(arrays, x, d), (sigma, rgb), inside)
    assert all(values.dtype == np.float32 for values in arrays["parameters"].values())


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_file_written_is_the_file_read(options: dict[str, Any], tmp_path: Path) -> None:
    found = checkpoint(**options, mask=True)
    arrays = read_tensorf(saved(found, tmp_path / "scene.th"))
    written = loaded(tensorf_files(arrays, tmp_path / "back.th")["back.th"])
    first = found["state_dict"].get("renderModule.mlp.0.weight")
    if options.get("shading") == "MLP_PE" and not options.get("point"):
        zeros = torch.zeros(10, 3)  # the point, which this one does not use
        found["state_dict"]["renderModule.mlp.0.weight"] = torch.cat(
            [first[:, :11], zeros, first[:, 11:]], dim=1
        )
    assert {*written["state_dict"]} == {*found["state_dict"]}
    for name, values in found["state_dict"].items():
        assert written["state_dict"][name].dtype == torch.float32
        torch.testing.assert_close(written["state_dict"][name], values, rtol=1e-6, atol=1e-7)
    shading = found["kwargs"]["shadingMode"]
    unused = {"SH": {"pos_pe", "view_pe", "fea_pe", "featureC"}, "MLP": {"pos_pe", "fea_pe"}}
    unused |= {"MLP_Fea": {"pos_pe"}, "MLP_PE": {"fea_pe"}}
    unused[shading] |= {"density_shift"} if found["kwargs"]["fea2denseAct"] == "relu" else set()
    assert {*written["kwargs"]} == {*found["kwargs"]}
    for name in found["kwargs"].keys() - unused[shading] - {"aabb", "distance_scale"}:
        assert written["kwargs"][name] == found["kwargs"][name], name
    assert written["kwargs"]["distance_scale"] == pytest.approx(25, rel=1e-12)
    assert torch.equal(written["kwargs"]["aabb"], found["kwargs"]["aabb"])


def loaded(content: bytes) -> dict[str, Any]:
    """As the program itself loads it."""
    return torch.load(io.BytesIO(content), weights_only=False)


# The mask


def test_the_mask_is_kept_where_it_lets_see(tmp_path: Path) -> None:
    found = checkpoint(mask=True)
    occupancy = read_tensorf(saved(found, tmp_path / "scene.th"))["occupancy"]
    assert occupancy is not None and 0.02 < occupancy.mean() < 0.6
    x, d = places(SLAB, 400)
    sigma, _, seen = forward(found, x, d)
    x, seen = x[sigma > 0], seen[sigma > 0]
    center, half = np.mean(SLAB, axis=0), np.ptp(np.array(SLAB)[:, 1]) / 2
    cells = np.floor(((x - center) / half + 1) * 64).astype(int).clip(0, 127)
    occupied = occupancy[tuple(cells.T)]
    assert occupied[seen].all() and 20 < seen.sum() < 0.7 * len(seen)
    assert (~occupied).sum() > 0.9 * (~seen).sum()


def test_cells_outside_the_box_are_empty(tmp_path: Path) -> None:
    found = checkpoint(mask=True)
    found["alphaMask.mask"][:] = 255
    occupancy = read_tensorf(saved(found, tmp_path / "scene.th"))["occupancy"]
    assert occupancy is not None
    share = np.prod(np.ptp(np.array(SLAB), axis=0)) / 2.3**3
    assert share <= occupancy.mean() < 1.1 * share


def test_without_a_mask_nothing_is_known(tmp_path: Path) -> None:
    assert read_tensorf(saved(checkpoint(), tmp_path / "scene.th"))["occupancy"] is None


@pytest.mark.parametrize("size", [128, 200])
def test_a_mask_written_says_what_the_cells_say(size: int, tmp_path: Path) -> None:
    arrays = read_tensorf(saved(checkpoint(aabb=CUBE), tmp_path / "scene.th"))
    cells = np.zeros((size, size, size), bool)
    draw = np.random.default_rng(1)
    for corner in draw.integers(0, size - 20, (30, 3)):
        cells[tuple(slice(c, c + 20) for c in corner)] = True
    arrays["occupancy"] = cells
    files = tensorf_files(arrays, tmp_path / "back.th")
    (tmp_path / "back.th").write_bytes(files["back.th"])  # pyright: ignore[reportArgumentType]
    read_back = read_tensorf(tmp_path / "back.th")["occupancy"]
    if size == 128:
        assert np.array_equal(read_back, cells)
    x, d = places(CUBE, 300)
    *_, seen = forward(loaded(files["back.th"]), x, d)
    inside = (np.abs(x) < 1.5).all(axis=1)
    occupied = cells[tuple(np.floor((x[inside] / 1.5 + 1) * (size / 2)).astype(int).T)]
    assert occupied.any() and seen[inside][occupied].all()
    if size == 128:
        assert np.array_equal(occupied, seen[inside])


def test_an_occupancy_of_all_is_no_mask(tmp_path: Path) -> None:
    arrays = read_tensorf(saved(checkpoint(), tmp_path / "scene.th"))
    arrays["occupancy"] = np.ones((128, 128, 128), bool)
    assert {*loaded(tensorf_files(arrays, Path("a.th"))["a.th"])} == {"kwargs", "state_dict"}


# What the program has no word for, and what it has another one for


def test_a_constant_within_relu_is_a_component(tmp_path: Path) -> None:
    for kind, ranks in (("vm", ((4, 2, 3), (5, 6, 2))), ("cp", ((4, 4, 4), (5, 5, 5)))):
        found = checkpoint(kind=kind, ranks=ranks, density="relu")
        arrays = read_tensorf(saved(found, tmp_path / "scene.th"))
        arrays["config"]["floor"] = -0.7
        back = loaded(tensorf_files(arrays, Path("a.th"))["a.th"])
        x, d = places(SLAB)
        sigma, rgb, inside = forward(back, x, d)
        expect_equal(evaluate(arrays, x, d), (sigma, rgb), inside)


def test_the_floor_goes_into_the_shift(tmp_path: Path) -> None:
    arrays = read_tensorf(saved(checkpoint(), tmp_path / "scene.th"))
    arrays["config"]["floor"] = -0.7
    back = loaded(tensorf_files(arrays, Path("a.th"))["a.th"])
    assert back["kwargs"]["density_shift"] == pytest.approx(-3.7)


@pytest.mark.parametrize("degree", [0, 1])
def test_lower_harmonics_are_padded(degree: int, tmp_path: Path) -> None:
    arrays = read_tensorf(saved(checkpoint(shading="SH"), tmp_path / "scene.th"))
    basis = arrays["parameters"]["branch.basis"].reshape(3, 9, -1)[:, : (degree + 1) ** 2]
    arrays["parameters"]["branch.basis"] = basis.reshape(-1, basis.shape[2])
    arrays["config"]["decoder"]["features"] = 3 * (degree + 1) ** 2
    back = loaded(tensorf_files(arrays, Path("a.th"))["a.th"])
    assert back["kwargs"]["app_dim"] == 27
    x, d = places(SLAB)
    sigma, rgb, inside = forward(back, x, d)
    expect_equal(evaluate(arrays, x, d), (sigma, rgb), inside)


def test_a_head_without_biases(tmp_path: Path) -> None:
    arrays = read_tensorf(saved(checkpoint(), tmp_path / "scene.th"))
    for i in range(3):
        del arrays["parameters"][f"color_head.biases.{i}"]
    state = loaded(tensorf_files(arrays, Path("a.th"))["a.th"])["state_dict"]
    assert not state["renderModule.mlp.0.bias"].any()
    assert state["renderModule.mlp.4.bias"].shape == (3,)


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"density": "exp"}, "--set decoder.density=softplus"),
        ({"head": "harmonics"}, "--set decoder.head=sh"),
        ({"layers": 3}, "--set decoder.layers=2"),
        ({"view_frequencies": (1.0, 3.0)}, "view frequencies 1, 2, 4"),
        ({"position_frequencies": (1.0,)}, "not both"),
    ],
)
def test_a_decoder_it_does_not_have(change: dict, complaint: str, tmp_path: Path) -> None:
    arrays = read_tensorf(saved(checkpoint(), tmp_path / "scene.th"))
    arrays["config"]["decoder"] |= change
    expect_refused(arrays, complaint)


def test_fields_it_cannot_hold(tmp_path: Path) -> None:
    path = saved(checkpoint(shading="MLP_PE"), tmp_path / "scene.th")
    arrays = read_tensorf(path)
    arrays["config"]["decoder"]["position_frequencies"] = (1.0, 1.1, 1.2, 1.3)
    expect_refused(arrays, "octaves of its grid's box")
    for key, value, complaint in (
        ("architecture", "ngp", "no field of the kind ngp"),
        ("contraction", "l2", "contracted"),
    ):
        expect_refused(read_tensorf(path) | {key: value}, complaint)
    arrays = read_tensorf(path)
    arrays["config"]["limits"] = (-2.0, 7.0)
    expect_refused(arrays, "--set limits=[]")
    arrays = read_tensorf(path)
    arrays["world_from_field"] = arrays["world_from_field"][[1, 2, 0, 3]]
    expect_refused(arrays, "turned")
    arrays = read_tensorf(saved(checkpoint(shading="SH"), path))
    arrays["parameters"]["branch.basis"] = np.zeros((48, 18), np.float32)
    expect_refused(arrays, "--set decoder.features=27")


def expect_refused(arrays: Any, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        tensorf_files(arrays, Path("a.th"))
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def test_old_numpy_knows_the_names_in_a_file(tmp_path: Path) -> None:
    arrays = read_tensorf(saved(checkpoint(mask=True), tmp_path / "scene.th"))
    files = [tensorf_files(arrays, Path("a.th"))["a.th"] for _ in range(2)]
    assert files[0] == files[1]
    with zipfile.ZipFile(io.BytesIO(files[0])) as archive:  # pyright: ignore[reportArgumentType]
        pickled = archive.read("archive/data.pkl")
    assert b"cnumpy.core.multiarray\n_reconstruct" in pickled and b"_core" not in pickled


# Files that are refused


def without(found: dict, *keys: str) -> dict:
    for key in keys:
        for values in (found, found["kwargs"], found["state_dict"]):
            values.pop(key, None)
    return found


def changed(found: dict, key: str, value: Any) -> dict:
    place = next(v for v in (found["kwargs"], found["state_dict"], found) if key in v)
    place[key] = value
    return found


NAN = torch.full((1, 4, 12, 9), float("nan"))


@pytest.mark.parametrize(
    "found, complaint",
    [
        (without(checkpoint(), "kwargs"), "no checkpoint of TensoRF"),
        (without(checkpoint(), "aabb"), "no checkpoint of TensoRF"),
        (without(checkpoint(), "density_line.1"), "lacks density_line.1"),
        (without(checkpoint(), "density_plane.1"), "lacks density_plane.1"),
        (without(checkpoint(), "distance_scale"), "lacks distance_scale"),
        (without(checkpoint(), "renderModule.mlp.2.bias"), "lacks renderModule.mlp.2.bias"),
        (changed(checkpoint(), "density_plane.0", NAN), "NaN"),
        (changed(checkpoint(), "density_plane.0", NAN[:, :2]), "holds NaN"),
        (changed(checkpoint(), "density_plane.0", torch.zeros(1, 4, 9, 12)), "[4, 9, 12]"),
        (changed(checkpoint(), "app_line.2", torch.zeros(1, 2, 5, 1)), "app_line.2 has shape"),
        (changed(checkpoint(), "app_line.2", torch.zeros(2, 2)), "which no factor has"),
        (changed(checkpoint(), "basis_mat.weight", torch.zeros(8, 5)), "basis_mat.weight has"),
        (changed(checkpoint(), "basis_mat.weight", torch.zeros(8)), "not a matrix"),
        (changed(checkpoint(), "shadingMode", "RGB"), "colours without an activation"),
        (changed(checkpoint(), "shadingMode", "\n" * 90), "MLP_Fea, MLP_PE, MLP and SH"),
        (changed(checkpoint(), "shadingMode", np.zeros(3)), "'ndarray'"),
        (changed(checkpoint(), "shadingMode", "SH"), "its harmonics take 27"),
        (changed(checkpoint(), "fea2denseAct", "exp"), "softplus and relu"),
        (changed(checkpoint(), "fea2denseAct", np.zeros(3)), "softplus and relu"),
        (changed(checkpoint(), "view_pe", 2), "renderModule.mlp.0.weight has shape"),
        (changed(checkpoint(), "view_pe", 2.5), "octaves"),
        (changed(checkpoint(), "view_pe", 10**30), "view_pe that is no number"),
        (changed(checkpoint(), "distance_scale", -1), "distance_scale -1"),
        (changed(checkpoint(), "density_shift", None), "density_shift that is no number"),
        (changed(checkpoint(), "aabb", torch.zeros(2, 3)), "without volume"),
        (changed(checkpoint(), "aabb", [[0.0, 1.0], [2.0]]), "does not hold numbers"),
        (changed(checkpoint(), "aabb", [[0.0] * 3, [1.0] * 3]), "does not hold numbers"),
        (changed(checkpoint(), "fea2denseAct", [["exp"]]), "activation a list: softplus"),
        (changed(checkpoint(), "aabb", torch.ones(3)), "its aabb has shape"),
        (changed(checkpoint(), "aabb", torch.tensor(CUBE) * 1e7), "corners"),
        (changed(checkpoint(mask=True), "alphaMask.shape", (1, 1, 6, 5)), "fit its 27 bytes"),
        (changed(checkpoint(mask=True), "alphaMask.shape", (2, 1, 6, 5, 7)), "fit its 27 bytes"),
        (changed(checkpoint(mask=True), "alphaMask.shape", 7), "no shape"),
        (changed(checkpoint(mask=True), "alphaMask.mask", None), "no bits"),
        (changed(checkpoint(mask=True), "alphaMask.mask", np.zeros(27)), "no bits"),
        (changed(checkpoint(mask=True), "alphaMask.mask", torch.zeros(27).bfloat16()), "no bits"),
        (checkpoint(kind="cp"), "different numbers of components"),
        (checkpoint(grid=(9, 1, 7)), "too few"),
        (checkpoint(grid=(2, 200, 200), ranks=((90, 1, 1), (1, 1, 1))), "too different"),
        ({**checkpoint(), "state_dict": {"plane_coef": NAN}}, "TensorVM"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_refused(found: dict, complaint: str, tmp_path: Path) -> None:
    path = saved(found, tmp_path / "scene.th")
    with pytest.raises(InputError) as caught:
        read_tensorf(path)
    text = str(caught.value)
    assert complaint in text and "\n" not in text and str(path) in text


def test_forward_facing_scenes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = changed(checkpoint(), "near_far", [0, 1])
    read_tensorf(saved(found, tmp_path / "scene.th"))
    assert "normalised device coordinates" in capsys.readouterr().err


@pytest.mark.parametrize("value", [[torch.ones(2), 3], torch.ones(3), [[1], 2], "12", None, 7])
def test_depths_that_are_none(value: object, tmp_path: Path) -> None:
    found = changed(checkpoint(), "near_far", value)
    assert "near_far" not in read_tensorf(saved(found, tmp_path / "scene.th"))["extra"]


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "scene.th"
    data = saved(checkpoint(mask=True), path).read_bytes()
    refused = 0
    for content in mutated(data, 50, header=1500):
        path.write_bytes(content)
        try:
            arrays = read_tensorf(path)
            assert all(np.isfinite(values).all() for values in arrays["parameters"].values())
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert refused > 30


# Through fields


@pytest.mark.parametrize("kind", ["vm", "cp"])
def test_a_field_of_ours_goes_out_and_comes_back(kind: str, tmp_path: Path) -> None:
    decoder = DecoderConfig(
        density="softplus",
        density_shift=-2.0,
        head="frequencies",
        features=6,
        width=12,
        view_frequencies=(1.0, 2.0),
        position_frequencies=(1.0, 2.0, 4.0),
    )
    make = TensorfConfig if kind == "vm" else TensorfCpConfig
    config = make(resolution=8, density_rank=3, color_rank=4, floor=-0.5, decoder=decoder)
    field = build_field("tensorf" if kind == "vm" else "tensorf-cp", config, seed=2)
    for parameter in field.branch.parameters():
        parameter.data *= 15
    field.world_from_field[:3, 3] = torch.tensor([1.0, -2.0, 0.5])
    field.world_from_field[:3, :3] *= 1.5
    field.occupancy[:40] = False
    write_field(tmp_path / "a.th", arrays_from_field(field))
    back = field_from_arrays(read_field(tmp_path / "a.th"), "a.th")
    assert torch.equal(back.occupancy, field.occupancy)
    x, d = places(((-0.7, -3.7, -1.2), (2.7, -0.3, 2.2)))
    wanted = densities_and_colors(field, x, d)
    found = densities_and_colors(back, x, d)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-5, atol=1e-6)
    program = forward(loaded((tmp_path / "a.th").read_bytes()), x, d)
    np.testing.assert_allclose(program[0] * program[2], wanted[0], rtol=1e-4, atol=1e-6)
    assert wanted[0].max() > 0.3 and 0.1 < (wanted[0] > 0).mean() < 0.8
