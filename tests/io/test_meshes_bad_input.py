"""Whatever is wrong with a mesh file is one sentence that names the file and the trouble."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geodistill.checks import GeodistillError, InputError
from geodistill.io.meshes import read_mesh
from tests.io.mesh_texts import (
    PLY_SQUARE,
    SQUARE_STL,
    TRIANGLES,
    Scene,
    binary_ply,
    binary_stl,
    glb,
    write_picture,
)


def refused(path: Path, pattern: str) -> None:
    with pytest.raises(InputError, match=pattern) as caught:
        read_mesh(path)
    assert "\n" not in str(caught.value) and str(path.parent) in str(caught.value)


def written(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".off", ".stl", ".glb", ".gltf"])
def test_absent_empty_folder_and_nonsense(tmp_path: Path, suffix: str) -> None:
    refused(tmp_path / f"none{suffix}", "does not exist")
    refused(written(tmp_path, f"empty{suffix}", b""), "is empty")
    refused(written(tmp_path, f"blank{suffix}", b" \n\n"), f"blank{suffix}")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    refused(tmp_path / f"pipe{suffix}", "is a pipe or a device, not a file")
    (tmp_path / f"folder{suffix}").mkdir()
    refused(tmp_path / f"folder{suffix}", "is a folder, not a file")
    for number, content in enumerate((b"\x89PNG\r\n\x1a\n" + bytes(200), b"hello world " * 20)):
        refused(written(tmp_path, f"x{number}{suffix}", content), f"x{number}{suffix}")


def test_unknown_ending(tmp_path: Path) -> None:
    refused(written(tmp_path, "a.fbx", b"x"), r"no mesh format known here: \.obj, \.ply, .*\.gltf")
    refused(tmp_path / "b.fbx", "does not exist")
    refused(tmp_path, "is a folder")


V = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (V, "holds no faces: its 3 vertices are a cloud of points"),
        (V + "f 1 2\n", "holds no faces"),
        (V + "f 1 2 4\n", "face 0 refers to vertex 3, but there are 3"),
        (V + "f 1 2 3\nf 1 2 99999999999\n", "face 1 refers to vertex 99999999998"),
        (V + "f 0 1 2\n", "line 4 refers to vertex 0, but they count from 1"),
        (V + "f 1 2 -4\n", "line 4 counts back beyond the first of 3: 'f 1 2 -4'"),
        (V + "f 1/1 2/1 3/1\n", "refers to texture coordinate 0, but there are 0"),
        (V + "f a b c\n", "line 4 is not a face: 'f a b c'"),
        (V + "f 1.5 2 3\n", "line 4 is not a face"),
        (V + "f 99999999999999999999 2 3 # c\n", "line 4 is not a face: 'f 9999"),
        (V + "f \x1b[31m 1\n", r"line 4 is not a face: 'f \\x1b"),
        (V + "f 1 2 3\nv 1 2\n", "line 5 is not 3 numbers: 'v 1 2'"),
        (V + "v 1 2 x\nf 1 2 3\n", "line 4 is not 3 numbers"),
        (V + "v 1 nan 2\nv inf 1 2\nf 1 2 3\n", "2 of 5 vertices are NaN .* the first is vertex 3"),
        ("v nan nan nan\n" * 3 + "f 1 2 3\n", "every vertex is NaN or infinite"),
        (V + "vt nan 0\nf 1/1 2/1 3/1\n", "3 texture coordinates are NaN"),
    ],
)
def test_obj(tmp_path: Path, text: str, pattern: str) -> None:
    refused(written(tmp_path, "a.obj", text), pattern)


def test_a_texture_that_is_no_picture(tmp_path: Path) -> None:
    written(tmp_path, "a.mtl", "newmtl m\nmap_Kd a.png\n")
    written(tmp_path, "a.obj", "mtllib a.mtl\n" + V + "usemtl m\nf 1 2 3\n")
    written(tmp_path, "a.png", b"this is no picture")
    refused(tmp_path / "a.obj", r"a\.png is not a picture")
    data = write_picture(tmp_path / "b.png").read_bytes()
    written(tmp_path, "a.png", data[:-30])
    refused(tmp_path / "a.obj", r"a\.png is truncated or damaged")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("faces", [TRIANGLES, [[0, 1, 2, 3], [0, 1, 2]]])
def test_every_cut_of_a_binary_ply_is_noticed(
    tmp_path: Path, order: str, faces: list[list[int]]
) -> None:
    whole = len(binary_ply(order, faces))
    for cut in range(1, whole, 3):
        path = written(tmp_path, "a.ply", binary_ply(order, faces, cut))
        refused(path, r"a\.ply is (truncated or damaged|empty|not a PLY file)")


@pytest.mark.parametrize(
    ("old", "new", "pattern"),
    [
        (b"format ascii 1.0", b"format text 1.0", "has the unknown PLY format 'text 1.0'"),
        (b"format ascii 1.0\n", b"", "its PLY header has no format line"),
        (b"property double x", b"property quad x", "line 5: unknown type 'quad' of property 'x'"),
        (b"property double x", b"property double w", "no element vertex with x, y and z"),
        (b"element vertex 4", b"element vertex four", "not 'vertex four'"),
        (b"element vertex 4", b"element vertex -4", "not 'vertex -4'"),
        (b"element vertex 4", b"element vertex 4000000000", "declares 4000000000 rows"),
        (b"3 0 2 3\n", b"", "'face' declares 2 rows, at least 2 lines, but 1 lines are left"),
        (b"3 0 2 3\n", b"3 0 2", "3 values do not make a row of element 'face'"),
        (b"3 0 2 3\n", b"-3 0 2 3", "-3 does not fit the type uchar of 'vertex_indices'"),
        (b"3 0 2 3\n", b"3 0 2 4\n", "face 1 refers to vertex 4, but there are 4"),
        (b"3 0 2 3\n", b"3 0 2 -1\n", "face 1 refers to vertex -1"),
        (b"0.1 0 0", b"nan 0 0", "1 of 4 vertices are NaN or infinite, the first is vertex 0"),
        (b"0.1 0 0", b"zero 0 0", "line 17: 'zero' is not a number"),
        (b"element face 2", b"element edge 2", "holds no faces: its 4 vertices"),
        (b"end_header", b"end_of_it", "its PLY header has no end_header line"),
    ],
)
def test_ply(tmp_path: Path, old: bytes, new: bytes, pattern: str) -> None:
    assert old in PLY_SQUARE
    refused(written(tmp_path, "a.ply", PLY_SQUARE.replace(old, new, 1)), pattern)


def test_stl(tmp_path: Path) -> None:
    whole = binary_stl(SQUARE_STL)
    for cut in range(1, len(whole)):
        refused(written(tmp_path, "a.stl", whole[:-cut]), "truncated|is empty")
    refused(written(tmp_path, "a.stl", whole + b"more"), "has 4 bytes behind its 2 STL facets")
    refused(written(tmp_path, "a.stl", binary_stl([])), "holds no faces")
    refused(written(tmp_path, "a.stl", "solid\nendsolid\n"), "holds no faces")
    text = (
        "solid\nfacet\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 {}\nendloop\nendfacet\n"
    )
    refused(written(tmp_path, "a.stl", text.format(0)), "ends before 'endsolid'")
    refused(written(tmp_path, "a.stl", text.format("x") + "endsolid"), "not three numbers")
    bad = [[(0, 0, 0), (1, 0, 0), (float("nan"), 0, 0)]]
    refused(written(tmp_path, "a.stl", binary_stl(bad)), "1 of 3 vertices are NaN")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("4 2 0\n", "does not begin with OFF"),
        ("OFF BINARY\n4 2 0\n", "is a binary OFF file"),
        ("OFF\n", "does not say how many vertices"),
        ("OFF\nfour 2\n", "does not say how many vertices"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n", "truncated: 3 vertices and 1 faces need 4 lines"),
        ("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "holds no faces"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1\n3 0 1 2\n", "not as many numbers each"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1\n", "face 0 is not a count and as many vertices"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\ninf 0 1 2\n", "face 0 is not a count"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n-1e30 0 1\n", "face 0 is not a count"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n-1 0 1\n", "face 0 is not a count"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1\x1a\n", r"as many vertices: '3 0 1\\x1a'"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 3\n", "face 0 refers to vertex 3"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 nan\n3 0 1 2\n", "1 of 3 vertices are NaN"),
    ],
)
def test_off(tmp_path: Path, text: str, pattern: str) -> None:
    refused(written(tmp_path, "a.off", text), pattern)


def test_every_cut_of_a_glb_is_noticed(tmp_path: Path) -> None:
    scene = Scene()
    scene.square()
    whole = scene.bytes()
    for cut in range(1, len(whole), 3):
        refused(written(tmp_path, "a.glb", whole[:-cut]), "truncated|as a GLB file")


def test_every_damaged_byte_of_a_glb_is_read_or_refused(tmp_path: Path) -> None:
    """Never a traceback, whatever byte is turned over."""
    scene = Scene()
    scene.square()
    whole = scene.bytes()
    outcomes = set()
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0x01 if place % 2 else 0xFF
        try:
            read_mesh(written(tmp_path, "a.glb", bytes(data)))
            outcomes.add("read")
        except GeodistillError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize(
    "content",
    ["{", "[1, 2", "\x00\x01", "[" * 100_000, '{"asset": {"version": "2.0"}', "NaN", "[]", "3"],
)
def test_gltf_json(tmp_path: Path, content: str) -> None:
    complaint = "is not valid JSON|is not a JSON object|has no 'asset'"
    refused(written(tmp_path, "a.gltf", content), complaint)


def drop(*keys: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def put(*keys: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in keys[:-2]:
            content = content[key]
        content[keys[-2]] = keys[-1]

    return change


PRIMITIVE = ("meshes", 0, "primitives", 0)
CHANGES: list[tuple[Callable[[Any], None], str]] = [
    (put("asset", "version", "1.0"), "not of glTF version 2"),
    (put("extensionsRequired", ["KHR_draco_mesh_compression"]), "Draco compression .*export it"),
    (put("scene", 7), r"refers to scenes\[7\]"),
    (put("scenes", 0, "nodes", [4]), r"refers to nodes\[4\]"),
    (put("nodes", 0, "mesh", 3), r"refers to meshes\[3\]"),
    (put("nodes", 0, "children", [0]), "node 0 stands in the scene twice"),
    (put("nodes", 0, "matrix", [1, 2]), "is not a valid glTF file"),
    (put("nodes", 0, "scale", [1e999, 1, 1]), "the transform of node 0 is NaN"),
    (put("nodes", "x"), "is not a valid glTF file|refers to nodes"),
    (put("meshes", 0, "primitives", []), "holds no faces"),
    (put(*PRIMITIVE, "mode", 0), "holds no faces"),
    (drop(*PRIMITIVE, "attributes"), "is not a valid glTF file"),
    (put(*PRIMITIVE, "indices", 9), r"refers to accessors\[9\]"),
    (put(*PRIMITIVE, "material", 0), r"refers to materials\[0\]"),
    (put("accessors", 0, "count", 5), "accessor 0 ends at byte 60 of a buffer view of 48"),
    (put("accessors", 0, "count", -5), "accessor 0 has no valid type and count"),
    (put("accessors", 0, "type", "VEC9"), "accessor 0 has no valid type and count"),
    (put("accessors", 0, "count", 3), "face 1 refers to vertex 3, but there are 3"),
    (put("accessors", 1, "count", 5), "triangles of 5 corners"),
    (put("bufferViews", 0, "byteLength", 10**9), "buffer view 0 reaches beyond its buffer"),
    (put("bufferViews", 0, "buffer", 1), r"refers to buffers\[1\]"),
    (put("buffers", 0, "byteLength", 10**9), "buffer 0 holds 60 bytes of 1000000000"),
    (put("buffers", 0, "uri", "gone.bin"), "its buffer gone.bin is missing"),
    (put("buffers", 0, "uri", "data:x;base64,A"), "data URI that is not base64"),
]


@pytest.mark.parametrize(("change", "pattern"), CHANGES)
def test_gltf(tmp_path: Path, change: Callable[[Any], None], pattern: str) -> None:
    scene = Scene()
    scene.square()
    scene.bytes()
    change(scene.json)
    refused(written(tmp_path, "a.glb", glb(scene.json, scene.binary)), pattern)


def test_gltf_values_and_pictures(tmp_path: Path) -> None:
    scene = Scene()
    primitive = scene.square()
    nan = scene.add([[0, 0, 0], [float("nan")] * 3, [1, 1, 1], [0, 0, 0]], "<f4")
    primitive["attributes"]["POSITION"] = nan
    refused(written(tmp_path, "a.glb", scene.bytes()), "1 of 4 vertices .* the first is vertex 1")
    scene = Scene()
    scene.square(attributes={"TEXCOORD_0": scene.add([[0, 0]] * 3, "<f4")})
    refused(written(tmp_path, "a.glb", scene.bytes()), "TEXCOORD_0 has 3 values for 4 vertices")
    scene = Scene()
    scene.square(material=0)
    texture = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
    scene.json |= {
        "materials": [texture],
        "textures": [{"source": 0}],
        "images": [{"uri": "t.png"}],
    }
    written(tmp_path, "t.png", b"no picture")
    refused(written(tmp_path, "a.gltf", scene.embedded()), r"image 0 \(t.png\) is not a picture")
    (tmp_path / "t.png").unlink()
    assert read_mesh(tmp_path / "a.gltf")["materials"][0]["texture"] is None


def test_glb_chunks(tmp_path: Path) -> None:
    head = struct.pack("<4s2I", b"glTF", 2, 28)
    chunk = struct.pack("<I4s", 8, b"ABCD") + bytes(8)
    refused(written(tmp_path, "a.glb", head + chunk), "has no JSON chunk")
    head = struct.pack("<4s2I", b"glTF", 1, 28)
    refused(written(tmp_path, "a.glb", head + chunk), "GLB version 1")
    head = struct.pack("<4s2I", b"glTF", 2, 28)
    chunk = struct.pack("<I4s", 999, b"JSON") + bytes(8)
    refused(written(tmp_path, "a.glb", head + chunk), "a chunk reaches beyond its end")
    text = json.dumps({"asset": {"version": "2.0"}, "scenes": [{}]}).encode()
    refused(written(tmp_path, "a.gltf", text), "holds no faces")
