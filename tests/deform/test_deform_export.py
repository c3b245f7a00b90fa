"""Edits as meshes of other programs: a skin's joints pose the mesh as linear blending does."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodistill.checks import InputError, UsageError
from geodistill.deform.export import save_edit, skin_of
from geodistill.deform.session import Handle, Mirror, Session, apply
from geodistill.geometry.mesh import Mesh, diagonal
from geodistill.geometry.mesh_files import load_mesh
from geodistill.io.meshes.glb_file import GlbBuffer
from geodistill.io.meshes.skin import Skin, skin_attributes
from tests.deform.shapes import blob, waves

SESSION = Session(
    blend="linear",
    handles=(
        Handle(
            vertex=300, translate=(0.3, 0.1, 0.0), rotate=(0.0, 130.0, 20.0), scale=(1.2, 1, 0.8)
        ),
        Handle(vertex=1500, translate=(0.0, -0.2, 0.1), pivot=(0.1, 0.2, 0.3), rotate=(40.0, 0, 0)),
    ),
    mirrors=(Mirror((1.0, 0.5, 0.0), 0.1),),
)


class Skinned:
    """A slow reader of what the glTF specification says of skins."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        length = struct.unpack("<I", data[12:16])[0]
        self.json = json.loads(data[20 : 20 + length])
        self.body = data[28 + length :]

    def array(self, number: int) -> np.ndarray:
        entry = self.json["accessors"][number]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[entry["type"]]
        kind = {5123: "<u2", 5126: "<f4"}[entry["componentType"]]
        start = self.json["bufferViews"][entry["bufferView"]]["byteOffset"]
        found = np.frombuffer(self.body, kind, entry["count"] * width, start)
        return found.reshape(entry["count"], width)

    def local(self, node: dict[str, Any]) -> np.ndarray:
        if "matrix" in node:
            return np.array(node["matrix"]).reshape(4, 4).T
        M = np.eye(4)
        if "rotation" in node:
            x, y, z, w = node["rotation"]
            M[:3, :3] = [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
            M[:3, :3] *= node["scale"]
        M[:3, 3] = node.get("translation", [0, 0, 0])
        return M

    def parts(self) -> int:
        """How many times four weights a vertex has."""
        return sum(
            name.startswith("JOINTS_")
            for name in self.json["meshes"][0]["primitives"][0]["attributes"]
        )

    def posed(self) -> np.ndarray:
        """Vertices where the joints bring them."""
        skin = self.json["skins"][0]
        nodes = self.json["nodes"]
        world = {skin["skeleton"]: self.local(nodes[skin["skeleton"]])}
        for child in nodes[skin["skeleton"]].get("children", []):
            world[child] = world[skin["skeleton"]] @ self.local(nodes[child])
        inverse = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).swapaxes(1, 2)
        maps = np.stack([world[j] @ B for j, B in zip(skin["joints"], inverse, strict=True)])
        given = self.json["meshes"][0]["primitives"][0]["attributes"]
        x = np.c_[self.array(given["POSITION"]), np.ones(self.array(given["POSITION"]).shape[0])]
        out, total = 0.0, 0.0
        for part in range(self.parts()):
            joints = self.array(given[f"JOINTS_{part}"])
            shares = self.array(given[f"WEIGHTS_{part}"]).astype(np.float64)
            moved = np.einsum("vkij,vj->vki", maps[joints], x)
            out = out + (shares[..., None] * moved).sum(1)
            total = total + shares.sum(1)
        assert np.abs(total - 1).max() < 1e-5
        return np.asarray(out)[:, :3]


@pytest.mark.parametrize("away", [0.0, 1000.0])
def test_joints_pose_the_mesh(tmp_path: Path, away: float) -> None:
    shape = blob(3)
    mesh = Mesh(shape.vertices + torch.tensor([away, 0, 0]).double(), shape.faces)
    shift = (Mirror((1.0, 0.5, 0.0), 0.1 + away),)
    second = replace(SESSION.handles[1], pivot=(0.1 + away, 0.2, 0.3))
    session = replace(SESSION, handles=(SESSION.handles[0], second), mirrors=shift)
    edit = apply(session, mesh, waves(shape.vertices))
    save_edit(tmp_path / "skin.glb", mesh, edit, "skin")
    skinned = Skinned(tmp_path / "skin.glb")
    found = skinned.posed()
    limit = 1e-5 * diagonal(mesh) + 2e-7 * away  # weights are floats, and add to 1 as these do
    assert np.abs(found - edit.vertices.numpy()).max() < limit
    assert skinned.parts() == 2  # two handles, their two images and the rest are five
    assert float((edit.vertices - mesh.vertices).norm(dim=1).max()) > 0.1
    read = load_mesh(tmp_path / "skin.glb")  # as it is posed
    assert float((read.vertices - edit.vertices).abs().max()) < limit


def test_of_many_handles_the_eight_largest_weights_count(tmp_path: Path) -> None:
    mesh = blob(3)
    handles = tuple(Handle(vertex=80 * k + 5, translate=(0.0, 0.01 * k, 0.0)) for k in range(20))
    edit = apply(Session(blend="linear", handles=handles), mesh, waves(mesh.vertices))
    save_edit(tmp_path / "skin.glb", mesh, edit, "skin")
    away = np.abs(Skinned(tmp_path / "skin.glb").posed() - edit.vertices.numpy()).max()
    assert away < 0.02 * diagonal(mesh)
    assert len(skin_of(edit).names) == 20


def test_few_weights_are_the_first_four(tmp_path: Path) -> None:
    mesh = blob(3)
    session = replace(SESSION, mirrors=())
    edit = apply(session, mesh, waves(mesh.vertices))
    save_edit(tmp_path / "skin.glb", mesh, edit, "skin")
    skinned = Skinned(tmp_path / "skin.glb")
    assert skinned.parts() == 1
    assert np.abs(skinned.posed() - edit.vertices.numpy()).max() < 1e-5 * diagonal(mesh)


def test_the_first_four_weights_are_the_largest() -> None:
    given = np.array([[0.1, 0.2, 0.05, 0.3, 0.25], [0.25, 0.25, 0.25, 0.25, 0.0]], np.float32)
    maps = np.zeros((5, 3, 4))
    for weights, parts in ((given, 2), (given[1:], 1)):
        buffer = GlbBuffer()
        found = skin_attributes(Skin(tuple("abcde"), np.zeros((5, 3)), maps, weights), buffer)
        assert len(found) == 2 * parts
        shares = np.frombuffer(buffer.pieces[found["WEIGHTS_0"]], "<f4").reshape(-1, 4)
        joints = np.frombuffer(buffer.pieces[found["JOINTS_0"]], "<u2").reshape(-1, 4)
        assert shares[-1] == pytest.approx(0.25) and sorted(joints[-1]) == [1, 2, 3, 4]
        if parts == 2:
            assert shares[0] == pytest.approx([0.3, 0.25, 0.2, 0.1])
            assert sorted(joints[0][:3]) == [2, 4, 5]


def test_skins_need_handles_and_glb(tmp_path: Path) -> None:
    mesh = blob(3)
    with pytest.raises(InputError, match="no handles"):
        save_edit(tmp_path / "a.glb", mesh, apply(Session(), mesh, waves(mesh.vertices)), "skin")
    edit = apply(SESSION, mesh, waves(mesh.vertices))
    with pytest.raises(UsageError, match="only GLB holds a skin"):
        save_edit(tmp_path / "a.ply", mesh, edit, "skin")
    assert not [*tmp_path.iterdir()]
