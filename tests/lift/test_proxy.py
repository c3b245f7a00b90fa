"""A coarse mesh in the colours of a fine one, and features that come back from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geodistill.geometry.mesh import Material, Mesh
from geodistill.lift.files import FeatureSet
from geodistill.lift.proxy import carry, proxy
from geodistill.lift.scenes import MeshScene
from tests.lift.test_lift_scenes import ball_mesh

pytest.importorskip("fast_simplification", reason="fast_simplification is not installed")


def striped(mesh: Mesh) -> Mesh:
    """The upper half red and the lower blue, by a texture of two texels."""
    height = (mesh.vertices[:, 2] > 0).float()
    uv = torch.stack([torch.full_like(height, 0.5), 0.25 + 0.5 * height], 1)
    texture = torch.tensor([[[255, 0, 0, 255]], [[0, 0, 255, 255]]], dtype=torch.uint8)
    return replace(mesh, uv=uv, materials=(Material("paint", (1.0, 1.0, 1.0, 1.0), texture),))


def test_a_proxy_shows_what_the_texture_showed() -> None:
    coarse = proxy(striped(ball_mesh()), 300)
    assert 150 < len(coarse.faces) <= 300 and coarse.colors is not None
    height, colors = coarse.vertices[:, 2], coarse.colors
    for some, color in ((height > 0.2, [255, 0, 0, 255]), (height < -0.2, [0, 0, 255, 255])):
        assert int(some.sum()) > 20
        assert torch.equal(
            colors[some], torch.tensor(color, dtype=torch.uint8).expand(int(some.sum()), 4)
        )


def test_features_come_back_to_the_vertices_of_the_original() -> None:
    scene = MeshScene(ball_mesh())
    coarse = MeshScene(proxy(scene.mesh, 600))
    seen = coarse.positions[:, 0] > 0
    found = FeatureSet(coarse.positions.float(), seen, "mesh", coarse.digest, "t", "f")
    back = carry(found, coarse, scene)
    back.expect("mesh", scene.digest, len(scene.positions), "here")
    assert float((back.features - scene.positions).norm(dim=1).max()) < 0.12
    side = scene.positions[:, 0]
    assert bool(back.seen[side > 0.25].all()) and not bool(back.seen[side < -0.25].any())
    given = torch.ones(len(scene.positions), 3)
    assert torch.equal(carry(found, coarse, scene, given).features, given)
