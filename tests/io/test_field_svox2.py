"""Plenoxels of svox2 beside its interpolation written out, and files back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geodistill.checks import InputError, UsageError
from geodistill.io.fields.svox2 import holds_voxels, read_svox2, svox2_files
from tests.io.field_arrays import evaluate
from tests.io.splat_samples import mutated
from tests.io.tensorf_samples import harmonics


def grid(
    shape: tuple[int, int, int] = (9, 12, 8),
    coefficients: int = 9,
    radius: tuple = (1.25, 1.5, 0.75),
    center: tuple = (0.5, -0.25, 2.0),
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """What `SparseGrid.save` stores, rows in an order of their own."""
    draw = np.random.default_rng(seed)
    links = -draw.integers(1, 4, shape).astype(np.int32)  # distances to what is there
    there = draw.random(shape) < 0.6
    count = int(there.sum())
    links[there] = draw.permutation(count)
    return {
        "radius": np.array(radius, np.float32),
        "center": np.array(center, np.float32),
        "links": links,
        "density_data": (20 * draw.normal(size=(count, 1))).astype(np.float32),
        "sh_data": draw.normal(size=(count, 3 * coefficients)).astype(np.float16),
        "basis_type": np.array(1),
    }


def saved(arrays: dict[str, Any], path: Path, packed: bool = False) -> Path:
    (np.savez_compressed if packed else np.savez)(path, **arrays)
    return path


def forward(found: dict[str, np.ndarray], x: np.ndarray, d: np.ndarray) -> tuple:
    """Density per world length and colour at one place, as `SparseGrid.sample` has them."""
    links, radius, center = (found[name] for name in ("links", "radius", "center"))
    if (np.abs(x - center) > radius).any():
        return 0.0, np.full(3, 0.5)
    size = np.array(links.shape)
    place = (x * (0.5 / radius) + 0.5 * (1 - center / radius)) * size - 0.5
    place = place.clip(0, size - 1)
    base = np.floor(place).astype(int).clip(0, size - 2)
    total = np.zeros(1 + found["sh_data"].shape[1])
    for corner in np.ndindex(2, 2, 2):
        link = links[tuple(base + corner)]
        weight = np.prod(np.where(corner, place - base, 1 - (place - base)))
        if link >= 0:
            row = [*found["density_data"][link], *found["sh_data"][link].astype(float)]
            total += weight * np.array(row)
    k = total[1:].reshape(3, -1)
    return max(total[0], 0.0), np.maximum(k @ harmonics(d)[: k.shape[1]] + 0.5, 0)


def places(found: dict[str, np.ndarray], count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(3)
    d = draw.normal(size=(count, 3))
    x = found["center"] + found["radius"] * draw.uniform(-1.1, 1.1, (count, 3))
    return x, d / np.linalg.norm(d, axis=1, keepdims=True)


@pytest.mark.parametrize("coefficients", [1, 4, 9])
def test_the_interpolation(coefficients: int, tmp_path: Path) -> None:
    found = grid(coefficients=coefficients)
    arrays = read_svox2(saved(found, tmp_path / "scene.npz"))
    x, d = places(found)
    wanted = [forward(found, *pair) for pair in zip(x, d, strict=True)]
    sigma, rgb = (np.array(values) for values in zip(*wanted, strict=True))
    measured = evaluate(arrays, x, d)
    np.testing.assert_allclose(measured[0], sigma, rtol=1e-4, atol=1e-4)
    inside = (np.abs(x - found["center"]) <= found["radius"]).all(axis=1)
    np.testing.assert_allclose(measured[1][inside], rgb[inside], rtol=1e-4, atol=1e-5)
    assert sigma.max() > 5 and (sigma[inside] == 0).any() and not inside.all()


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_written_is_the_file_read(packed: bool, tmp_path: Path) -> None:
    found = grid()
    arrays = read_svox2(saved(found, tmp_path / "scene.npz", packed))
    (tmp_path / "back.npz").write_bytes(svox2_files(arrays, tmp_path / "back.npz")["back.npz"])
    with np.load(tmp_path / "back.npz") as back:
        assert {*back.files} == {*found}
        for name, values in found.items():
            assert (back[name].dtype, back[name].shape) == (values.dtype, values.shape), name
        there = found["links"] >= 0
        assert np.array_equal(back["links"] >= 0, there) and back["links"].min() == -1
        rows, order = found["links"][there], back["links"][there]
        assert np.array_equal(back["sh_data"][order], found["sh_data"][rows])
        densities = (back["density_data"][order], found["density_data"][rows])
        np.testing.assert_allclose(*densities, rtol=2e-7)
        assert np.array_equal(back["radius"], found["radius"])
        assert np.array_equal(back["center"], found["center"])
        assert back["basis_type"].item() == 1
    again = read_svox2(tmp_path / "back.npz")
    assert np.array_equal(again["nodes"], arrays["nodes"])
    assert again["config"] == arrays["config"]


def test_a_cube(tmp_path: Path) -> None:
    found = grid((8, 8, 8), radius=(2.0,) * 3)
    del found["basis_type"]
    config = read_svox2(saved(found, tmp_path / "scene.npz"))["config"]
    assert config == {"resolution": 8, "grid": (), "sh_degree": 2, "box": ()}
    for name in ("radius", "center"):
        del found[name]
    arrays = read_svox2(saved(found, tmp_path / "scene.npz"))
    assert np.array_equal(arrays["world_from_field"], np.eye(4))


def test_files_of_old_versions_have_one_array(tmp_path: Path) -> None:
    found = grid()
    new = read_svox2(saved(found, tmp_path / "new.npz"))
    density, harmonics = found.pop("density_data"), found.pop("sh_data")
    found["data"] = np.concatenate([density, harmonics.astype(np.float32)], axis=1)
    old = read_svox2(saved(found, tmp_path / "old.npz"))
    assert np.array_equal(old["parameters"]["values"], new["parameters"]["values"])


def test_what_is_dense_is_occupied(tmp_path: Path) -> None:
    found = grid()
    found["density_data"] -= 15
    arrays = read_svox2(saved(found, tmp_path / "scene.npz"))
    assert arrays["occupancy"] is not None and 0.05 < arrays["occupancy"].mean() < 0.9
    x, d = places(found, 500)
    sigma, _ = evaluate(arrays, x, d)
    cells = np.floor(((x - found["center"]) / 1.5 + 1) * 64).astype(int).clip(0, 127)
    assert (sigma > 0).sum() > 20 and arrays["occupancy"][tuple(cells[sigma > 0].T)].all()


def test_a_background_is_left_out_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = grid() | {"background_data": np.zeros((4, 8, 4)), "background_links": np.zeros((2, 2))}
    read_svox2(saved(found, tmp_path / "scene.npz"))
    assert "background layers are left out" in capsys.readouterr().err


def test_it_is_told_from_a_point_cloud(tmp_path: Path) -> None:
    assert holds_voxels(saved(grid(), tmp_path / "scene.npz"))
    assert not holds_voxels(saved({"positions": np.ones((2, 3))}, tmp_path / "cloud.npz"))
    (tmp_path / "cloud.npz").write_bytes(b"PK")
    assert not holds_voxels(tmp_path / "cloud.npz")


# What is refused


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"basis_type": np.array(4)}, "a learned texture"),
        ({"basis_type": np.array(255)}, "a network"),
        ({"basis_type": np.array([1, 2])}, "unknown basis"),
        ({"basis_type": None, "basis_data": np.zeros(3)}, "a learned texture"),
        ({"links": None}, "has no array 'links'"),
        ({"sh_data": None}, "has no array 'sh_data'"),
        ({"links": np.zeros((4, 4))}, "a grid of whole numbers"),
        ({"links": np.zeros((4, 4, 4), np.float32)}, "a grid of whole numbers"),
        ({"links": np.zeros((9, 12, 8), np.int32)}, "from 864 nodes"),
        ({"links": np.full((9, 12, 8), -1)}, "its grid is empty"),
        ({"links": np.full((2, 1, 8), -1)}, "a grid of whole numbers"),
        ({"links": np.array([[[-1, 5000], [-1, -1]], [[-1, -1], [-1, -1]]])}, "up to 5000"),
        ({"sh_data": np.zeros((3, 27), np.float16)}, "densities"),
        ({"sh_data": np.zeros(3, np.float16)}, "densities"),
        ({"density_data": np.zeros(5)}, "densities"),
        ({"density_data": np.array([["a"]] * 502)}, "numbers [N, 1]"),
        ({"sh_data": 5}, "5 harmonics a node"),
        ({"sh_data": np.inf}, "holds NaN or infinite"),
        ({"radius": np.zeros(3)}, "it must be positive"),
        ({"radius": np.array([1, 1, np.nan])}, "radius holds NaN"),
        ({"radius": np.ones(2)}, "not three numbers"),
        ({"radius": np.full(3, 1e7)}, "not three numbers"),
        ({"radius": np.array([1, 1e-9, 1])}, "without volume"),
        ({"center": np.array(["a", "b", "c"])}, "does not hold numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_refused(change: dict, complaint: str, tmp_path: Path) -> None:
    found: dict[str, Any] = grid()
    for name, value in change.items():
        if value is None:
            del found[name]
        elif isinstance(value, int):
            found[name] = found[name][:, :value]
        elif isinstance(value, float):
            found[name][7, 3] = value
        else:
            found[name] = value
    path = saved(found, tmp_path / "scene.npz")
    with pytest.raises(InputError) as caught:
        read_svox2(path)
    text = str(caught.value)
    assert complaint in text and "\n" not in text and str(path) in text


def test_fields_it_cannot_hold(tmp_path: Path) -> None:
    path = saved(grid(), tmp_path / "scene.npz")
    arrays: Any = read_svox2(path)
    turned = arrays["world_from_field"][[1, 2, 0, 3]]
    large = arrays["parameters"]["values"] + np.float32(1e5)
    for change, complaint in (
        ({"architecture": "ngp"}, "convert --to plenoxels"),
        ({"contraction": "linf"}, "contracted"),
        ({"world_from_field": turned}, "turned"),
        ({"parameters": {"values": large}}, "up to 65504"),
        ({"config": {**arrays["config"], "density": "exp"}}, "--set density=relu"),
        ({"config": {**arrays["config"], "limits": [-2.0, 7.0]}}, "--set limits=[]"),
    ):
        with pytest.raises(UsageError) as caught:
            svox2_files(arrays | change, Path("a.npz"))
        assert complaint in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_damaged_files(packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "scene.npz"
    data = saved(grid(), path, packed).read_bytes()
    refused = 0
    for content in mutated(data, 50, header=400):
        path.write_bytes(content)
        try:
            values = read_svox2(path)["parameters"]["values"]
            assert np.isfinite(values).all()
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert refused > 30
