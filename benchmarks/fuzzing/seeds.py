"""Small whole files of every kind, by the package's own writers and by the tests' samples."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing import field_seeds
from fuzzing.field_seeds import Files
from geodistill import log
from geodistill.io.clouds import write_cloud
from geodistill.io.meshes import mesh_arrays, write_mesh
from geodistill.io.splats import write_splats
from tests.io import mesh_texts, splat_samples


def write_seeds(kind: str, root: Path) -> None:
    """Each scene of a kind into a folder of its own, with the order of its files in ORDER."""
    level = log.level()
    log.set_level(log.QUIET)
    scenes = [*KINDS[kind]()]
    log.set_level(level)
    for number, files in enumerate(scenes):
        folder = root / kind / f"{number:02d}"
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / "ORDER").write_text("\n".join(files))


# Splats


def _written(name: str, write: Callable[[Path], Any]) -> Files:
    """What a writer leaves in a folder, the named file first."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    return {name: files.pop(name), **files}


def _splats(ending: str, counts: tuple[int, ...] = (1, 40, 300)) -> Iterator[Files]:
    for seed, count in enumerate(counts):
        for degree in (0, 1, 3):
            splats = splat_samples.some_arrays(count, degree, seed)
            yield _written(f"a{ending}", lambda path, splats=splats: write_splats(path, splats))


def _ply_splats() -> Iterator[Files]:
    yield from _splats(".ply")
    splats = splat_samples.some_arrays(20)
    splats["attributes"] = {"heat": np.ones(20, np.float32), "f": np.ones((20, 3), np.float32)}
    yield _written("a.ply", lambda path: write_splats(path, splats))


def _spz() -> Iterator[Files]:
    from tests.io.test_splat_spz import a_file

    yield from _splats(".spz", (1, 40))
    for version in (1, 2, 3, 4):
        for degree in (0, 2, 4):
            yield {"a.spz": a_file(version, degree)}


def _ksplat() -> Iterator[Files]:
    from tests.io.test_splat_ksplat import Section, ksplat

    for level in (0, 1, 2):
        for degree in (0, 2):
            yield {"a.ksplat": ksplat([Section(level, degree, 2, [3]), Section(level, 0, 1, [])])}


def _sog() -> Iterator[Files]:
    from tests.io.test_splat_sog import bundle, first_version

    yield from _splats(".sog", (1, 40))
    meta, parts = first_version(49, 1)
    yield _written("a.sog", lambda path: bundle(path, meta, parts))
    yield _written("a.sog", lambda path: bundle(path, meta, parts, "folder/", compression=8))


def _meta_json() -> Iterator[Files]:
    import json

    from tests.io.test_splat_sog import first_version, parts_of

    for degree in (0, 2):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.sog"
            write_splats(path, splat_samples.some_arrays(40, degree))
            meta, parts = parts_of(path)
        yield {"meta.json": json.dumps(meta).encode(), **parts}
        meta, parts = first_version(49, degree)
        yield {"meta.json": json.dumps(meta).encode(), **parts}


def _gltf_splats() -> Iterator[Files]:
    import json

    from tests.io.test_splat_gltf import parts_of

    for files in _splats(".glb", (1, 40)):
        content, buffer = parts_of(files["a.glb"])
        content["buffers"] = [{"byteLength": len(buffer), "uri": "b.bin"}]
        yield {"a.gltf": json.dumps(content).encode(), "b.bin": buffer}


# Meshes


def _gsplat(ending: str) -> Iterator[Files]:
    import torch

    from tests.io.test_splat_checkpoints import gsplat_columns

    for degree, old in ((0, False), (1, True), (3, False)):
        columns = gsplat_columns(splat_samples.some_arrays(20, degree))
        columns |= {"heat": torch.ones(20), "f": torch.ones(20, 3)}
        out = io.BytesIO()
        content = {"step": 9, "splats": columns}
        torch.save(content, out, _use_new_zipfile_serialization=not old)
        yield {f"a{ending}": out.getvalue()}
        if not old:
            yield {f"a_rank{rank}{ending}": out.getvalue() for rank in range(2)}


def _splatfacto(main: str = "") -> Iterator[Files]:
    from tests.io.test_splat_checkpoints import splatfacto_state

    for degree, prefix in ((0, "gauss_params."), (3, "gauss_params."), (1, "")):
        state = splatfacto_state(splat_samples.some_arrays(20, degree), prefix)
        yield field_seeds.run("splatfacto", state, {"rasterize_mode": "antialiased"}, main)


def _splat_ckpt() -> Iterator[Files]:
    yield from _gsplat(".ckpt")
    yield from _splatfacto()


def _picture() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(out, "PNG")
    return out.getvalue()


def _mesh(ending: str) -> Iterator[Files]:
    square = np.array(mesh_texts.SQUARE, np.float32)
    faces = np.array(mesh_texts.TRIANGLES)
    draw = np.random.default_rng(1)
    corners = draw.normal(size=(60, 3)).astype(np.float32)
    for vertices, triangles in ((square, faces), (corners, draw.integers(0, 60, (90, 3)))):
        mesh = mesh_arrays(vertices, triangles)
        yield _written(f"a{ending}", lambda path, mesh=mesh: write_mesh(path, mesh))


OBJ = b"""# made by hand
mtllib a.mtl
o square
v 0 0 0 1 0 0
v 1 0 0 0 1 0
v 1 1 0 0 0 1
v 0 1 0 1 1 1
vt 0 0
vt 1 0
vt 1 1
vt 0 1
vn 0 0 1
usemtl red
f 1/1/1 2/2/1 3/3/1 4/4/1
usemtl photo
s off
f -4//1 -3//1 -2//1
l 1 2
f 1 2 3
"""
MTL = b"""newmtl red
Kd 0.8 0.1 0.1
d 0.5
newmtl photo
Kd 1 1 1
map_Kd -s 1 1 1 p.png
"""


def _obj() -> Iterator[Files]:
    yield from _mesh(".obj")
    yield {"a.obj": OBJ, "a.mtl": MTL, "p.png": _picture()}
    yield {"a.obj": OBJ.replace(b"\n", b"\r\n"), "a.mtl": MTL, "p.png": _picture()}


def _ply_mesh() -> Iterator[Files]:
    yield from _mesh(".ply")
    yield {"a.ply": mesh_texts.PLY_SQUARE}
    for order in "<>":
        yield {"a.ply": mesh_texts.binary_ply(order, [[0, 1, 2, 3], [0, 1, 2]])}
        yield {"a.ply": mesh_texts.binary_ply(order, [[0, 1, 2], [0, 2, 3]])}


OFF = b"""OFF
# made by hand
4 2 0
0 0 0
1 0 0
1 1 0
0 1 0
3 0 1 2 255 0 0
3 0 2 3 0.5 0.5 0.5
"""
STL = b"""solid square
facet normal 0 0 1
outer loop
vertex 0 0 0
vertex 1 0 0
vertex 1 1 0
endloop
endfacet
facet normal 0 0 1
outer loop
vertex 0 0 0
vertex 1 1 0
vertex 0 1 0
endloop
endfacet
endsolid square
"""


def _off() -> Iterator[Files]:
    yield {"a.off": OFF}
    yield {"a.off": b"COFF\n3 1 3\n0 0 0 255 0 0 255\n1 0 0 0 1 0 1\n0 1 0 0 0 255 255\n3 0 1 2\n"}


def _stl() -> Iterator[Files]:
    yield {"a.stl": STL}
    yield {"a.stl": mesh_texts.binary_stl([list(t) for t in mesh_texts.SQUARE_STL])}


def _scene() -> mesh_texts.Scene:
    """A textured square twice, one of them turned by its node, with sparse and strided parts.

    One part has no positions stored but the sparse one, and a column of six.
    """
    scene = mesh_texts.Scene()
    coordinates = scene.add([(0, 0), (1, 0), (1, 1), (0, 1)], "<f4")
    colors = scene.add([(255, 0, 0, 255)] * 4, "|u1", normalized=True)
    scene.square(attributes={"TEXCOORD_0": coordinates, "COLOR_0": colors}, material=0)
    scene.square(mode=5)
    values = scene.add([(0.0, 0.0, 2.0)], "<f4")
    index = scene.add([3], "<u2")
    views = [scene.json["accessors"][i]["bufferView"] for i in (values, index)]
    sparse = {
        "count": 1,
        "indices": {"bufferView": views[1], "componentType": 5123},
        "values": {"bufferView": views[0]},
    }
    place = scene.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    scene.json["accessors"][place]["sparse"] = sparse
    wide = {f"_F_{i}": scene.add(np.ones((4, n)), "<f4") for i, n in enumerate((4, 2))}
    scene.square(attributes=wide)
    place = scene.json["meshes"][0]["primitives"][2]["attributes"]["POSITION"]
    scene.json["accessors"][place]["sparse"] = sparse
    del scene.json["accessors"][place]["bufferView"]
    scene.json["materials"] = [
        {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0.5}}
    ]
    scene.json["textures"], scene.json["images"] = [{"source": 0}], [{"uri": "p.png"}]
    turned = {"rotation": [0, 0, 0.6, 0.8], "scale": [1, 2, 1], "mesh": 0}
    scene.json["nodes"] = [{"children": [1, 2], "translation": [1, 0, 0]}, {"mesh": 0}, turned]
    return scene


def _glb_mesh() -> Iterator[Files]:
    yield from _mesh(".glb")
    yield {"a.glb": _scene().bytes(), "p.png": _picture()}


def _gltf_mesh() -> Iterator[Files]:
    yield {"a.gltf": _scene().embedded().encode(), "p.png": _picture()}
    scene = _scene()
    yield {"a.gltf": scene.external("b.bin").encode(), "b.bin": scene.binary, "p.png": _picture()}


# Clouds


def _cloud(ending: str) -> Iterator[Files]:
    draw = np.random.default_rng(2)
    for count in (1, 50):
        cloud = {
            "positions": draw.normal(size=(count, 3)),
            "colors": draw.integers(0, 256, (count, 4), np.uint8),
            "normals": np.ones((count, 3), np.float32),
            "heat": np.ones(count, np.float32),
            "feature": np.ones((count, 3), np.float32),
        }
        for names in (("positions",), tuple(cloud)):
            some = {name: cloud[name] for name in names}
            yield _written(f"a{ending}", lambda path, some=some: write_cloud(path, some))


def _pcd() -> Iterator[Files]:
    from geodistill.io.pcd import ENCODINGS, write_pcd

    yield from _cloud(".pcd")
    values = np.arange(60, dtype=np.float32)
    columns = {"x": values, "y": values[::-1].copy(), "z": values * 0, "n": np.ones((60, 2), "<i2")}
    pose = (1, 2, 3, 0, 1, 0, 0)
    for encoding in ENCODINGS:
        yield _written("a.pcd", lambda path, e=encoding: write_pcd(path, columns, pose, e))


KINDS: dict[str, Callable[[], Iterator[Files]]] = {
    "splats.ply": _ply_splats,
    "splats.compressed.ply": lambda: _splats(".compressed.ply"),
    "splats.splat": lambda: _splats(".splat"),
    "splats.ksplat": _ksplat,
    "splats.spz": _spz,
    "splats.sog": _sog,
    "splats.meta.json": _meta_json,
    "splats.glb": lambda: _splats(".glb", (1, 40)),
    "splats.gltf": _gltf_splats,
    "mesh.obj": _obj,
    "mesh.ply": _ply_mesh,
    "mesh.off": _off,
    "mesh.stl": _stl,
    "mesh.glb": _glb_mesh,
    "mesh.gltf": _gltf_mesh,
    "cloud.ply": lambda: _cloud(".ply"),
    "cloud.pcd": _pcd,
    "cloud.xyz": lambda: _cloud(".xyz"),
    "cloud.npz": lambda: _cloud(".npz"),
    "splats.pt": lambda: _gsplat(".pt"),
    "splats.pth": lambda: _gsplat(".pth"),
    "splats.ckpt": _splat_ckpt,
    "splats.config.yml": lambda: _splatfacto("config.yml"),
    "field.ckpt": field_seeds.nerfstudio,
    "field.yml": lambda: field_seeds.nerfstudio("config.yml"),
    "field.th": field_seeds.tensorf,
    "field.npz": field_seeds.svox2,
    "field.ingp": lambda: field_seeds.ingp(True),
    "field.msgpack": lambda: field_seeds.ingp(False),
    "field.pth": field_seeds.torch_ngp,
}
