"""Snapshots of instant-ngp against a slow reading of what instant-ngp computes."""

from __future__ import annotations

import gzip
import math
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from field_values import directions, mutations, occupied, values, write
from ingp_models import Snapshot

from geodistill.checks import InputError, UsageError
from geodistill.config import from_dict
from geodistill.geometry.fields import build_field, load_field, save_field
from geodistill.geometry.fields.foreign import arrays_from_field, field_from_arrays
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.io.fields.ingp import read_ingp
from geodistill.io.fields.ingp_network import read_network, split_parameters
from geodistill.io.fields.ingp_write import ingp_files
from geodistill.io.fields.msgpack import pack, unpack

SMALL: dict[str, Any] = {"levels": 5, "growth": 1.5}
KINDS: dict[str, dict[str, Any]] = {
    "8 levels of 4": {"levels": 8, "features": 4, "growth": 1.3},
    "16 levels of 2": {"levels": 16, "features": 2, "growth": 1.2, "log2_size": 12},
    "6 levels of 8": {"levels": 6, "features": 8, "growth": 1.4},
    "aabb_scale 4": {**SMALL, "aabb_scale": 4},
    "float parameters": {**SMALL, "half": False},
    "Mitsuba": {**SMALL, "mitsuba": True},
    "encoding padded": {"levels": 7, "features": 2, "growth": 1.4},
    "two hidden layers of density": {**SMALL, "density_layers": 2, "color_layers": 1},
    "harmonics of degree 3": {**SMALL, "degree": 3},
    "learnt inputs": {**SMALL, "extras": 3, "latents": [[0.1, 0.2, 0.3], [0.5, -0.2, 0.1]]},
    "learnt inputs, never stored": {**SMALL, "extras": 2},
    "20 density outputs": {**SMALL, "outputs": 20},
    "alignment of old builds": {**SMALL, "alignment": 8, "width": 24, "outputs": 17},
}


def saved(path: Path, content: dict[str, Any]) -> Path:
    plain = b"".join(pack(content))
    path.write_bytes(gzip.compress(plain, 1) if path.suffix == ".ingp" else plain)
    return path


def points(snapshot: Snapshot, count: int = 40) -> np.ndarray:
    """In the user's world, within the file's cube"""
    places = (np.random.default_rng(1).random((count, 3)) - 0.5) * snapshot.aabb_scale + 0.5
    turned = places if snapshot.mitsuba else places[:, [2, 0, 1]]
    return (turned - np.array(snapshot.offset)) / snapshot.scale


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_instant_ngp(tmp_path: Path, kind: str) -> None:
    snapshot = Snapshot(**KINDS[kind])
    arrays = read_ingp(saved(tmp_path / "a.ingp", snapshot.content()))
    x, d = points(snapshot), directions(40)
    (sigma, rgb), (own_sigma, own_rgb) = snapshot.values(x, d), values(arrays, x, d)
    np.testing.assert_allclose(own_sigma, sigma, rtol=1e-4)
    np.testing.assert_allclose(own_rgb, rgb, atol=1e-4)
    expected = [snapshot.occupied(place) for place in snapshot.in_file(x)]
    assert occupied(arrays, x).tolist() == expected
    assert 0 < sum(expected) < len(expected)


@pytest.mark.parametrize("aabb_scale", [1, 16])
def test_levels_that_the_file_does_not_state(tmp_path: Path, aabb_scale: int) -> None:
    """The finest is 2048 across a length of 1."""
    snapshot = Snapshot(levels=8, features=4, aabb_scale=aabb_scale, log2_size=12)
    snapshot.grid = snapshot.grid[:, :0]
    arrays = read_ingp(saved(tmp_path / "a.msgpack", snapshot.content()))
    assert arrays["config"]["max_resolution"] == 2048 * aabb_scale
    assert arrays["occupancy"] is None  # an empty grid is one that was never filled
    x, d = points(snapshot), directions(40)
    # single precision places points to 1e-4 cells of the finest levels, whose tables are noise here
    np.testing.assert_allclose(
        values(arrays, x, d)[0], snapshot.values(x, d)[0], rtol=1e-3 * aabb_scale
    )


def test_where_the_user_s_own_places_go(tmp_path: Path) -> None:
    """The middle of the cube, and an axis."""
    snapshot = Snapshot(**SMALL, scale=0.5, offset=(0.1, 0.2, 0.3))
    frame = read_ingp(saved(tmp_path / "a.ingp", snapshot.content()))["world_from_field"]
    np.testing.assert_allclose(frame[:3, 3], (0.5 - np.array([0.1, 0.2, 0.3])) / 0.5)
    np.testing.assert_allclose(frame @ [0, 1, 0, 0], [0, 0, 1, 0], atol=1e-12)  # y up becomes z up


def test_zlib_gzip_and_plain_are_the_same(tmp_path: Path) -> None:
    plain = b"".join(pack(Snapshot(**SMALL).content()))
    tables = []
    for name, content in (
        ("a.ingp", gzip.compress(plain)),
        ("b.ingp", zlib.compress(plain)),
        ("c.ingp", zlib.compress(plain, 0)),
        ("d.msgpack", plain),
    ):
        (tmp_path / name).write_bytes(content)
        tables.append(read_ingp(tmp_path / name)["parameters"]["branch.table"])
    assert all(np.array_equal(tables[0], table) for table in tables)


@pytest.mark.parametrize(
    ("encoding", "table", "network"),
    [
        # instant-ngp's log of 16 levels of 2, and of its present default
        ({"n_levels": 16, "n_features_per_level": 2}, 12_196_240, 10_240),
        ({"n_levels": 8, "n_features_per_level": 4}, 11_681_792, 10_240),
    ],
)
def test_counts_of_public_files(encoding: dict, table: int, network: int) -> None:
    net = {"otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None"}
    config = {
        "encoding": {
            "otype": "HashGrid",
            "log2_hashmap_size": 19,
            "base_resolution": 16,
            **encoding,
        },
        "network": {**net, "n_neurons": 64, "n_hidden_layers": 1},
        "rgb_network": {**net, "n_neurons": 64, "n_hidden_layers": 2},
        "dir_encoding": {"otype": "SphericalHarmonics", "degree": 4},
    }
    described = read_network(config, 1, 0, "it")
    flat = np.zeros(table + network, np.float16)
    found = split_parameters(described, flat, "it")
    assert found.table.size == table
    assert sum(m.size for m in (*found.density, *found.color)) == network
    with pytest.raises(InputError, match="parameters"):
        split_parameters(described, flat[:-8], "it")


def test_a_table_of_another_machine_s_rounding() -> None:
    """16 levels to 512 had 10,526,448 parameters on one machine and 10,495,120 on another."""
    net = {"otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None"}
    growth = math.exp(math.log(512 / 16) / 15)
    config = {
        "encoding": {
            "otype": "HashGrid",
            "n_levels": 16,
            "n_features_per_level": 2,
            "log2_hashmap_size": 19,
            "base_resolution": 16,
            "per_level_scale": growth,
        },
        "network": {**net, "n_neurons": 64, "n_hidden_layers": 1},
        "rgb_network": {**net, "n_neurons": 64, "n_hidden_layers": 2},
        "dir_encoding": {"otype": "SphericalHarmonics", "degree": 4},
    }
    described = read_network(config, 1, 0, "it")
    for total in (10_495_120, 10_526_448):  # of the table and its network of 3,072
        found = split_parameters(described, np.zeros(total + 7_168, np.float16), "it")
        assert found.table.size == total - 3_072


def edited(snapshot: Snapshot, /, **changes: Any) -> dict[str, Any]:
    """The content with entries at paths such as snapshot__nerf__aabb_scale changed."""
    content = snapshot.content()
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = content
        for parent in parents:
            target = target[parent]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return content


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no snapshot": ({"snapshot": None}, "holds no 'snapshot'"),
    "an SDF": ({"snapshot__mode": "sdf"}, "mode 'sdf'"),
    "no mode": ({"snapshot__mode": None, "snapshot__nerf": None}, "mode"),
    "an old version": ({"snapshot__version": 0}, "version"),
    "HDR": ({"snapshot__nerf__dataset__is_hdr": True}, "HDR"),
    "aabb_scale 3": ({"snapshot__nerf__dataset__aabb_scale": 3}, "power of two"),
    "aabb_scale 1024": ({"snapshot__nerf__dataset__aabb_scale": 1024}, "aabb_scale"),
    "scale 0": ({"snapshot__nerf__dataset__scale": 0.0}, "scale"),
    "offset of a text": ({"snapshot__nerf__dataset__offset": "here"}, "offset"),
    "a dense grid": ({"encoding__otype": "DenseGrid"}, "DenseGrid"),
    "smooth steps": ({"encoding__interpolation": "Smoothstep"}, "Smoothstep"),
    "another hash": ({"encoding__hash": "Prime"}, "Prime"),
    "no levels": ({"encoding__n_levels": 0}, "n_levels"),
    "shrinking levels": ({"encoding__per_level_scale": 0.5}, "grow"),
    "endless levels": ({"encoding__per_level_scale": 1e30}, "grow"),
    "a boolean size": ({"encoding__log2_hashmap_size": True}, "log2_hashmap_size"),
    "squareplus": ({"network__activation": "Squareplus"}, "Squareplus"),
    "an output's activation": ({"rgb_network__output_activation": "Sigmoid"}, "Sigmoid"),
    "no hidden layer": ({"network__n_hidden_layers": 0}, "n_hidden_layers"),
    "no network": ({"rgb_network": None}, "rgb_network"),
    "frequencies": ({"dir_encoding": {"otype": "Frequency", "n_frequencies": 4}}, "Frequency"),
    "degree 5": ({"dir_encoding": {"otype": "SphericalHarmonics", "degree": 5}}, "degree"),
    "wrong width": ({"network__n_neurons": 32}, "parameters"),
    "another type": ({"snapshot__params_type": "bfloat16"}, "bfloat16"),
    "no parameters": ({"snapshot__params_binary": None}, "params_binary"),
    "half a number": ({"snapshot__params_binary": b"123"}, "params_binary"),
    "another count": ({"snapshot__n_params": 12}, "12 parameters"),
    "bytes for a number": ({"snapshot__n_params": b"12"}, "n_params"),
    "infinite parameters": (
        {"snapshot__params_binary": np.full(9000, np.inf, np.float16).tobytes()},
        "parameters",
    ),
    "a grid of 64": ({"snapshot__density_grid_size": 64}, "density grid"),
    "too few cells": ({"snapshot__density_grid_binary": b"1234"}, "density grid"),
    "learnt inputs of another size": (
        {"snapshot__nerf__extra_dims_opt": [{"variable": [1.0]}]},
        "extra_dims_opt",
    ),
    "a sheared frame": (
        {"geodistill": {"world_from_field": np.triu(np.ones((4, 4))).tolist()}},
        "world_from_field",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path: Path, case: str) -> None:
    changes, words = REFUSED[case]
    extras = {"extras": 2} if "learnt" in case else {}
    content = edited(Snapshot(**SMALL, **extras), **changes)
    with pytest.raises(InputError, match=words) as caught:
        read_ingp(saved(tmp_path / "a.ingp", content))
    assert "\n" not in str(caught.value) and "a.ingp" in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.ingp"
    whole = gzip.compress(b"".join(pack(Snapshot(**SMALL).content())))
    for content in (b"\x00", b"[]", whole[:200], whole[:-9], zlib.compress(b"x"), b"\xc1" * 9):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.ingp"):
            read_ingp(path)
    with pytest.raises(InputError, match="does not exist"):
        read_ingp(tmp_path / "b.ingp")


def test_a_bomb_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geodistill.io.fields.ingp._SLACK", 1 << 22)
    path, packer = tmp_path / "a.ingp", zlib.compressobj(1)
    pieces = [b"\x81\xa1a\xc6\x7f\xff\xff\xff", *[bytes(1 << 20)] * 64]
    path.write_bytes(b"".join([*map(packer.compress, pieces), packer.flush()]))
    tracemalloc.start()
    with pytest.raises(InputError, match="more than"):
        read_ingp(path)
    room = (1 << 22) + 100 * path.stat().st_size
    assert room < 48 << 20 and tracemalloc.get_traced_memory()[1] < 2.5 * room
    tracemalloc.stop()


def test_a_damaged_file_is_refused_or_read(tmp_path: Path) -> None:
    snapshot, path, refused = Snapshot(**SMALL), tmp_path / "a.msgpack", 0
    snapshot.grid = snapshot.grid[:, :0]
    for content in mutations(b"".join(pack(snapshot.content())), 60):
        path.write_bytes(content)
        try:
            arrays = read_ingp(path)
            field_from_arrays({**arrays, "occupancy": np.ones((1, 1, 1), bool)}, "it")
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 10


def test_values_of_another_kind(tmp_path: Path) -> None:
    """Each entry in turn replaced by a text, a number, nothing, a list and an object."""
    snapshot = Snapshot(levels=2, features=2, growth=1.5, log2_size=6)
    snapshot.grid = snapshot.grid[:, :0]
    entries: list[tuple[list[str], Any]] = []

    def walk(value: Any, at: list[str]) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                entries.append(([*at, key], inner))
                walk(inner, [*at, key])

    walk(snapshot.content(), [])
    assert len(entries) > 40
    for at, _ in entries:
        for odd in ("text", -1, 1e300, None, [[1], 2], {"a": b"b"}, b"bytes", math.nan):
            content = target = snapshot.content()
            for key in at[:-1]:
                target = target[key]
            target[at[-1]] = odd
            try:
                arrays = read_ingp(saved(tmp_path / "a.msgpack", content))
                write(ingp_files(arrays, tmp_path / "b.msgpack"), tmp_path / "b.msgpack")
            except (InputError, UsageError) as error:
                assert "\n" not in str(error)


# Writing


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "alignment of old builds"])
def test_what_is_written_is_what_was_read(tmp_path: Path, kind: str) -> None:
    snapshot = Snapshot(**KINDS[kind])
    arrays = read_ingp(saved(tmp_path / "a.ingp", snapshot.content()))
    again = read_ingp(write(ingp_files(arrays, tmp_path / "b.ingp"), tmp_path / "b.ingp"))
    assert again["config"] == arrays["config"]
    for name, parameter in arrays["parameters"].items():
        np.testing.assert_array_equal(again["parameters"][name], parameter)
    np.testing.assert_allclose(again["world_from_field"], arrays["world_from_field"], atol=1e-12)
    assert np.array_equal(again["occupancy"], arrays["occupancy"])


def test_the_parameters_are_the_very_same(tmp_path: Path) -> None:
    """A snapshot of the present default's form comes back number by number, in half precision."""
    content = Snapshot(levels=4, features=4, growth=1.5).content()
    arrays = read_ingp(saved(tmp_path / "a.msgpack", content))
    back = write(ingp_files(arrays, tmp_path / "b.msgpack"), tmp_path / "b.msgpack")
    own, theirs = unpack(back.read_bytes(), "b")["snapshot"], content["snapshot"]
    assert own["params_type"] == "__half" and own["n_params"] == theirs["n_params"]
    flat = [np.frombuffer(part["params_binary"], np.float16) for part in (own, theirs)]
    differ = np.flatnonzero(flat[0] != flat[1])
    assert len(differ) <= 16 * 13  # what pads three colours to sixteen, and is never looked at
    assert not flat[0][differ].any()


def test_the_layout_of_a_written_file(tmp_path: Path) -> None:
    """What instant-ngp looks up when it loads a snapshot, and where our numbers stand in it."""
    own = {"levels": 4, "max_resolution": 64, "log2_size": 10, "convention": "tcnn"}
    field = build_field("ngp", from_dict(NgpConfig, own), seed=1)
    path = tmp_path / "own.ingp"
    arrays = arrays_from_field(field)
    content = unpack(gzip.decompress(write(ingp_files(arrays, path), path).read_bytes()), "own")
    assert {"loss", "optimizer", "encoding", "network", "rgb_network", "dir_encoding"} <= {*content}
    assert {"envmap", "distortion_map"} <= {*content}
    assert {"loss", "optimizer"} <= {*content["envmap"]}
    snapshot = content["snapshot"]
    assert snapshot["version"] == 1 and snapshot["mode"] == "nerf"
    assert {"training_step", "loss", "aabb", "bounding_radius"} <= {*snapshot}
    assert {*snapshot["nerf"]["rgb"]} == {
        "rays_per_batch",
        "measured_batch_size",
        "measured_batch_size_before_compaction",
    }
    dataset = snapshot["nerf"]["dataset"]
    assert {"n_images", "render_aabb", "up", "offset", "envmap_resolution"} <= {*dataset}
    assert snapshot["nerf"]["aabb_scale"] == dataset["aabb_scale"] == 2
    assert snapshot["aabb"] == {"min": [-0.5] * 3, "max": [1.5] * 3}
    # 4 levels of 2 are padded to 16 inputs; the colour network sees [16 outputs, 16 harmonics]
    flat = np.frombuffer(snapshot["params_binary"], np.float32)
    first = flat[: 64 * 16].reshape(64, 16)
    parameters = arrays["parameters"]
    np.testing.assert_array_equal(first[:, :8], parameters["branch.density_net.weights.0"])
    assert not first[:, 8:].any()
    start = 64 * 16 + 16 * 64
    seen = flat[start : start + 64 * 32].reshape(64, 32)
    color = parameters["color_head.weights.0"]
    assert not seen[:, 0].any()  # the raw density itself
    np.testing.assert_array_equal(seen[:, 1:16], color[:, 16:])
    np.testing.assert_array_equal(seen[:, 16:], color[:, :16])
    table = parameters["branch.table"].reshape(-1)
    np.testing.assert_array_equal(flat[-table.size :], table)
    assert len(flat) == start + 64 * 32 + 64 * 64 + 16 * 64 + table.size
    grid = np.frombuffer(snapshot["density_grid_binary"], np.float16)
    assert len(grid) == 2 * 128**3 and (grid > 0.01).all()


@pytest.mark.parametrize("turned", [False, True])
def test_our_own_fields_are_written(tmp_path: Path, turned: bool, capsys) -> None:
    own = {"levels": 4, "max_resolution": 64, "log2_size": 10, "convention": "tcnn", "hidden": 20}
    field = build_field("ngp", from_dict(NgpConfig, own), seed=1)
    with torch.no_grad():
        field.branch.table.mul_(1e4)  # type: ignore
    field.occupancy[:40] = False
    angle = 0.3 if turned else 0.0
    field.world_from_field[:2, :2] = 2.0 * torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    field.world_from_field[2, 2] = 2.0
    field.world_from_field[:3, 3] = torch.tensor([1.0, -2.0, 0.5])
    save_field(field, tmp_path / "own.ingp")
    assert ("turn" in capsys.readouterr().err) == turned
    again = load_field(tmp_path / "own.ingp")
    x = torch.from_numpy(np.random.default_rng(0).random((80, 3)) * 3 - 1.5 + [1, -2, 0.5])
    d = torch.from_numpy(directions(80))
    torch.testing.assert_close(again.density(x), field.density(x), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(again.color(x, d), field.color(x, d), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.ingp"
    arrays = read_ingp(saved(path, Snapshot(**SMALL).content()))

    def refused(words: str, **changes: Any) -> None:
        config = {**arrays["config"], **changes.pop("config", {})}
        with pytest.raises(UsageError, match=words) as caught:
            ingp_files({**arrays, "config": config, **changes}, path)
        assert "\n" not in str(caught.value)

    decoder = arrays["config"]["decoder"]
    refused("convention=tcnn", config={"convention": "torch-ngp"})
    refused("ngp", architecture="mlp")
    refused("contracted", contraction="linf")
    refused("spans", config={"box": (-1, -1, -1, 1, 1, 0.5)})
    refused("clamp", config={"limits": (-2.0, 7.0)})
    refused("power of two", config={"decoder": {**decoder, "density_scale": 0.7}})
    refused("power of two", config={"decoder": {**decoder, "density_scale": 1000.0}})
    refused("bias", config={"bias": True})
    refused("softplus", config={"decoder": {**decoder, "density": "softplus"}})
    refused("frequencies", config={"decoder": {**decoder, "head": "frequencies"}})
