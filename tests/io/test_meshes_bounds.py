"""A small file cannot ask for much: what is placed or named often is bounded, or taken in once."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geodistill.checks import InputError
from geodistill.io.meshes import glb, gltf, gltf_file, mesh_arrays, read_mesh, textures, write_mesh
from geodistill.io.splats import read_splats
from tests.io.mesh_texts import SQUARE, TRIANGLES, Scene, write_picture
from tests.io.test_splat_gltf import File, some_splats

CORNERS = np.random.default_rng(0).normal(size=(3000, 3))


def soup() -> tuple[Scene, list[dict[str, Any]]]:
    """A thousand triangles without indices, and the list of primitives that holds them."""
    scene = Scene()
    primitives = scene.json["meshes"][0]["primitives"]
    primitives.append({"attributes": {"POSITION": scene.add(CORNERS, "<f4")}})
    return scene, primitives


def placed_often() -> Scene:
    scene, _ = soup()
    scene.json["nodes"] = [{"mesh": 0}] * 100
    scene.json["scenes"] = [{"nodes": [*range(100)]}]
    return scene


def faces_made_often() -> Scene:
    scene, primitives = soup()
    primitives *= 300
    return scene


def indices_used_often() -> Scene:
    scene, primitives = soup()
    primitives[0]["indices"] = scene.add(range(3000), "<u2")
    primitives *= 400
    return scene


def columns_named_often() -> Scene:
    scene, primitives = soup()
    primitives[0]["attributes"] |= {f"_A{number}": 0 for number in range(100)}
    return scene


def columns_filled_often() -> Scene:
    """Each part has a column of its own, which all the others get as zeros."""
    scene, primitives = soup()
    primitives[:] = [{"attributes": {"POSITION": 0, f"_A{number}": 0}} for number in range(20)]
    return scene


def points_placed_often() -> Scene:
    scene, primitives = soup()
    primitives += [{"mode": 0}] * 400
    scene.json["nodes"] = [{"mesh": 0}] + [{"mesh": 1}] * 400
    scene.json["meshes"] = [{"primitives": primitives[:1]}, {"primitives": primitives[1:]}]
    scene.json["scenes"] = [{"nodes": [*range(401)]}]
    return scene


@pytest.mark.parametrize(
    "scene",
    [
        placed_often,
        faces_made_often,
        indices_used_often,
        columns_named_often,
        columns_filled_often,
        points_placed_often,
    ],
)
def test_parts_of_gltf_come_to_no_more_than_the_file_is_worth(
    scene: Callable[[], Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.glb"
    path.write_bytes(scene().bytes())
    assert len(read_mesh(path)["vertices"]) >= len(CORNERS)  # which any machine has room for
    monkeypatch.setattr(gltf_file, "_NUMBERS", 0)
    with pytest.raises(InputError, match=r"a\.glb places its parts so often that its \d+ bytes"):
        read_mesh(path)


def test_what_stands_in_a_gltf_once_is_never_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes for every column, which is the most that a file can hold."""
    monkeypatch.setattr(gltf_file, "_NUMBERS", 0)
    scene = Scene()
    column = np.ones((3000, 4))
    wide = {f"_A{number}": scene.add(column, "|u1") for number in range(20)}
    place = scene.add(CORNERS, "<f4")
    faces = scene.add(range(3000), "<u2")
    scene.json["meshes"][0]["primitives"] = [
        {"attributes": {"POSITION": place, **wide}, "indices": faces}
    ]
    (tmp_path / "a.glb").write_bytes(scene.bytes())
    (tmp_path / "a.gltf").write_text(scene.external("a.bin"))
    (tmp_path / "a.bin").write_bytes(scene.binary)
    for name in ("a.glb", "a.gltf"):
        assert len(read_mesh(tmp_path / name)["faces"]) == 1000


def test_positions_without_data(tmp_path: Path) -> None:
    scene = Scene()
    place = scene.square()["attributes"]["POSITION"]
    entry = scene.json["accessors"][place]
    del entry["bufferView"]
    path = tmp_path / "a.glb"
    path.write_bytes(scene.bytes())
    assert not read_mesh(path)["vertices"].any()
    entry["count"] = 2**22 + 1
    path.write_bytes(scene.bytes())
    with pytest.raises(InputError, match=r"accessor 0 stands for 4194305 rows without data"):
        read_mesh(path)


def test_splats_are_placed_no_more_often_than_the_file_is_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, path = File(), tmp_path / "a.glb"
    file.splats(some_splats(50))
    file.write(path)
    monkeypatch.setattr(gltf_file, "_NUMBERS", 0)
    assert len(read_splats(path)["means"]) == 50
    file.json["nodes"] = [{"mesh": 0}] * 200
    file.json["scenes"] = [{"nodes": [*range(200)]}]
    file.write(path)
    with pytest.raises(InputError, match=r"a\.glb places its parts so often"):
        read_splats(path)
    monkeypatch.undo()
    assert len(read_splats(path)["means"]) == 200 * 50
    file.json["meshes"].append({"primitives": [{"mode": 4}] * 400})
    file.json["nodes"] = [{"mesh": 0}] + [{"mesh": 1}] * 400
    file.json["scenes"] = [{"nodes": [*range(401)]}]
    file.write(path)
    assert len(read_splats(path)["means"]) == 50
    monkeypatch.setattr(gltf_file, "_NUMBERS", 0)
    with pytest.raises(InputError, match=r"a\.glb places its parts so often"):
        read_splats(path)


def test_the_joints_of_a_skin_are_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene()
    joints, weights = scene.add([[0] * 4] * 4, "|u1"), scene.add([[1, 0, 0, 0]] * 4, "<f4")
    scene.square(attributes={"JOINTS_0": joints, "WEIGHTS_0": weights})
    scene.json["nodes"] = [{"mesh": 0, "skin": 0}] * 5
    scene.json |= {"skins": [{"joints": [0]}], "scenes": [{"nodes": [*range(5)]}]}
    (tmp_path / "a.glb").write_bytes(scene.bytes())
    calls, found = [], gltf._joints
    monkeypatch.setattr(gltf, "_joints", lambda *rest: calls.append(1) or found(*rest))
    assert len(read_mesh(tmp_path / "a.glb")["faces"]) == 10 and len(calls) == 1


@pytest.mark.parametrize("name", ["mesh", "splats"])
def test_a_gltf_too_large_for_the_machine_is_not_called_damaged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    path = tmp_path / "a.glb"
    path.write_bytes(soup()[0].bytes())
    monkeypatch.setattr(gltf_file.GltfFile, "entry", full)
    with pytest.raises(MemoryError):
        read_mesh(path) if name == "mesh" else read_splats(path)


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pictures that are decoded from now on, by name."""
    names, decode = [], textures.decode_texture
    for module in (textures, gltf_file):
        monkeypatch.setattr(
            module, "decode_texture", lambda data, name: names.append(name) or decode(data, name)
        )
    return names


def test_gltf_pictures_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a material, an image, a view or a spelling leads to them."""
    data = write_picture(tmp_path / "t.png", (9, 8, 7, 100)).read_bytes()
    write_picture(tmp_path / "u.png", (1, 2, 3))
    scene = Scene()
    scene.square(material=0)
    start = len(scene.binary)
    scene.binary += data
    view = {"buffer": 0, "byteOffset": start, "byteLength": len(data)}
    scene.json["bufferViews"] += [view, dict(view)]
    count = len(scene.json["bufferViews"])
    images = [
        *({"bufferView": number, "mimeType": "image/png"} for number in (count - 2, count - 1)),
        *({"uri": uri} for uri in ("t.png", "./t.png", "u.png", "gone/../u.png")),
    ]
    painted = [
        {"pbrMetallicRoughness": {"baseColorTexture": {"index": number % 6}}}
        for number in range(12)
    ]
    clear = [{**material, "alphaMode": "BLEND"} for material in painted]
    scene.json |= {
        "images": images,
        "textures": [{"source": number} for number in range(6)],
        "materials": painted + clear,
    }
    (tmp_path / "a.glb").write_bytes(scene.bytes())
    names = decoded(monkeypatch)
    found = [material["texture"] for material in read_mesh(tmp_path / "a.glb")["materials"]]
    assert len(names) == 2
    assert len({id(texture) for texture in found}) == 3  # the first one with alpha and without
    assert all(texture is not None for texture in found)
    alphas = [int(texture[0, 0, 3]) for texture in found if texture is not None]
    assert alphas == [255] * 12 + [100, 100, 100, 100, 255, 255] * 2


def test_obj_libraries_and_pictures_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_picture(tmp_path / "t.png")
    (tmp_path / "sub").mkdir()
    spelled = ["t.png", "./t.png", "sub/../t.png", "t.png"]
    text = "".join(f"newmtl m{i}\nmap_Kd {name}\n" for i, name in enumerate(spelled))
    (tmp_path / "a.mtl").write_text(text)
    corners = "".join(f"v {x} {y} {z}\n" for x, y, z in SQUARE)
    libraries = "mtllib a.mtl\nmtllib a.mtl\nmtllib a.mtl ./a.mtl\n"
    (tmp_path / "a.obj").write_text(libraries + corners + "usemtl m3\nf 1 2 3\n")
    names = decoded(monkeypatch)
    materials = read_mesh(tmp_path / "a.obj")["materials"]
    assert [material["name"] for material in materials] == ["m0", "m1", "m2", "m3"]
    assert len({id(material["texture"]) for material in materials}) == len(names) == 1


def test_ply_pictures_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "t.png")
    mesh = mesh_arrays(np.array(SQUARE), np.array(TRIANGLES))
    write_mesh(tmp_path / "a.ply", mesh)
    data = (tmp_path / "a.ply").read_bytes()
    named = b"element vertex", b"comment TextureFile t.png\n" * 3 + b"element vertex"
    (tmp_path / "a.ply").write_bytes(data.replace(*named, 1))
    names = decoded(monkeypatch)
    assert len(read_mesh(tmp_path / "a.ply")["materials"]) == 3 and len(names) == 1


def test_a_picture_that_materials_share_is_packed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.zeros((4, 4, 4), np.uint8)
    half = picture[:2]  # begins at the same place
    shared = [picture, picture[:], half]
    mesh = mesh_arrays(np.array(SQUARE), np.array(TRIANGLES))
    mesh["materials"] = [
        {"name": str(number), "base_color": (1.0, 1.0, 1.0, 1.0), "texture": texture}
        for number, texture in enumerate(shared)
    ]
    mesh["face_material"] = np.array([0, 1])
    calls, encode = [], glb.encode_png
    monkeypatch.setattr(glb, "encode_png", lambda texture: calls.append(1) or encode(texture))
    write_mesh(tmp_path / "a.glb", mesh)
    assert len(calls) == 2
    found = [material["texture"] for material in read_mesh(tmp_path / "a.glb")["materials"]]
    assert [None if t is None else t.shape for t in found] == [(4, 4, 4), (4, 4, 4), (2, 4, 4)]


def test_obj_materials_of_faces_agree_with_a_loop(tmp_path: Path) -> None:
    draw = random.Random(3)
    names = ["a", "b c", "none", "(null)", ""]
    lines, wanted, current = ["v 0 0 0", "v 1 0 0", "v 0 1 0", "f 1 2 3"], [None], ""
    for _ in range(300):
        if draw.random() < 0.6:
            current = draw.choice(names)
            lines.append(f"usemtl {current}")
        else:
            polygon = draw.choice(["f 1 2 3", "f 1 2 3 1"])
            lines.append(polygon)
            wanted += [current if current in ("a", "b c") else None] * (len(polygon.split()) - 3)
    path = tmp_path / "a.obj"
    path.write_text("\n".join([*lines, "usemtl a"]))
    mesh = read_mesh(path)
    assert mesh["face_material"] is not None
    known = [material["name"] for material in mesh["materials"]]
    found = [known[number] if number >= 0 else None for number in mesh["face_material"].tolist()]
    assert found == wanted and sorted(known) == ["a", "b c"]
