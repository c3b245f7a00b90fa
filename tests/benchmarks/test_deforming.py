"""What the figures of lifting and deforming are printed with, and the meshes they are taken on."""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

from geodistill.geometry.mesh import Material, triangle_areas
from tests.benchmarks.converting import load
from tests.deform.shapes import grid

load("deform")  # with which its modules can be had
rows, meshes = sys.modules["rows"], sys.modules["deforming.meshes"]


def test_targets_are_judged() -> None:
    slow, fast = rows.at_most("a", 3.0, 2.0, "ms", "b 9 ms"), rows.at_least("c", 12.0, 10.0, "x")
    text = rows.table([slow, fast, rows.Row("d", "1")])
    assert text.splitlines()[2:] == [
        "| a | 3 ms | <= 2 ms (missed) | b 9 ms |",
        "| c | 12 x | >= 10 x (met) |  |",
        "| d | 1 |  |  |",
    ]


def test_a_finer_mesh_is_the_same_surface() -> None:
    plain = grid(4, 5, (2.0, 3.0))
    uv = plain.vertices[:, :2].float()
    texture = torch.full((2, 2, 4), 255, dtype=torch.uint8)
    mesh = replace(
        plain,
        uv=uv,
        materials=(Material("m", (1.0, 1.0, 1.0, 1.0), texture),),
        face_material=torch.zeros(len(plain.faces), dtype=torch.int64),
    )
    fine, columns = meshes.finer(mesh, plain.vertices[:, :1].float(), 2)
    assert len(fine.faces) == 16 * len(mesh.faces) == len(fine.face_material)
    torch.testing.assert_close(triangle_areas(fine).sum(), triangle_areas(mesh).sum())
    torch.testing.assert_close(fine.uv, fine.vertices[:, :2].float())
    torch.testing.assert_close(columns[:, 0], fine.vertices[:, 0].float())
    assert len(fine.vertices.unique(dim=0)) == len(fine.vertices)
    a, b, c = fine.vertices[fine.faces].unbind(1)
    up = torch.linalg.cross(b - a, c - a)[:, 2]
    assert bool((up > 0).all()) or bool((up < 0).all())
