"""Mesh files as others write them, against what a reader of the specification would find."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from geodistill.io.clouds import read_cloud
from geodistill.io.meshes import MeshArrays, distinct_rows, read_mesh
from geodistill.io.meshes.arrays import fans, numbers, split_corners
from tests.io.mesh_texts import (
    PLY_SQUARE,
    SQUARE,
    SQUARE_STL,
    TRIANGLES,
    Scene,
    binary_ply,
    binary_stl,
    write_picture,
)


def read(folder: Path, name: str, content: bytes | str) -> MeshArrays:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_mesh(path)


def is_square(mesh: MeshArrays) -> bool:
    return mesh["vertices"].tolist() == [list(p) for p in SQUARE] and (
        mesh["faces"].tolist() == TRIANGLES
    )


def shape_colors(mesh: MeshArrays) -> list[list[int]]:
    assert mesh["colors"] is not None
    return mesh["colors"].tolist()


# What formats share


def test_fans_keep_the_order_of_polygons() -> None:
    corners, polygon = fans(np.array([3, 5, 2, 4]))
    assert corners.tolist() == [
        [0, 1, 2], [3, 4, 5], [3, 5, 6], [3, 6, 7], [10, 11, 12], [10, 12, 13],
    ]  # fmt: skip
    assert polygon.tolist() == [0, 1, 1, 1, 3, 3]


def test_corners_are_split_only_where_coordinates_differ() -> None:
    faces, place, coordinate = split_corners(
        np.array([[0, 1, 2], [0, 2, 4]]), np.array([[0, 1, 2], [0, 3, -1]]), 5
    )
    assert place.tolist() == [0, 1, 2, 2, 3, 4]
    assert coordinate.tolist() == [0, 1, 2, 3, -1, -1]
    assert faces.tolist() == [[0, 1, 2], [0, 3, 5]]


def test_distinct_rows_agree_with_a_dictionary() -> None:
    rows = np.random.default_rng(0).integers(0, 4, (200, 3)).astype(float)
    number, first = distinct_rows(rows)
    seen: dict[tuple, int] = {}
    expected = [seen.setdefault(tuple(row), len(seen)) for row in rows]
    assert number.tolist() == expected
    assert np.array_equal(rows[first], np.array(list(seen)))


def test_numbers_as_text() -> None:
    found = numbers(b" 1 -2.5e-3\n 1E400 nan\t-inf 0x")
    assert found is None
    found = numbers(b" 1 -2.5e-3\n 1E400 nan\t-inf +7 ")
    assert found is not None
    np.testing.assert_array_equal(found, [1, -2.5e-3, math.inf, math.nan, -math.inf, 7])


# OBJ

OBJ_HEAD = "".join(f"v {x} {y} {z}\n" for x, y, z in SQUARE)


@pytest.mark.parametrize(
    "faces",
    [
        "f 1 2 3\nf 1 3 4\n",
        "f 1 2 3 4\n",
        "f -4 -3 -2 -1\n",
        "f 1// 2// 3//\nf 1 3 4",
        "vn 0 0 1\nf 1//1 2//1 3//1 4//1\n",
        "f  1   2  3  \r\nf\t1 3\t4\r\n",
        "f 1 2 3 # the first\nf 1 3 4 # the second\n",
        "f 1 2 \\\n3 4\n",
        "g a\ns off\nl 1 2\np 1\nf 1 2 3 4",
        "  f 1 2 3 4\n",
        "v 9 9 9\nf -5 -4 -3\nf 1 -3 -2\n",
    ],
)
def test_obj_faces_in_all_spellings(tmp_path: Path, faces: str) -> None:
    mesh = read(tmp_path, "a.obj", OBJ_HEAD + faces)
    mesh["vertices"] = mesh["vertices"][:4]
    assert is_square(mesh)
    assert mesh["uv"] is None and mesh["face_material"] is None


def test_obj_negative_indices_count_from_where_the_face_stands(tmp_path: Path) -> None:
    text = OBJ_HEAD + "f -4 -3 -2\n" + "v 5 5 5\nv 6 5 5\nv 6 6 5\n" + "f -3 -2 -1\nf 1 2 -1\n"
    assert read(tmp_path, "a.obj", text)["faces"].tolist() == [[0, 1, 2], [4, 5, 6], [0, 1, 6]]


def test_obj_order_of_faces_does_not_depend_on_materials_or_size(tmp_path: Path) -> None:
    text = OBJ_HEAD + "usemtl a\nf 1 2 3 4\nusemtl b\nf 4 3 2\nusemtl a\nf 2 1 4\nusemtl None\n"
    mesh = read(tmp_path, "a.obj", text + "f 1 2 3\n")
    assert mesh["faces"].tolist() == [*TRIANGLES, [3, 2, 1], [1, 0, 3], [0, 1, 2]]
    assert mesh["face_material"] is not None
    assert mesh["face_material"].tolist() == [0, 0, 1, 0, -1]
    assert [material["name"] for material in mesh["materials"]] == ["a", "b"]


def test_obj_seam_makes_two_vertices_at_one_place(tmp_path: Path) -> None:
    text = OBJ_HEAD + "v 7 7 7\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0.5 1 0\nvt 0 0\n"
    mesh = read(tmp_path, "a.obj", text + "f 1/1 2/2 3/3\nf 1/5 3/4 4/4\nf 2 1 5\n")
    # Position 0 has equal coordinates under two numbers, and none in the last face.
    assert mesh["vertices"][:, 0].tolist() == [0, 0, 1, 1, 1, 1, 0, 7]
    assert mesh["faces"].tolist() == [[1, 3, 4], [1, 5, 6], [2, 0, 7]]
    assert mesh["uv"] is not None
    assert mesh["uv"][[1, 3, 4, 5, 6]].tolist() == [[0, 0], [1, 0], [1, 1], [0.5, 1], [0.5, 1]]


def test_obj_vertex_colours(tmp_path: Path) -> None:
    text = "v 0 0 0 1 0 0\nv 1 0 0 0 0.5 1\nv 1 1 0 0 0 0\nv 2 2 2\nf 1 2 3\n"
    mesh = read(tmp_path, "a.obj", text)
    assert shape_colors(mesh) == [
        [255, 0, 0, 255], [0, 128, 255, 255], [0, 0, 0, 255], [255, 255, 255, 255],
    ]  # fmt: skip
    mesh = read(tmp_path, "b.obj", "v 0 0 0 1\nv 1 0 0 1\nv 1 1 0 1\nf 1 2 3\n")
    assert mesh["colors"] is None and mesh["vertices"].shape == (3, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("wood.png", "wood.png"),
        ("tex/deep/wood.png", "tex/deep/wood.png"),
        ("tex/wood.png", "tex\\wood.png"),
        ("wood.png", "C:\\Users\\me\\textures\\wood.png"),
        ("Wood.PNG", "wood.png"),
        ("old wood.png", "old wood.png"),
        ("wood.png", "-s 1 1 1 -o 0 0 -clamp on -bm 0.5 wood.png"),
        ("wood.jpg", "-mm 0 1 wood.jpg"),
        ("wood.tga", "wood.tga"),
        ("wood.bmp", '"wood.bmp"'),
    ],
)
def test_obj_textures_by_odd_names(tmp_path: Path, name: str, value: str) -> None:
    write_picture(tmp_path / name)
    (tmp_path / "my library.mtl").write_text(
        f"newmtl skin of it\n\tKd 0.4 0.4 0.4\nd 0.5\nmap_Kd {value}\nnewmtl bare\nKd 0.1 0.2 0.3\n"
        "Tr 0.25\n"
    )
    text = "mtllib my library.mtl\n" + OBJ_HEAD + "usemtl skin of it\nf 1 2 3\nusemtl bare\nf 1 3 4"
    skin, bare = read(tmp_path, "a.obj", text)["materials"]
    assert skin["name"] == "skin of it" and skin["base_color"] == (1, 1, 1, 0.5)
    assert skin["texture"] is not None and skin["texture"].shape == (2, 3, 4)
    np.testing.assert_allclose(skin["texture"][0, 0], [10, 20, 30, 255], atol=3)
    assert bare["texture"] is None and bare["base_color"] == (0.1, 0.2, 0.3, 0.75)


def test_missing_texture_and_library_are_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mtl").write_text("newmtl m\nKd 0.1 0.2 0.3\nmap_Kd gone.png\n")
    text = "mtllib a.mtl\nmtllib b.mtl\n" + OBJ_HEAD + "usemtl m\nf 1 2 3\nusemtl n\nf 1 3 4\n"
    first, second = read(tmp_path, "a.obj", text)["materials"]
    assert first["base_color"] == (0.1, 0.2, 0.3, 1) and first["texture"] is None
    assert second["name"] == "n" and second["base_color"] == (0.8, 0.8, 0.8, 1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(
        "a.mtl: the texture gone.png is missing; its material keeps one colour"
    )
    assert lines[1].endswith("a.obj: the material library b.mtl is missing")


# PLY


def test_ply_as_text_with_all_columns(tmp_path: Path) -> None:
    mesh = read(tmp_path, "a.ply", PLY_SQUARE)
    assert mesh["vertices"][0, 0] == 0.1
    assert mesh["faces"].tolist() == TRIANGLES
    assert shape_colors(mesh)[1] == [255, 0, 0, 255] and shape_colors(mesh)[3] == [1, 1, 1, 255]
    assert mesh["uv"] is not None and mesh["uv"].tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
    assert {n: a.tolist() for n, a in mesh["attributes"].items()} == {"heat": [1.5, 2.5, 3.5, 4.5]}


@pytest.mark.parametrize("order", ["<", ">"])
def test_ply_binary_with_polygons(tmp_path: Path, order: str) -> None:
    mesh = read(tmp_path, "a.ply", binary_ply(order, TRIANGLES))
    assert is_square(mesh) and shape_colors(mesh)[2] == [9, 8, 7, 2]
    mesh = read(tmp_path, "b.ply", binary_ply(order, [[0, 1, 2, 3], [0, 1], [3, 2, 1]]))
    assert mesh["faces"].tolist() == [*TRIANGLES, [3, 2, 1]]


@pytest.mark.parametrize(
    ("kinds", "values", "wanted"),
    [
        ("int red int green int blue", "255 128 0", [255, 128, 0, 255]),
        ("uint8 Red uint8 GREEN uint8 blue", "255 128 0", [255, 128, 0, 255]),
        ("uchar r uchar g uchar b float a", "255 128 0 0.2", [255, 128, 0, 51]),
        ("float red float green float blue uchar alpha", "1 0.5 0 51", [255, 128, 0, 51]),
        ("ushort red ushort green ushort blue", "65535 32896 0", [255, 128, 0, 255]),
        ("double red double green double blue", "255 128 0", [255, 128, 0, 255]),
    ],
)
def test_ply_colours_are_those_of_the_same_points(
    tmp_path: Path, kinds: str, values: str, wanted: list[int]
) -> None:
    words = kinds.split()
    properties = "".join(
        f"property {kind} {name}\n" for kind, name in zip(words[::2], words[1::2], strict=True)
    )
    head = (
        "ply\nformat ascii 1.0\nelement vertex 4\nproperty float X\nproperty float Y\n"
        f"property float Z\n{properties}"
    )
    rows = "".join(f"{x} {y} {z} {values}\n" for x, y, z in SQUARE)
    faces = "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    mesh = read(tmp_path, "a.ply", f"{head}{faces}{rows}3 0 1 2\n3 0 2 3\n")
    assert is_square(mesh) and shape_colors(mesh) == [wanted] * 4 and not mesh["attributes"]
    (tmp_path / "b.ply").write_text(f"{head}end_header\n{rows}")
    assert read_cloud(tmp_path / "b.ply").cloud["colors"].tolist() == [wanted] * 4


def test_ply_columns_that_single_precision_blurs_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PLY_SQUARE.replace(b"property float heat", b"property double heat")
    for value in (b"1.5", b"2.5", b"3.5", b"4.5"):
        text = text.replace(b" " + value + b"\n", b" 16000000" + value[:1] + b"0\n")
    read(tmp_path, "a.ply", text)
    assert "a.ply: 'heat' loses" in capsys.readouterr().err


def test_ply_texture_coordinates_of_corners_and_several_textures(tmp_path: Path) -> None:
    write_picture(tmp_path / "a b.png", (1, 2, 3))
    write_picture(tmp_path / "c.png", (4, 5, 6))
    text = (
        "ply\nformat ascii 1.0\ncomment TextureFile a b.png\ncomment TextureFile c.png\n"
        "element vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 2\nproperty list uchar int vertex_indices\n"
        "property list uchar float texcoord\nproperty int texnumber\nend_header\n"
        + "".join(f"{x} {y} {z}\n" for x, y, z in SQUARE)
        + "3 0 1 2 6 0 0 1 0 1 1 1\n3 0 2 3 6 0.5 0 1 1 0 1 0\n"
    )
    mesh = read(tmp_path, "a.ply", text)
    assert mesh["uv"] is not None and mesh["face_material"] is not None
    assert mesh["vertices"][:, 0].tolist() == [0, 0, 1, 1, 0]
    assert mesh["uv"][mesh["faces"]].tolist() == [
        [[0, 0], [1, 0], [1, 1]],
        [[0.5, 0], [1, 1], [0, 1]],
    ]
    assert mesh["face_material"].tolist() == [1, 0]
    assert [material["name"] for material in mesh["materials"]] == ["a b", "c"]
    texture = mesh["materials"][1]["texture"]
    assert texture is not None and texture[0, 0].tolist() == [4, 5, 6, 255]


# OFF and STL


@pytest.mark.parametrize(
    "text",
    [
        "OFF\n4 2 0\n{v}3 0 1 2\n3 0 2 3\n",
        "OFF 4 1 0\n# a comment\n\n{v}4 0 1 2 3\n",
        "OFF\n4 2\n{v}3 0 1 2 255 0 0\n3 0 2 3\n",
        "OFF\r\n4 3 0\r\n{v}3 0 1 2\r\n2 0 1\r\n3 0 2 3\r\n",
    ],
)
def test_off(tmp_path: Path, text: str) -> None:
    places = "".join(f"{x} {y} {z}\n" for x, y, z in SQUARE)
    assert is_square(read(tmp_path, "a.off", text.format(v=places)))


def test_off_colours(tmp_path: Path) -> None:
    places = "".join(f"{x} {y} {z} 255 0 51 255\n" for x, y, z in SQUARE)
    mesh = read(tmp_path, "a.off", f"COFF\n4 1 0\n{places}3 0 1 2\n")
    assert shape_colors(mesh)[0] == [255, 0, 51, 255]
    places = "".join(f"{x} {y} {z} 0 0 1 1 0 0.2 1\n" for x, y, z in SQUARE)
    mesh = read(tmp_path, "a.off", f"CNOFF\n4 1 0\n{places}3 0 1 2\n")
    assert shape_colors(mesh)[0] == [255, 0, 51, 255]
    places = "".join(f"{x} {y} {z} 0 0 1\n" for x, y, z in SQUARE)
    assert read(tmp_path, "a.off", f"NOFF\n4 1 0\n{places}3 0 1 2\n")["colors"] is None


def test_stl_is_welded_in_order(tmp_path: Path) -> None:
    assert is_square(read(tmp_path, "binary.stl", binary_stl(SQUARE_STL)))
    facets = "".join(
        "facet normal 0 0 1\n outer loop\n"
        + "".join(f"  vertex {x} {y:e} {z}\n" for x, y, z in triangle)
        + " endloop\nendfacet\n"
        for triangle in SQUARE_STL
    )
    assert is_square(read(tmp_path, "text.stl", f"solid square\n{facets}endsolid square\n"))


# glTF


def test_gltf_embedded_external_and_binary(tmp_path: Path) -> None:
    scene = Scene()
    scene.square()
    assert is_square(read(tmp_path, "a.glb", scene.bytes()))
    assert is_square(read(tmp_path, "a.gltf", scene.embedded()))
    (tmp_path / "my data.bin").write_bytes(scene.binary)
    assert is_square(read(tmp_path, "b.gltf", scene.external("my%20data.bin")))


def test_gltf_nodes_are_applied_and_mirrors_keep_faces_outwards(tmp_path: Path) -> None:
    scene = Scene()
    scene.square()
    half = math.sqrt(0.5)
    scene.json["nodes"] = [
        {"children": [1, 2], "translation": [1e6, 0, 0]},
        {"mesh": 0, "rotation": [0, 0, half, half], "scale": [2, 1, 1]},
        {"mesh": 0, "matrix": [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 5, 1]},
        {"mesh": 0},  # in no scene
    ]
    mesh = read(tmp_path, "a.glb", scene.bytes())
    moved = [[0, 0, 0], [0, 2, 0], [-1, 2, 0], [-1, 0, 0]]
    mirrored = [[0, 0, 5], [-1, 0, 5], [-1, 1, 5], [0, 1, 5]]
    expected = np.add([*moved, *mirrored], [1e6, 0, 0])
    np.testing.assert_allclose(mesh["vertices"], expected, rtol=0, atol=1e-9)
    assert mesh["faces"].tolist() == [*TRIANGLES, [4, 6, 5], [4, 7, 6]]


def test_gltf_primitives_share_vertices_and_fill_what_others_lack(tmp_path: Path) -> None:
    scene = Scene()
    first = scene.square()
    attributes = {
        "TEXCOORD_0": scene.add([[0, 0]] * 4, "<f4"),
        "_HEAT": scene.add([1.0] * 4, "<f4"),
    }
    attributes["COLOR_0"] = scene.add([[0, 0, 0, 255]] * 4, "|u1", normalized=True)
    scene.json["meshes"][0]["primitives"].append(
        {"attributes": first["attributes"], "indices": scene.add([2, 1, 0], "|u1")}
    )
    scene.square(attributes=attributes)
    mesh = read(tmp_path, "a.glb", scene.bytes())
    assert mesh["faces"].tolist() == [*TRIANGLES, [2, 1, 0], [4, 5, 6], [4, 6, 7]]
    assert mesh["uv"] is not None and mesh["uv"].tolist() == [[0, 0]] * 4 + [[0, 1]] * 4
    assert shape_colors(mesh) == [[255] * 4] * 4 + [[0, 0, 0, 255]] * 4
    assert mesh["attributes"]["heat"].tolist() == [0] * 4 + [1] * 4


def test_gltf_columns_in_parts_of_four_are_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = np.arange(40, dtype=np.float32).reshape(4, 10)
    parts = [columns[:, :4], columns[:, 4:8], columns[:, 8:]]
    scene = Scene()
    named = {f"_FEATURE_{number}": scene.add(part, "<f4") for number, part in enumerate(parts)}
    lone = {"_PART_1": scene.add([1.0] * 4, "<f4"), "_ODD": scene.add([2.0] * 4, "<f4")}
    scene.square(attributes=named | lone)
    scene.square(attributes={"_ODD": scene.add([[1.0, 2.0]] * 4, "<f4")})
    attributes = read(tmp_path, "a.glb", scene.bytes())["attributes"]
    assert sorted(attributes) == ["feature", "part_1"]
    assert attributes["feature"].tolist() == [*columns.tolist(), *[[0.0] * 10] * 4]
    said = capsys.readouterr().err
    assert said == f"{tmp_path / 'a.glb'}: its parts have odd in several shapes: left out\n"


def test_gltf_strips_and_fans(tmp_path: Path) -> None:
    scene = Scene()
    scene.square(mode=5, indices=scene.add([0, 1, 3, 2, 0], "<u2"))
    scene.square(mode=6, indices=scene.add([0, 1, 2, 3], "<u4"))
    scene.square(mode=1)
    faces = read(tmp_path, "a.glb", scene.bytes())["faces"].tolist()
    assert faces == [[0, 1, 3], [1, 2, 3], [3, 2, 0], [5, 6, 4], [6, 7, 4]]


def test_gltf_materials_are_linear_inside_and_srgb_outside(tmp_path: Path) -> None:
    write_picture(tmp_path / "t.png", (9, 8, 7, 100))
    scene = Scene()
    red = {"baseColorFactor": [0.2158605, 0, 1, 0.5]}
    painted = {"baseColorTexture": {"index": 0}}
    scene.json |= {
        "materials": [
            {"name": "red", "pbrMetallicRoughness": red, "alphaMode": "BLEND"},
            {"pbrMetallicRoughness": painted},
        ],
        "textures": [{"source": 0}],
        "images": [{"uri": "t.png"}],
    }
    grey = scene.add([[13955, 13955, 13955]] * 4, "<u2", normalized=True)
    scene.square(material=0, attributes={"COLOR_0": grey})
    scene.square(material=1)
    mesh = read(tmp_path, "a.gltf", scene.embedded())
    first, second = mesh["materials"]
    np.testing.assert_allclose(first["base_color"], [127.5 / 255, 0, 1, 0.5], atol=2e-3)
    assert second["name"] == "material_1" and second["texture"] is not None
    assert second["texture"][0, 0].tolist() == [9, 8, 7, 255]  # opaque materials have no alpha
    assert shape_colors(mesh)[0] == [127, 127, 127, 255]
    assert mesh["face_material"] is not None and mesh["face_material"].tolist() == [0, 0, 1, 1]


def test_gltf_texture_transform_and_second_coordinates(tmp_path: Path) -> None:
    """A quarter turn brings (1, 0) to (0, -1): up, as images count rows downwards."""
    write_picture(tmp_path / "t.png")
    scene = Scene()
    move = {"offset": [0.25, 0.5], "rotation": math.pi / 2, "scale": [2, 1], "texCoord": 1}
    texture = {"index": 0, "extensions": {"KHR_texture_transform": move}}
    scene.json |= {
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": texture}}],
        "textures": [{"source": 0}],
        "images": [{"uri": "t.png"}],
    }
    flat = scene.add([[0, 0]] * 4, "<f4")
    used = scene.add([[0, 0], [1, 0], [1, 1], [0, 1]], "<f4")
    scene.square(material=0, attributes={"TEXCOORD_0": flat, "TEXCOORD_1": used})
    uv = read(tmp_path, "a.gltf", scene.embedded())["uv"]
    assert uv is not None
    expected = [[0.25, 0.5], [0.25, 2.5], [1.25, 2.5], [1.25, 0.5]]
    np.testing.assert_allclose(uv, expected, atol=1e-6)


def test_gltf_sparse_strided_and_quantised_accessors(tmp_path: Path) -> None:
    scene = Scene()
    primitive = scene.square()
    row = np.zeros((4, 4), "<f4")
    row[:, :3] = SQUARE
    strided = scene.add(row, "<f4")
    scene.json["accessors"][strided]["type"] = "VEC3"
    scene.json["bufferViews"][-1]["byteStride"] = 16
    primitive["attributes"]["POSITION"] = strided
    assert is_square(read(tmp_path, "a.glb", scene.bytes()))
    scene.add([2], "<u2")
    scene.add([[7, 8, 9]], "<f4")
    views = len(scene.json["bufferViews"])
    scene.json["accessors"][strided]["sparse"] = {
        "count": 1,
        "indices": {"bufferView": views - 2, "componentType": 5123},
        "values": {"bufferView": views - 1},
    }
    assert read(tmp_path, "a.glb", scene.bytes())["vertices"][2].tolist() == [7, 8, 9]
    packed = scene.add(np.array(SQUARE) * 127, "|i1", normalized=True)
    primitive["attributes"]["POSITION"] = packed
    scene.json["accessors"][packed]["type"] = "VEC3"
    assert is_square(read(tmp_path, "a.glb", scene.bytes()))


def test_gltf_skins_stand_in_their_rest_pose(tmp_path: Path) -> None:
    """Joints decide, and the node of the mesh does not."""
    scene = Scene()
    inverse = np.eye(4)
    inverse[3, 0] = -10  # column-major: a translation of x by -10
    skin = scene.add([inverse.reshape(-1), np.eye(4).reshape(-1)], "<f4")
    joints = scene.add([[0, 1, 0, 0]] * 4, "|u1")
    weights = scene.add([[1, 0, 0, 0], [1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 1, 0, 0]], "<f4")
    scene.square(attributes={"JOINTS_0": joints, "WEIGHTS_0": weights})
    scene.json |= {
        "nodes": [
            {"mesh": 0, "skin": 0, "translation": [100, 100, 100], "children": []},
            {"translation": [10, 0, 0]},
            {"translation": [0, 0, 4]},
        ],
        "skins": [{"joints": [1, 2], "inverseBindMatrices": skin}],
        "scenes": [{"nodes": [0, 1, 2]}],
    }
    vertices = read(tmp_path, "a.glb", scene.bytes())["vertices"].tolist()
    assert vertices == [[0, 0, 0], [1, 0, 0], [1, 1, 2], [0, 1, 4]]
