"""A coarse mesh in place of a fine one, and features that come back from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geodistill.geometry.mesh import Material, Mesh
from geodistill.lift.files import FeatureSet
from geodistill.lift.proxy import ProxyScene
from geodistill.lift.scenes import MeshScene, cameras_around
from tests.lift.test_lift_scenes import ball_mesh

pytest.importorskip("fast_simplification", reason="fast_simplification is not installed")


def striped(mesh: Mesh) -> Mesh:
    """The upper half red and the lower blue, by a texture of two texels."""
    height = (mesh.vertices[:, 2] > 0).float()
    uv = torch.stack([torch.full_like(height, 0.5), 0.25 + 0.5 * height], 1)
    texture = torch.tensor([[[255, 0, 0, 255]], [[0, 0, 255, 255]]], dtype=torch.uint8)
    return replace(mesh, uv=uv, materials=(Material("paint", (1.0, 1.0, 1.0, 1.0), texture),))


def test_teachers_see_the_mesh_itself_on_fewer_elements() -> None:
    scene = MeshScene(striped(ball_mesh()))
    coarse = ProxyScene(scene, 300)
    assert 150 < len(coarse.mesh.faces) <= 300
    camera = cameras_around(scene, 1, 48)[0]
    own, shown = scene.look(camera, 8.0), coarse.look(camera, 8.0)
    assert torch.equal(own.image, shown.image)
    assert shown.footprint().elements == len(coarse.positions)
    both = (own.trust > 0) & (shown.trust > 0)
    assert float(both.sum() / (own.trust > 0).sum()) > 0.95
    assert float((own.points - shown.points)[both].norm(dim=1).median()) < 0.02


def test_features_come_back_to_the_vertices_of_the_original() -> None:
    scene = MeshScene(ball_mesh())
    coarse = ProxyScene(scene, 600)
    seen = coarse.positions[:, 0] > 0
    found = FeatureSet(coarse.positions.float(), seen, "mesh", coarse.digest, "t", "f")
    back = coarse.carry(found)
    back.expect("mesh", scene.digest, len(scene.positions), "here")
    assert float((back.features - scene.positions).norm(dim=1).max()) < 0.12
    side = scene.positions[:, 0]
    assert bool(back.seen[side > 0.25].all()) and not bool(back.seen[side < -0.25].any())
    given = torch.ones(len(scene.positions), 3)
    assert torch.equal(coarse.carry(found, given).features, given)
