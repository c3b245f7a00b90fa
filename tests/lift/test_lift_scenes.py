"""One suite over all four geometries: a ball as a mesh, a cloud, splats and a field."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.cameras import Camera, Similarity, rotations
from geodistill.checks import GeodistillError
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.mesh_files import save_mesh
from geodistill.geometry.points import Points, save_points
from geodistill.geometry.splats import Splats, save_splats
from geodistill.lift.scenes import (
    FieldScene,
    MeshScene,
    PointScene,
    Scene,
    SplatScene,
    cameras_around,
    load_scene,
)
from geodistill.lift.solve import refined, weighted_mean
from geodistill.lift.views import Equations, PixelFeatures, View
from tests.scenes import AnalyticField

PATCH_PX = 8.0
FACE = torch.tensor([[0, 1, 2]])
SIZE_PX = 40


def ball_mesh(rows: int = 24) -> Mesh:
    """A unit sphere of latitudes and longitudes, with a seam of doubled vertices."""
    polar = torch.linspace(0, math.pi, rows, dtype=torch.float64)[:, None]
    around = torch.linspace(0, 2 * math.pi, 2 * rows, dtype=torch.float64)[None]
    x, y = polar.sin() * around.cos(), polar.sin() * around.sin()
    vertices = torch.stack([x, y, polar.cos().expand_as(x)], -1).reshape(-1, 3)
    number = torch.arange(len(vertices)).view(rows, 2 * rows)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    faces = torch.cat([torch.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    return Mesh(vertices, faces)


def ball_points(count: int = 4000) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(count, 3, generator=draw, dtype=torch.float64), dim=1)


def ball_splats(count: int = 1500) -> Splats:
    return Splats(
        means=ball_points(count).float(),
        rotations=torch.tensor([1.0, 0, 0, 0]).expand(count, 4).clone(),
        log_scales=torch.full((count, 3), math.log(0.06)),
        opacity_logits=torch.full((count,), 3.0),
        sh=torch.zeros(count, 1, 3),
    )


class BallField(AnalyticField):
    def _distance(self, u: Tensor) -> Tensor:
        return u.norm(dim=1) - 0.7


MAKERS = {
    "mesh": lambda: MeshScene(ball_mesh()),
    "points": lambda: PointScene(Points(ball_points())),
    "splats": lambda: SplatScene(ball_splats()),
    "field": lambda: FieldScene(BallField()),
}


@pytest.fixture(scope="module", params=MAKERS)
def scene(request: pytest.FixtureRequest) -> Scene:
    return MAKERS[request.param]()


def cameras(scene: Scene, count: int = 4) -> Camera:
    return cameras_around(scene, count, SIZE_PX)


def views(scene: Scene, pixels: Tensor | None = None, count: int = 4) -> list[View]:
    """Views whose pixels have the given features [count, P, C], or what a ramp over space has."""
    found = []
    for i in range(count):
        look = scene.look(cameras(scene, count)[i], PATCH_PX)
        values = look.points.reshape(-1, 3).float() if pixels is None else pixels[i]
        index = torch.arange(len(values), dtype=torch.int32)[:, None]
        features = PixelFeatures(values, index, torch.ones(len(values), 1))
        lift_from = View(look.footprint, lambda made=features: made, look.trust.reshape(-1).float())
        found.append(lift_from)
    return found


def test_a_look_is_a_picture_with_trust_where_something_is(scene: Scene) -> None:
    look = scene.look(cameras(scene)[0], PATCH_PX)
    assert look.image.shape == (SIZE_PX, SIZE_PX, 3) and look.points.dtype == torch.float64
    assert float(look.image.min()) >= 0 and float(look.image.max()) <= 1
    assert float(look.trust.min()) >= 0 and float(look.trust.max()) <= 1
    assert not look.trust[0, 0] and look.trust[SIZE_PX // 2, SIZE_PX // 2] > 0.5
    assert torch.equal(look.image[0, 0], torch.ones(3))
    assert float((look.trust > 0).float().mean()) > 0.3


def test_pixels_know_where_they_are(scene: Scene) -> None:
    look = scene.look(cameras(scene)[0], PATCH_PX)
    center = 0.5 * (scene.positions.amin(0) + scene.positions.amax(0))
    radius = 0.5 * float((scene.positions.amax(0) - scene.positions.amin(0)).max())
    inner = look.trust > 0.8 * look.trust.max()
    distance = (look.points[inner] - center).norm(dim=1) / radius
    assert float(distance.quantile(0.1)) > 0.7 and float(distance.max()) < 1.05


def test_trust_falls_towards_the_silhouette(scene: Scene) -> None:
    trust = scene.look(cameras(scene)[0], PATCH_PX).trust
    row = trust[SIZE_PX // 4]
    shown = (row > 0).nonzero()[:, 0]
    assert shown[0] > 0 and row[shown[0]] < 0.3 * row[SIZE_PX // 2]


def test_a_lifted_constant_renders_as_itself(scene: Scene) -> None:
    constant = torch.tensor([0.25, -3.0])
    made = views(scene, constant.expand(4, SIZE_PX * SIZE_PX, 2))
    for lifted in (weighted_mean(made), refined(made, 1)):
        shown = lifted.features[lifted.seen]
        torch.testing.assert_close(shown, constant.expand_as(shown), rtol=1e-4, atol=1e-4)


def test_the_adjoint_moves_across_the_inner_product(scene: Scene) -> None:
    draw = torch.Generator().manual_seed(1)
    equations = Equations(views(scene)[0])
    x = torch.randn(len(scene.positions), 3, generator=draw)
    y = torch.randn(SIZE_PX * SIZE_PX, 3, generator=draw)
    left = (equations.trust[:, None] * equations.apply(x) * y).double().sum()
    right = (x * equations.adjoint(y)).double().sum()
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-3)


def test_rows_sum_to_one_at_most(scene: Scene) -> None:
    footprint = scene.look(cameras(scene)[0], PATCH_PX).footprint()
    sums = footprint.row_sums()
    assert float(sums.min()) >= 0 and float(sums.max()) <= 1 + 1e-5
    written_out = footprint.to_csr() @ torch.ones(footprint.elements, 1)
    torch.testing.assert_close(written_out[:, 0], sums, rtol=1e-4, atol=1e-4)


def test_positions_come_back_from_pictures_of_positions(scene: Scene) -> None:
    lifted = weighted_mean(views(scene))
    where = scene.filled(lifted.features, lifted.seen)
    error = (where[lifted.seen].double() - scene.positions[lifted.seen]).norm(dim=1)
    size = float((scene.positions.amax(0) - scene.positions.amin(0)).norm())
    assert float(error.median()) < 0.05 * size
    assert float(lifted.seen.float().mean()) > 0.3


def test_a_scene_is_read_back_from_its_file(tmp_path: Path) -> None:
    save_mesh(tmp_path / "a.glb", ball_mesh())
    save_mesh(tmp_path / "m.ply", ball_mesh())
    save_points(tmp_path / "p.ply", Points(ball_points(50)))
    save_points(tmp_path / "p.xyz", Points(ball_points(50)))
    save_splats(tmp_path / "s.ply", ball_splats(50))
    kinds = {file.name: load_scene(file).kind for file in sorted(tmp_path.iterdir())}
    assert kinds == {
        "a.glb": "mesh",
        "m.ply": "mesh",
        "p.ply": "point cloud",
        "p.xyz": "point cloud",
        "s.ply": "splats",
    }


def test_geometry_and_cameras_moved_together_show_the_same() -> None:
    mesh = ball_mesh()
    motion = Similarity(
        rotations(torch.tensor([0.3, -0.5, 0.9], dtype=torch.float64)),
        torch.tensor([100.0, -30.0, 7.0], dtype=torch.float64),
    )
    before, after = MeshScene(mesh), MeshScene(replace(mesh, vertices=motion.apply(mesh.vertices)))
    camera = cameras(before)[0].to(dtype=torch.float64)
    a = before.look(camera, PATCH_PX)
    b = after.look(motion.apply_camera(camera), PATCH_PX)
    assert float((a.image - b.image).abs().median()) < 1e-6
    torch.testing.assert_close(a.trust.mean(), b.trust.mean(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [1e-30, 1e25])
def test_sizes_beyond_single_precision_are_refused(size: float) -> None:
    points = Points(ball_points(9) * size)
    for make in (lambda: PointScene(points), lambda: MeshScene(Mesh(points.positions, FACE))):
        with pytest.raises(GeodistillError, match="units large"):
            make()


def test_vertices_of_no_face_are_out_of_the_picture() -> None:
    ball = ball_mesh()
    stray = Mesh(torch.cat([ball.vertices, torch.full((1, 3), 500.0).double()]), ball.faces)
    one, two = (cameras_around(MeshScene(mesh), 3, SIZE_PX) for mesh in (ball, stray))
    torch.testing.assert_close(one.world_from_cam, two.world_from_cam)


def test_what_a_scene_cannot_be_written_as(tmp_path: Path) -> None:
    for scene, name in (
        (MeshScene(ball_mesh()), "a.xyz"),
        (PointScene(Points(ball_points(9))), "a.glb"),
        (SplatScene(ball_splats(9)), "a.xyz"),
    ):
        with pytest.raises(GeodistillError, match=f"as {name}: choose"):
            scene.expect_ending(tmp_path / name)


def test_nothing_is_learnt_of_what_is_transparent() -> None:
    ball = ball_mesh()
    clear = torch.full((len(ball.vertices), 4), 255, dtype=torch.uint8)
    clear[:, 3] = 0
    seen, unseen = (MeshScene(replace(ball, colors=colors)) for colors in (clear | 255, clear))
    assert float(seen.look(cameras(seen)[0], PATCH_PX).trust.max()) > 0.9
    assert not unseen.look(cameras(unseen)[0], PATCH_PX).trust.any()


def test_scenes_of_files_stand_upright(tmp_path: Path) -> None:
    save_splats(tmp_path / "a.ply", ball_splats())
    save_points(tmp_path / "b.ply", Points(ball_points()))
    found = {name: load_scene(tmp_path / f"{name}.ply") for name in "ab"}
    assert found["a"].up == (0, -1, 0) and found["b"].up == (0, 0, 1)
    for scene in found.values():
        down = cameras(scene).world_from_cam[:, :3, 1]  # of their pictures
        assert bool((down @ torch.tensor(scene.up).to(down) < 0).all())


@pytest.mark.parametrize("kind", ["points", "splats"])
def test_a_stray_far_away_does_not_move_the_cameras(kind: str) -> None:
    places = torch.cat([ball_points(2000), torch.tensor([[400.0, 0, 0]], dtype=torch.float64)])
    splats = ball_splats(2001)
    made = {
        "points": lambda: PointScene(Points(places)),
        "splats": lambda: SplatScene(replace(splats, means=places.float())),
    }[kind]()
    assert torch.equal(made.framed, made.positions[:-1])
    far = cameras_around(made, 4, SIZE_PX).centers.norm(dim=1)
    assert float(far.max()) < 20


def test_one_point_is_nothing_to_look_at() -> None:
    scene = PointScene(Points(torch.zeros(3, 3, dtype=torch.float64)), radius=1.0)
    with pytest.raises(GeodistillError, match="lies at one point"):
        cameras_around(scene, 2, SIZE_PX)
