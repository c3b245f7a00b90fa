"""Splats in glTF: the attributes of KHR_gaussian_splatting, nodes, drafts, and damaged files."""

from __future__ import annotations

import base64
import copy
import json
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodistill.cameras import Similarity, rotations
from geodistill.checks import InputError, UsageError
from geodistill.geometry.splats import Splats, load_splats, save_splats, transformed
from geodistill.io.meshes import read_mesh
from geodistill.io.splats import SplatArrays, format_of, holds_splats, read_splats, write_splats
from tests.io.mesh_texts import Scene, glb
from tests.io.test_splat_spz import FIELDS, colours, covariances, some_splats

EXT = "KHR_gaussian_splatting"
KINDS = {"<f4": 5126, "<u1": 5121, "<i1": 5120, "<u2": 5123, "<i2": 5122}
TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


def parts_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """JSON and buffer of a GLB file"""
    magic, version, length, size, kind = struct.unpack_from("<4s3I4s", data)
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
    rest, kind = struct.unpack_from("<I4s", data, 20 + size)
    assert kind == b"BIN\0" and 28 + size + rest == length
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def values(content: dict[str, Any], buffer: bytes, name: str) -> list[tuple[float, ...]]:
    """An attribute, one splat after the other"""
    number = content["meshes"][0]["primitives"][0]["attributes"][name]
    entry = content["accessors"][number]
    view = content["bufferViews"][entry["bufferView"]]
    letter, size = {5126: ("f", 4), 5123: ("H", 2)}[entry["componentType"]]
    width = {kind: n for n, kind in TYPES.items()}[entry["type"]]
    return [
        struct.unpack_from(f"<{width}{letter}", buffer, view["byteOffset"] + i * width * size)
        for i in range(entry["count"])
    ]


def linear(share: float) -> float:
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("count", [1, 13])
def test_the_layout_is_that_of_the_extension(count: int, degree: int, tmp_path: Path) -> None:
    """Axes: right, up, backward go in, and left, up, forward stand in the file."""
    splats = some_splats(count, degree)
    write_splats(tmp_path / "a.glb", splats)
    content, buffer = parts_of((tmp_path / "a.glb").read_bytes())
    assert content["extensionsUsed"] == [EXT] and content["nodes"] == [{"mesh": 0}]
    (primitive,) = content["meshes"][0]["primitives"]
    kind = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    assert primitive["mode"] == 0 and primitive["extensions"] == {EXT: kind}
    harmonics = [
        f"{EXT}:SH_DEGREE_{d}_COEF_{n}" for d in range(degree + 1) for n in range(2 * d + 1)
    ]
    others = [f"{EXT}:{name}" for name in ("ROTATION", "SCALE", "OPACITY")]
    assert [*primitive["attributes"]] == ["POSITION", "COLOR_0", *others, *harmonics]
    position = content["accessors"][primitive["attributes"]["POSITION"]]
    flip = np.array([-1, 1, -1], np.float32)
    turned = splats["means"] * flip
    assert position["min"] == turned.min(axis=0).tolist()
    assert position["max"] == turned.max(axis=0).tolist()
    read = {name: values(content, buffer, name) for name in primitive["attributes"]}
    for i in range(count):
        assert read["POSITION"][i] == tuple(turned[i].tolist())
        w, x, y, z = splats["rotations"][i].tolist()
        assert read[others[0]][i] == pytest.approx((z, w, -x, -y), abs=1e-6)
        scales = [math.exp(value) for value in splats["log_scales"][i]]
        assert read[others[1]][i] == pytest.approx(scales, rel=1e-6)
        share = 1 / (1 + math.exp(-splats["opacity_logits"][i]))
        assert read[others[2]][i] == pytest.approx((share,), rel=1e-6)
        shown = [0.5 + 0.28209479177387814 * value for value in splats["sh"][i, 0].tolist()]
        shade = [round(65535 * linear(min(max(value, 0), 1))) for value in shown]
        assert read["COLOR_0"][i] == pytest.approx((*shade, round(65535 * share)), abs=1)
        for k, name in enumerate(harmonics):
            assert np.abs(read[name][i]).tolist() == np.abs(splats["sh"][i, k]).tolist()
    read_back = read_splats(tmp_path / "a.glb")
    d = np.random.default_rng(0).normal(size=(9, 3))
    assert np.array_equal(read_back["sh"], splats["sh"])
    stored = {**splats, "sh": np.stack([np.array(read[name], np.float32) for name in harmonics], 1)}
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    assert np.abs(colours(stored, d * flip) - colours(splats, d)).max() < 1e-6  # pyright: ignore


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("count", [1, 50])
def test_a_round_trip(count: int, degree: int, tmp_path: Path) -> None:
    path = tmp_path / "a.glb"
    splats = some_splats(count, degree)
    splats["attributes"] = {
        "label": np.arange(count, dtype=np.float32),
        "feature": np.random.default_rng(1).normal(size=(count, 10)).astype(np.float32),
        "three": np.full((count, 3), np.nan, np.float32),
        "two_0": np.ones(count, np.float32),
        "odd_0": np.ones((count, 3), np.float32),
        "odd_1": np.zeros((count, 4), np.float32),
    }
    write_splats(path, splats)
    found = read_splats(path)
    for name in ("means", "sh"):
        assert np.array_equal(found[name], splats[name]), name
    assert np.abs(found["log_scales"] - splats["log_scales"]).max() < 1e-6
    assert np.abs(found["opacity_logits"] - splats["opacity_logits"]).max() < 1e-5
    assert np.abs(np.abs((found["rotations"] * splats["rotations"]).sum(axis=1)) - 1).max() < 1e-6
    assert found["attributes"].keys() == splats["attributes"].keys()
    for name, wanted in splats["attributes"].items():
        assert np.array_equal(found["attributes"][name], wanted, equal_nan=True), name
    assert format_of(path).opengl and format_of(tmp_path / "a.gltf").opengl
    splats["attributes"]["LABEL"] = splats["attributes"]["label"]
    with pytest.raises(UsageError, match="both be stored as '_LABEL': rename one"):
        write_splats(path, splats)
    with pytest.raises(UsageError, match=r"cannot write splats as b\.gltf"):
        write_splats(tmp_path / "b.gltf", splats)


def test_extremes_stay_finite(tmp_path: Path) -> None:
    splats = some_splats(4)
    splats["opacity_logits"][:] = 12, -12, 500, -500
    splats["log_scales"][0] = -300, 300, 0
    write_splats(tmp_path / "a.glb", splats)
    found = read_splats(tmp_path / "a.glb")
    assert found["opacity_logits"][:2] == pytest.approx([12, -12], abs=0.01)
    assert found["opacity_logits"][2:] == pytest.approx([16.6355, -16.6355], abs=1e-3)
    assert found["log_scales"][0] == pytest.approx([-87, 88, 0], abs=0.01)


class File:
    """A glTF file in the making, in its own axes."""

    def __init__(self) -> None:
        self.binary = b""
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "extensionsUsed": [EXT],
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": []}],
            "accessors": [],
            "bufferViews": [],
            "buffers": [{}],
        }

    def add(self, column: Any, kind: str = "<f4", **more: Any) -> int:
        array = np.asarray(column, kind)
        data = array.tobytes()
        view = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)}
        self.binary += data + bytes(-len(data) % 4)
        self.json["bufferViews"].append(view)
        width = array.shape[1] if array.ndim == 2 else 1
        entry = {"componentType": KINDS[kind], "count": len(array), "type": TYPES[width]}
        self.json["accessors"].append(
            {"bufferView": len(self.json["bufferViews"]) - 1, **entry, **more}
        )
        return len(self.json["accessors"]) - 1

    def splats(self, splats: SplatArrays, mesh: int = 0, **attributes: int) -> dict[str, Any]:
        """Add a primitive; attributes given replace those of the splats."""
        sh = splats["sh"]
        bands = [(d, n) for d in range(round(sh.shape[1] ** 0.5)) for n in range(2 * d + 1)]
        own = {
            "POSITION": self.add(splats["means"]),
            "ROTATION": self.add(splats["rotations"][:, [1, 2, 3, 0]]),
            "SCALE": self.add(np.exp(splats["log_scales"])),
            "OPACITY": self.add(1 / (1 + np.exp(-splats["opacity_logits"]))),
            **{f"SH_DEGREE_{d}_COEF_{n}": self.add(sh[:, k]) for k, (d, n) in enumerate(bands)},
            **attributes,
        }
        named = {k if k[0] in "_CP" else f"{EXT}:{k}": number for k, number in own.items()}
        kind = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
        primitive = {"attributes": named, "mode": 0, "extensions": {EXT: kind}}
        while len(self.json["meshes"]) <= mesh:
            self.json["meshes"].append({"primitives": []})
        self.json["meshes"][mesh]["primitives"].append(primitive)
        return primitive

    def write(self, path: Path) -> Path:
        self.json["buffers"] = [{"byteLength": len(self.binary)}]
        path.write_bytes(glb(self.json, self.binary))
        return path


def tensors(arrays: SplatArrays) -> Splats:
    return Splats(**{name: torch.from_numpy(arrays[name]) for name in FIELDS})


def arrays_of(splats: Splats) -> SplatArrays:
    return {name: getattr(splats, name).numpy() for name in FIELDS} | {"attributes": {}}  # pyright: ignore


def assert_alike(found: SplatArrays, wanted: SplatArrays) -> None:
    for name in ("means", "log_scales", "opacity_logits"):
        assert np.abs(found[name] - wanted[name]).max() < 2e-5 * np.abs(wanted[name]).max(), name
    off = np.abs(covariances(found) - covariances(wanted)).max(axis=(1, 2))
    assert (off < 1e-5 * np.abs(covariances(wanted)).max(axis=(1, 2))).all()
    assert np.abs(found["sh"] - wanted["sh"]).max() < 1e-5


def turning(seed: int) -> tuple[Similarity, dict[str, Any]]:
    """A change of frame, and the node that makes it"""
    draw = torch.Generator().manual_seed(seed)
    axis_angle = torch.randn(3, generator=draw, dtype=torch.float64)
    t = torch.randn(3, generator=draw, dtype=torch.float64)
    angle = axis_angle.norm()
    xyz = (axis_angle / angle * (angle / 2).sin()).tolist()
    s = 0.4 + seed
    rotation = [*xyz, float((angle / 2).cos())]
    node = {"rotation": rotation, "scale": [s] * 3, "translation": t.tolist()}
    return Similarity(rotations(axis_angle), t, s), node


HALF = Similarity(
    torch.diag(torch.tensor([-1.0, 1, -1], dtype=torch.float64)), torch.zeros(3).double(), 1.0
)


def test_nodes_place_turn_and_scale(tmp_path: Path) -> None:
    """Two meshes, one of them twice, within a turned node; degrees 3 and 1 become 3."""
    file = File()
    one, two = some_splats(9, 3, 1), some_splats(5, 1, 2)
    file.splats(one)
    file.splats(two, mesh=1)
    (a, node_a), (b, node_b) = turning(1), turning(2)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = (b.s * b.R).numpy(), b.t.numpy()
    file.json["scenes"] = [{"nodes": [0, 3]}]
    file.json["nodes"] = [
        {**node_a, "children": [1, 2]},
        {"mesh": 0, "matrix": matrix.T.reshape(-1).tolist()},
        {"mesh": 1},
        {"mesh": 0},
    ]
    found = read_splats(file.write(tmp_path / "a.glb"))
    assert node_b and len(found["means"]) == 9 + 5 + 9 and found["sh"].shape == (23, 16, 3)
    padded = {**two, "sh": np.pad(two["sh"], ((0, 0), (0, 12), (0, 0)))}
    frames = [(one, a.compose(b)), (padded, a), (one, Similarity.identity())]
    wanted = [transformed(transformed(tensors(part), frame), HALF) for part, frame in frames]  # pyright: ignore
    whole = Splats(*(torch.cat([getattr(part, name) for part in wanted]) for name in FIELDS))
    assert_alike(found, arrays_of(whole))


def test_the_axes_of_the_house(tmp_path: Path) -> None:
    """x right, y down, z forward are x left, y up, z forward in the file: x and y change signs."""
    splats = tensors(some_splats())
    save_splats(tmp_path / "a.glb", splats)
    content, buffer = parts_of((tmp_path / "a.glb").read_bytes())
    stored = np.array(values(content, buffer, "POSITION"))
    assert np.array_equal(stored, splats.means.numpy() * [-1, -1, 1])
    again = load_splats(tmp_path / "a.glb")
    assert torch.equal(again.means, splats.means) and torch.equal(again.sh, splats.sh)


def test_gltf_with_data_inside_and_beside(tmp_path: Path) -> None:
    file = File()
    file.splats(some_splats())
    wanted = read_splats(file.write(tmp_path / "a.glb"))
    (tmp_path / "a.bin").write_bytes(file.binary)
    inside = "data:application/octet-stream;base64," + base64.b64encode(file.binary).decode()
    for uri in ("a.bin", inside):
        file.json["buffers"][0]["uri"] = uri
        (tmp_path / "a.gltf").write_text(json.dumps(file.json))
        found = read_splats(tmp_path / "a.gltf")
        assert all(np.array_equal(found[name], wanted[name]) for name in FIELDS)
        assert holds_splats(tmp_path / "a.gltf")


def test_quantised_columns(tmp_path: Path) -> None:
    file, splats = File(), some_splats(6, 0)
    scales = np.arange(18).reshape(6, 3)
    share = np.array([0, 1, 30000, 40000, 65534, 65535])
    rotation = np.rint(127 * splats["rotations"][:, [1, 2, 3, 0]])
    file.splats(
        splats,
        POSITION=file.add(np.arange(18).reshape(6, 3) - 9, "<i2"),
        ROTATION=file.add(rotation, "<i1", normalized=True),
        SCALE=file.add(scales, "<u2"),
        OPACITY=file.add(share, "<u2", normalized=True),
        COLOR_0=file.add(np.zeros((6, 4)), "<u1", normalized=True),
    )
    # rows of 6 bytes are not what glTF allows, but what readers meet
    found = read_splats(file.write(tmp_path / "a.glb"))
    assert np.array_equal(found["means"], (np.arange(18).reshape(6, 3) - 9) * [-1, 1, -1])
    assert found["log_scales"][0, 0] == pytest.approx(math.log(np.finfo(np.float32).tiny))
    assert np.abs(np.exp(found["log_scales"]) - scales).max() < 1e-5
    inside = np.clip(share / 65535, 0.5 / 65535, 1 - 0.5 / 65535)
    assert np.abs(found["opacity_logits"] - np.log(inside / (1 - inside))).max() < 1e-5
    wanted = transformed(tensors(splats), HALF).rotations.numpy()
    assert np.abs((found["rotations"] * wanted).sum(axis=1)).min() > 0.9998
    assert np.abs(np.linalg.norm(found["rotations"], axis=1) - 1).max() < 1e-6


def test_earlier_drafts(tmp_path: Path, capsys) -> None:
    """Scales as logarithms; colours and opacities in COLOR_0 alone."""
    path, splats = tmp_path / "a.glb", some_splats(8, 1)
    file = File()
    file.splats(splats)
    wanted = read_splats(file.write(path))
    assert capsys.readouterr().err == ""
    file = File()
    file.splats(splats, SCALE=file.add(splats["log_scales"]))
    found = read_splats(file.write(path))
    assert np.abs(found["log_scales"] - wanted["log_scales"]).max() < 1e-6
    assert "scales below 0 are taken as logarithms" in capsys.readouterr().err
    shade = 0.5 + 0.28209479177387814 * splats["sh"][:, 0]
    share = 1 / (1 + np.exp(-splats["opacity_logits"]))
    file = File()
    primitive = file.splats(splats, COLOR_0=file.add(np.column_stack([shade, share])))
    for name in ("OPACITY", "SH_DEGREE_0_COEF_0"):
        del primitive["attributes"][f"{EXT}:{name}"]
    found = read_splats(file.write(path))
    assert np.abs(found["opacity_logits"] - wanted["opacity_logits"]).max() < 1e-5
    assert np.abs(found["sh"] - wanted["sh"]).max() < 1e-6
    assert "COLOR_0 stands for what its splats lack" in capsys.readouterr().err


def test_what_is_left_out_is_said(tmp_path: Path, capsys) -> None:
    file = File()
    file.splats(some_splats(4), _LABEL=file.add(np.arange(4.0)))
    primitive = file.splats(some_splats(3))
    primitive["extensions"][EXT] |= {"sortingMethod": "zDepth", "extensions": {"EXT_more": {}}}
    file.json["meshes"][0]["primitives"].append({"attributes": {}, "mode": 4})
    found = read_splats(file.write(tmp_path / "a.glb"))
    assert len(found["means"]) == 7 and found["attributes"] == {}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and "1 of its parts are no splats and passed over" in lines[0]
    assert "want EXT_more, sortingMethod zDepth, which is not known here" in lines[1]
    assert "not all its parts have the attributes label: left out" in lines[2]


def test_what_a_file_holds(tmp_path: Path) -> None:
    mesh = Scene()
    mesh.square()
    (tmp_path / "mesh.glb").write_bytes(mesh.bytes())
    write_splats(tmp_path / "splats.glb", some_splats())
    assert not holds_splats(tmp_path / "mesh.glb") and holds_splats(tmp_path / "splats.glb")
    data = (tmp_path / "splats.glb").read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    (tmp_path / "cut.glb").write_bytes(data[: 20 + size])  # the JSON alone is read
    assert holds_splats(tmp_path / "cut.glb")
    (tmp_path / "short.glb").write_bytes(data[: 10 + size])
    (tmp_path / "list.gltf").write_text("[1]")
    (tmp_path / "deep.gltf").write_text("[" * 100_000)
    (tmp_path / "wrong.gltf").write_text('{"meshes": [{"primitives": [3]}]}')
    (tmp_path / "head.glb").write_bytes(data[:13])
    for name in ("short.glb", "list.gltf", "deep.gltf", "wrong.gltf", "head.glb", "none.glb", "."):
        assert not holds_splats(tmp_path / name), name
    with pytest.raises(InputError, match="holds no splats: none of its parts in the scene"):
        read_splats(tmp_path / "mesh.glb")
    with pytest.raises(InputError, match="holds no faces"):
        read_mesh(tmp_path / "splats.glb")


def put(*keys: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in keys[:-2]:
            content = content[key]
        content[keys[-2]] = keys[-1]

    return change


def drop(*keys: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


PRIMITIVE = ("meshes", 0, "primitives", 0)
KIND = (*PRIMITIVE, "extensions", EXT)
ATTRIBUTES = (*PRIMITIVE, "attributes")
STRETCHED = "node 0 stretches, shears or mirrors its splats"
CHANGES: list[tuple[Callable[[Any], None], str]] = [
    (put(*KIND, "colorSpace", "lin_rec709_display"), "blend in the colour space 'lin_rec709_disp"),
    (put(*KIND, "kernel", "disk"), "of the kernel 'disk', not 'ellipse'"),
    (put(*KIND, "kernel", "a\nb"), r"of the kernel 'a\\nb', not 'ellipse'"),
    (put(*ATTRIBUTES, "POSITION", "a\nb"), r"refers to accessors\['a\\nb'\]"),
    (put(*KIND, "extensions", {"KHR_x_compression_spz_2": {}}), "packed by KHR_x_compression_spz"),
    (put(*KIND, 3), "is not a valid glTF file"),
    (drop(*PRIMITIVE, "extensions"), "holds no splats"),
    (put("scenes", 0, "nodes", []), "holds no splats"),
    (put(*PRIMITIVE, "mode", 4), r"splats are not points \(mode 4\)"),
    (drop(*PRIMITIVE, "mode"), r"splats are not points \(mode None\)"),
    (drop(*ATTRIBUTES, "POSITION"), r"refers to accessors\[None\]"),
    (drop(*ATTRIBUTES, f"{EXT}:ROTATION"), "its splats have no attribute .*:ROTATION"),
    (drop(*ATTRIBUTES, f"{EXT}:SCALE"), "its splats have no attribute .*:SCALE"),
    (drop(*ATTRIBUTES, f"{EXT}:OPACITY"), "its splats have no attribute .*:OPACITY"),
    (drop(*ATTRIBUTES, f"{EXT}:SH_DEGREE_0_COEF_0"), "do not fill .* see .*DEGREE_0_COEF_0"),
    (drop(*ATTRIBUTES, f"{EXT}:SH_DEGREE_2_COEF_4"), "do not fill .* see .*DEGREE_2_COEF_4"),
    (put(*ATTRIBUTES, f"{EXT}:SH_DEGREE_4_COEF_0", 0), "do not fill the degrees 0 to 3, see"),
    (put(*ATTRIBUTES, f"{EXT}:SCALE", 1), "SCALE has 4 numbers a splat, not 3"),
    (put(*ATTRIBUTES, f"{EXT}:SCALE", 99), r"refers to accessors\[99\]"),
    (put("accessors", 2, "count", 3), "SCALE has 3 values for 13 splats"),
    (put("accessors", 0, "count", 14), "has 14 values|13 values for 14|ends at byte"),
    (put("accessors", 0, "count", 2**40), "accessor 0 ends at byte|values for 1099511627776"),
    (put("accessors", 0, "count", "13"), "the POSITION of its splats has no data"),
    (drop("accessors", 0, "bufferView"), "the POSITION of its splats has no data"),
    (put("bufferViews", 3, "byteLength", 4), "accessor 3 ends at byte"),
    (put("nodes", 0, "scale", [1, 2, 1]), STRETCHED),
    (put("nodes", 0, "scale", [-1, 1, 1]), STRETCHED),
    (put("nodes", 0, "scale", [-1, -1, -1]), STRETCHED),
    (put("nodes", 0, "scale", [0, 0, 0]), STRETCHED),
    (put("nodes", 0, "rotation", [1, 1, 1, 1]), STRETCHED),
    (put("nodes", 0, "scale", [1e300] * 3), STRETCHED + "|hold .* NaN or infinite"),
    (put("nodes", 0, "scale", [1e39] * 3), "its means hold .* NaN or infinite values"),
    (put("nodes", 0, "children", [0]), "node 0 stands in the scene twice"),
    (put("nodes", 0, "mesh", 5), r"refers to meshes\[5\]"),
    (put("extensionsRequired", ["EXT_meshopt_compression"]), "uses meshopt compression"),
]


@pytest.mark.parametrize(("change", "complaint"), CHANGES)
def test_bad_files_are_refused_in_one_line(
    tmp_path: Path, change: Callable[[Any], None], complaint: str
) -> None:
    path, file = tmp_path / "a.glb", File()
    file.splats(some_splats())
    file.write(path)
    content = copy.deepcopy(file.json)
    change(content)
    path.write_bytes(glb(content, file.binary))
    with pytest.raises(InputError, match=complaint) as refused:
        read_splats(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("ending", [".glb", ".gltf", ".spz"])
def test_what_is_no_file_is_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    for make, complaint in (
        (lambda: None, "does not exist"),
        (lambda: path.write_bytes(b""), "is empty"),
        (lambda: path.write_bytes(b"hello world, hello world"), "is not|does not begin as"),
        (path.mkdir, "is a folder, not a file"),
        (lambda: os.mkfifo(path), "is a pipe or a device"),
    ):
        make()
        with pytest.raises(InputError, match=complaint) as refused:
            read_splats(path)
        assert str(refused.value).count(str(path)) == 1 and "\n" not in str(refused.value)
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


def test_bad_values_are_refused(tmp_path: Path) -> None:
    nan = np.full((13, 3), np.nan)
    for attributes, complaint in (
        ({"POSITION": nan}, "its means hold 39 NaN or infinite values of 39, the first in splat 0"),
        ({"SH_DEGREE_2_COEF_1": nan}, "its sh hold 39 NaN"),
        ({"ROTATION": np.zeros((13, 4))}, "13 of its rotations are zero"),
    ):
        file = File()
        file.splats(some_splats(), **{k: file.add(v) for k, v in attributes.items()})
        with pytest.raises(InputError, match=complaint):
            read_splats(file.write(tmp_path / "a.glb"))


@pytest.mark.parametrize("seed", range(4))
def test_mutations_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    """Flipped bytes, cuts, insertions and huge numbers, most of them in the JSON."""
    path, draw = tmp_path / "a.glb", np.random.default_rng(seed)
    file = File()
    file.splats(some_splats(5), _LABEL=file.add(np.arange(5.0)))
    file.json["nodes"] = [turning(1)[1] | {"mesh": 0}]
    whole = file.write(path).read_bytes()
    size = struct.unpack_from("<I", whole, 12)[0]
    digits = [i for i in range(20, 20 + size) if whole[i : i + 1].isdigit()]
    outcomes = set()
    for turn in range(60):
        data = bytearray(whole)
        place = int(draw.integers(20 + size if turn % 3 else len(data)))
        match turn % 6:
            case 0:
                del data[place:]
            case 1:
                data[place:place] = draw.integers(0, 256, 5, np.uint8).tobytes()
            case 2 | 3:
                data[place] ^= int(draw.integers(1, 256))
            case 4 | 5:
                digit = digits[int(draw.integers(len(digits)))]
                data[digit : digit + 1] = [b"9", b"-", b"9" * 12, b"1e400", b"true"][turn % 5]
                struct.pack_into("<I", data, 12, size + len(data) - len(whole))
                struct.pack_into("<I", data, 8, len(data))
        path.write_bytes(bytes(data))
        holds_splats(path)
        try:
            found = read_splats(path)
            assert all(np.isfinite(found[name]).all() for name in FIELDS)
            assert {len(found[name]) for name in FIELDS} == {len(found["means"])}
            outcomes.add("read")
        except InputError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
