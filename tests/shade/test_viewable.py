"""One ball as a field, as splats, as a mesh and as points: pictures of all of them agree."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.cameras import sphere_cameras
from geodistill.checks import UsageError
from geodistill.geometry.fields.activations import SH_C0
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.mesh_files import save_mesh
from geodistill.geometry.points import Points, save_points
from geodistill.geometry.splats import Splats, save_splats
from geodistill.metrics.fidelity import compare
from geodistill.shade.viewable import Scene, load_viewable, viewable
from tests.geometry.solids import sphere

CENTER = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
RADIUS = 0.7
COLOR = (200, 100, 50)


def spread(count: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    way = F.normalize(torch.randn(count, 3, generator=draw, dtype=torch.float64), dim=1)
    return CENTER + RADIUS * way


def ball_mesh() -> Mesh:
    ball = sphere(4)
    unit = F.normalize(ball.vertices, dim=1)
    colors = torch.tensor([*COLOR, 255], dtype=torch.uint8).expand(len(unit), 4).contiguous()
    return Mesh(CENTER + RADIUS * unit, ball.faces, colors=colors)


def ball_points() -> Points:
    colors = torch.tensor([*COLOR, 255], dtype=torch.uint8).expand(20_000, 4).contiguous()
    return Points(spread(20_000), colors)


def ball_splats(count: int = 20_000) -> Splats:
    sh = ((torch.tensor(COLOR) / 255 - 0.5) / SH_C0).expand(count, 1, 3).contiguous()
    return Splats(
        means=spread(count).float(),
        rotations=torch.tensor([1.0, 0, 0, 0]).expand(count, 4).contiguous(),
        log_scales=torch.full((count, 3), math.log(0.01)),
        opacity_logits=torch.full((count,), 4.0),
        sh=sh,
    )


BALLS: dict[str, Scene] = {"splats": ball_splats(), "mesh": ball_mesh(), "points": ball_points()}


@pytest.mark.parametrize("kind", BALLS)
def test_a_ball_looks_like_one(kind: str) -> None:
    scene = viewable(BALLS[kind])
    assert scene.color_space == "srgb" and scene.parameter_count() > 1000
    torch.testing.assert_close(scene.frame.t, CENTER, atol=0.02, rtol=0)
    assert float(scene.frame.s) == pytest.approx(RADIUS, rel=0.04)
    camera = sphere_cameras(3, CENTER, 4.0, math.radians(30), (64, 64), 0)[1]
    seen = scene.view(camera)
    middle = (32, 32)
    assert float(seen.opacity[middle]) > 0.97 and float(seen.opacity[2, 2]) == 0
    wanted = torch.tensor(COLOR) / 255 * seen.opacity[middle]
    torch.testing.assert_close(seen.color[middle], wanted, atol=0.01, rtol=0)
    assert float(seen.depth[middle]) == pytest.approx(4.0 - RADIUS, abs=0.05)
    area = float((seen.opacity > 0.5).float().mean())
    half = math.tan(math.radians(15))
    wanted_area = math.pi * math.tan(math.asin(RADIUS / 4)) ** 2 / (2 * half) ** 2
    assert area == pytest.approx(wanted_area, rel=0.2)  # splats reach beyond their means


def test_balls_of_different_kinds_compare() -> None:
    for kind in ("splats", "points"):
        report = compare(
            viewable(BALLS["mesh"]), viewable(BALLS[kind]), views=3, resolution=64
        ).report
        assert report["psnr_db"] > 16 and report["opacity_iou"] > 0.8
        assert report["depth_error"] < 0.01


def test_files_of_every_kind(tmp_path: Path) -> None:
    save_mesh(tmp_path / "m.ply", ball_mesh())
    save_points(tmp_path / "p.xyz", ball_points())
    save_splats(tmp_path / "s.ply", ball_splats())
    names = [type(load_viewable(tmp_path / n)).__name__ for n in ("m.ply", "p.xyz", "s.ply")]
    assert names == ["MeshView", "PointView", "SplatView"]


def test_normals_are_of_surfaces() -> None:
    camera = sphere_cameras(1, CENTER, 4.0, math.radians(30), (32, 32), 0)[0]
    seen = viewable(BALLS["mesh"]).view(camera, normals=True)
    assert seen.normal is not None
    towards = F.normalize(camera.centers.double() - CENTER, dim=0).float()
    torch.testing.assert_close(seen.normal[16, 16], towards, atol=0.1, rtol=0)
    for kind in ("splats", "points"):
        with pytest.raises(UsageError, match="have no normals"):
            viewable(BALLS[kind]).view(camera, normals=True)
