"""Rasterised triangles against rays, planes and closed surfaces; both implementations alike."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from kernel_cases import CAMERA, SIZE, soup
from torch import Tensor

from geodistill import kernels
from geodistill.kernels import Raster, reference

NEAR = 0.3

Implementation = ModuleType


@pytest.fixture(params=["kernels", "reference"])
def module(request: pytest.FixtureRequest) -> Implementation:
    return {"kernels": kernels, "reference": reference}[request.param]


def centres() -> Tensor:
    """Where the rays through pixel centres meet the plane z = 1. float64 [H, W, 3]"""
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    pixels = torch.stack([x + 0.5, y + 0.5, torch.ones_like(x)], -1).double()
    return pixels @ torch.linalg.inv(CAMERA.double()).T


def cast(points: Tensor, faces: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Nearest z and face of every ray against every face (Moeller and Trumbore, 1997). [H, W]"""
    a, b, c = points.double()[faces].unbind(1)
    d = centres()[..., None, :].expand(-1, -1, len(faces), -1)
    across = torch.linalg.cross(d, (c - a).expand_as(d), dim=-1)
    determinant = (across * (b - a)).sum(-1)
    u = (across * -a).sum(-1) / determinant
    q = torch.linalg.cross(-a, b - a, dim=-1)
    v = (d * q).sum(-1) / determinant
    z = ((c - a) * q).sum(-1) / determinant
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (z >= near)
    return torch.where(hit, z, torch.inf).min(-1)


def assert_consistent(raster: Raster, points: Tensor, faces: Tensor) -> None:
    """The weighted corners of the face that a pixel sees lie on the pixel's ray, at the depth."""
    hit = raster.triangle >= 0
    weights = raster.weights[hit].double()
    assert (weights >= 0).all() and not raster.weights[~hit].any() and not raster.depth[~hit].any()
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[:, 0]), rtol=0, atol=1e-6)
    corners = points.double()[faces[raster.triangle[hit].long()]]
    place = (weights[..., None] * corners).sum(1)
    size = corners.abs().amax((1, 2))
    error = (place - centres()[hit] * raster.depth[hit].double()[:, None]).norm(dim=-1)
    assert (error <= 1e-5 * size).all()


@pytest.mark.parametrize("count", [5, 20, 300])
def test_a_soup_is_seen_as_rays_see_it(module: Implementation, count: int) -> None:
    points, faces = soup(count, torch.float32)
    raster = module.rasterize(points, faces, CAMERA, SIZE, NEAR)
    z, face = cast(points, faces, NEAR)
    hit = z.isfinite()
    # Rays that pass an edge within rounding may fall to either side.
    differ = raster.triangle != torch.where(hit, face, -1)
    assert differ.sum() <= 2 and hit.any()
    torch.testing.assert_close(
        raster.depth[hit & ~differ], z[hit & ~differ].float(), rtol=1e-5, atol=0
    )
    assert_consistent(raster, points, faces)


def test_faces_and_depths_agree_with_the_reference() -> None:
    points, faces = soup(2000, torch.float32)
    a, b = (m.rasterize(points, faces, CAMERA, SIZE, NEAR) for m in (kernels, reference))
    assert torch.equal(a.triangle, b.triangle)
    torch.testing.assert_close(a.depth, b.depth, rtol=1e-6, atol=0)
    torch.testing.assert_close(a.weights, b.weights, rtol=1e-6, atol=1e-6)


def sphere(rings: int, segments: int) -> tuple[Tensor, Tensor]:
    """Unit sphere of quads cut in two, its poles of coinciding points."""
    theta = torch.linspace(0, torch.pi, rings + 1, dtype=torch.float64)[:, None]
    phi = torch.arange(segments) * (2 * torch.pi / segments)
    parts = theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos().expand(-1, segments)
    i, j = torch.meshgrid(torch.arange(rings), torch.arange(segments), indexing="ij")
    a, b = i * segments + j, i * segments + (j + 1) % segments
    corners = torch.stack([a, b, b + segments, a, b + segments, a + segments], -1)
    return torch.stack(parts, -1).reshape(-1, 3).float(), corners.reshape(-1, 3)


@pytest.mark.parametrize("shift", [0.0, 0.45])
def test_from_inside_a_closed_surface_no_ray_escapes(module: Implementation, shift: float) -> None:
    """Half of the surface is behind the camera, and faces cross its plane."""
    points, faces = sphere(7, 9)
    points = 3 * points + torch.tensor([shift, -shift, shift])
    raster = module.rasterize(points, faces, CAMERA, SIZE, 0.01)
    assert (raster.triangle >= 0).all()
    assert_consistent(raster, points, faces)
    distance = raster.depth.double() * centres().norm(dim=-1)
    assert (distance < 3 + 2 * shift).all() and (distance > 1.5).all()


def test_edges_through_pixel_centres_leave_no_hole(module: Implementation) -> None:
    """A grid whose vertices and edges all project onto pixel centres."""
    K = torch.tensor([[8.0, 0.0, 8.5], [0.0, 8.0, 8.5], [0.0, 0.0, 1.0]])
    ticks = torch.arange(-8, 9) / 4.0
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    points = torch.stack([x, y, torch.full_like(x, 2.0)], -1).reshape(-1, 3)
    i, j = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    a = (i * 17 + j).reshape(-1, 1)
    faces = (a + torch.tensor([0, 1, 18, 0, 18, 17])).reshape(-1, 3)
    raster = module.rasterize(points, faces, K, (17, 17), 0.1)
    assert (raster.triangle >= 0).all()
    assert torch.equal(raster.depth, torch.full((17, 17), 2.0))
    order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(0))
    mixed = module.rasterize(points, faces[order], K, (17, 17), 0.1)
    assert (mixed.triangle >= 0).all() and torch.equal(mixed.depth, raster.depth)


def test_the_ground_reaches_the_horizon_and_nothing_behind_is_mirrored(
    module: Implementation,
) -> None:
    """One face under the camera, most of it behind: z = height * focal / (v - cy)."""
    far = 1e4
    points = torch.tensor([[-far, 1.5, -far], [far, 1.5, -far], [0.0, 1.5, far]])
    K = torch.tensor([[30.0, 0.0, 20.0], [0.0, 30.0, 15.0], [0.0, 0.0, 1.0]])
    raster = module.rasterize(points, torch.tensor([[0, 1, 2]]), K, (30, 40), 0.1)
    assert (raster.triangle[:15] == -1).all() and (raster.triangle[15:] == 0).all()
    expected = 1.5 * 30 / (torch.arange(15, 30) + 0.5 - 15)
    torch.testing.assert_close(raster.depth[15:], expected[:, None].expand(-1, 40))


def test_nothing_nearer_than_near_is_seen(module: Implementation) -> None:
    points = torch.tensor([[-9.0, -9.0, 1.0], [9.0, -9.0, 1.0], [0.0, 9.0, 1.0], [0.0, 9.0, 3.0]])
    faces = torch.tensor([[0, 1, 2], [0, 1, 3]])
    for near, nearest in ((0.5, 0), (1.0, 0), (1.001, 1)):
        raster = module.rasterize(points, faces, CAMERA, SIZE, near)
        assert raster.triangle[17, 23] == nearest
        assert (raster.depth[raster.triangle >= 0] >= near).all()


def test_of_equal_depths_the_first_face_is_seen(module: Implementation) -> None:
    """Whatever the order and the orientation of its corners."""
    points = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) * 3 - 1.5
    points[:, 2] += 3
    single = torch.arange(39).view(13, 3)
    expected = module.rasterize(points, single, CAMERA, SIZE, NEAR)
    copies = torch.cat([single, single.roll(1, 1), single.flip(1), single.roll(2, 1)])
    found = module.rasterize(points, copies, CAMERA, SIZE, NEAR)
    assert torch.equal(found.triangle, expected.triangle)
    reversed_ = module.rasterize(points, copies.flip(0), CAMERA, SIZE, NEAR)
    assert torch.equal(reversed_.depth, expected.depth)
    assert (reversed_.triangle < 13).all()


def test_faces_without_area_and_points_that_are_not_finite_hit_nothing(
    module: Implementation,
) -> None:
    points = torch.tensor(
        [[-1.0, -1.0, 2.0], [1.0, -1.0, 2.0], [0.0, 1.0, 2.0], [0.0, 0.0, 2.0], [0.5, 0.5, 2.0]]
    )
    flat = torch.tensor([[0, 0, 1], [2, 2, 2], [3, 4, 3]])
    line = torch.tensor([[0.0, 0.0, 2.0], [0.5, 0.25, 2.0], [1.0, 0.5, 2.0]])
    towards = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    assert (module.rasterize(points, flat, CAMERA, SIZE, NEAR).triangle == -1).all()
    for corners in (line, towards):
        raster = module.rasterize(corners, torch.tensor([[0, 1, 2]]), CAMERA, SIZE, NEAR)
        assert (raster.triangle == -1).all()
    whole = torch.tensor([[0, 1, 2]])
    assert (module.rasterize(points, whole, CAMERA, SIZE, NEAR).triangle == 0).any()
    for bad in (torch.nan, torch.inf, -torch.inf):
        for axis in range(3):
            broken = points.clone()
            broken[1, axis] = bad
            raster = module.rasterize(broken, whole, CAMERA, SIZE, NEAR)
            assert (raster.triangle == -1).all() and raster.weights.isfinite().all()


def test_lines_through_pixel_centres_are_not_drawn_by_rounding_errors(
    module: Implementation,
) -> None:
    """Three points of a row whose rays pass the centres of a row of pixels."""
    K = torch.tensor([[40.1234567891234, 0.0, 23.3], [0.0, 38.0, 17.5], [0.0, 0.0, 1.0]]).double()
    draw = torch.Generator().manual_seed(0)
    points = torch.zeros(3000, 3)
    points[:, 0] = torch.rand(3000, generator=draw) * 4 - 2
    points[:, 2] = 3.0
    faces = torch.arange(3000).view(-1, 3)
    assert (module.rasterize(points, faces, K, SIZE, NEAR).triangle == -1).all()


def test_parts_of_the_pairs_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    points, faces = soup(100, torch.float32)
    expected = reference.rasterize(points, faces, CAMERA, SIZE, NEAR)
    monkeypatch.setattr("geodistill.kernels.reference.triangles._PAIRS", 1000)
    found = reference.rasterize(points, faces, CAMERA, SIZE, NEAR)
    assert torch.equal(found.triangle, expected.triangle)
    assert torch.equal(found.depth, expected.depth)


def test_nothing_to_draw(module: Implementation) -> None:
    for points, faces in (
        (torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)),
        (torch.rand(4, 3), torch.zeros(0, 3, dtype=torch.int64)),
        (torch.rand(3, 3) - torch.tensor([0.0, 0.0, 5.0]), torch.tensor([[0, 1, 2]])),
    ):
        raster = module.rasterize(points, faces, CAMERA, SIZE, NEAR)
        assert (raster.triangle == -1).all() and not raster.weights.any()
        assert raster.triangle.shape == SIZE and raster.weights.shape == (*SIZE, 3)


def test_images_of_every_shape_agree() -> None:
    points, faces = soup(200, torch.float32)
    for size in ((1, 1), (1, 33), (16, 3), (17, 64), (50, 7)):
        a, b = (m.rasterize(points, faces, CAMERA, size, NEAR) for m in (kernels, reference))
        assert torch.equal(a.triangle, b.triangle)


def test_tiny_faces_keep_their_weights(module: Implementation) -> None:
    """Faces of a hundredth of a pixel: float32 edge functions would be noise."""
    generator = torch.Generator().manual_seed(0)
    base = centres().reshape(-1, 1, 3) * 4.0
    corners = base + torch.randn(*base.shape[:1], 3, 3, generator=generator).double() * 1e-3
    faces = torch.arange(3 * len(base)).view(-1, 3)
    points = corners.reshape(-1, 3).float()
    raster = module.rasterize(points, faces, CAMERA, SIZE, NEAR)
    exact = reference.rasterize(points.double(), faces, CAMERA.double(), SIZE, NEAR)
    assert (raster.triangle >= 0).sum() > 100 and torch.equal(raster.triangle, exact.triangle)
    torch.testing.assert_close(raster.weights.double(), exact.weights, rtol=0, atol=1e-6)


def test_more_threads_see_the_same_faces() -> None:
    points, faces = soup(20_000, torch.float32)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(kernels.rasterize(points, faces, CAMERA, SIZE, NEAR))
    torch.set_num_threads(before)
    for name in ("triangle", "weights", "depth"):
        assert torch.equal(getattr(results[0], name), getattr(results[1], name))
