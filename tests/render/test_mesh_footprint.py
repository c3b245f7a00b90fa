"""A mesh through a camera: the operator's identities, and buffers against analytic shapes."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from geodistill.cameras import Camera
from geodistill.checks import UsageError
from geodistill.geometry.mesh import area_weighted_normals
from geodistill.rays import camera_rays
from geodistill.render.borders import edge_distance_px
from geodistill.render.mesh import (
    MeshFootprint,
    grazing,
    mesh_gbuffer,
)
from tests.render.meshes import camera, motion, soup, sphere

# torch warns of what is new in its CSR tensors, which only tests and exact solves ask for.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse")


def ray_sphere(view: Camera, radius: float = 1.0) -> tuple[Tensor, Tensor]:
    """Distances along the pixels' rays to a sphere about the origin, NaN where they miss, and the
    sphere's normals there. float64 [H, W], [H, W, 3]"""
    rays = camera_rays(view)
    b = (rays.origins * rays.directions).sum(-1)
    inside = b.square() - rays.origins.square().sum(-1) + radius**2
    t = -b - torch.where(inside >= 0, inside, torch.nan).sqrt()
    normal = (rays.origins + t[:, None] * rays.directions) / radius
    return t.view(view.size), normal.view(*view.size, 3)


def quad(*depths: float) -> tuple[Tensor, Tensor]:
    """Unit squares in planes y = depth, each of two faces."""
    corners = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]).double()
    squares = [
        torch.stack([corners[:, 0], torch.full((4,), depth).double(), corners[:, 1]], -1)
        for depth in depths
    ]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    return torch.cat(squares), torch.cat([faces + 4 * i for i in range(len(depths))])


def test_constants_render_to_the_row_sums_which_are_one_or_nothing() -> None:
    vertices, faces = sphere()
    footprint = MeshFootprint.seen_by(camera(), vertices, faces)
    assert (footprint.pixels, footprint.elements) == (37 * 52, len(vertices))
    rows = footprint.row_sums()
    hit = ~ray_sphere(camera(), 0.99)[0].isnan().reshape(-1)
    torch.testing.assert_close(rows[hit], torch.ones(int(hit.sum())))
    assert (rows <= 1 + 1e-6).all() and (footprint.weights >= 0).all() and (rows == 0).any()
    image = footprint.render(torch.full((len(vertices), 2), 3.5))
    torch.testing.assert_close(image, 3.5 * rows[:, None].expand(-1, 2))
    sums = footprint.column_sums()
    torch.testing.assert_close(sums.sum(), rows.sum())
    assert (sums == 0).any(), "what is behind is not seen"


def test_the_adjoint_moves_across_the_inner_product() -> None:
    vertices, faces = soup()
    draw = torch.Generator().manual_seed(0)
    footprint = MeshFootprint.seen_by(camera(), vertices, faces)
    f = torch.randn(footprint.elements, 7, generator=draw)
    y = torch.randn(footprint.pixels, 7, generator=draw)
    left = (footprint.render(f).double() * y).sum()
    right = (f.double() * footprint.adjoint(y)).sum()
    scale = float(footprint.render(f.abs()).double().mul(y.abs()).sum())
    assert abs(float(left - right)) <= 1e-6 * scale and scale > 1


def test_the_matrix_is_the_footprint() -> None:
    vertices, faces = sphere()
    footprint = MeshFootprint.seen_by(camera(), vertices, faces)
    matrix = footprint.to_csr()
    torch.sparse_csr_tensor(
        matrix.crow_indices(),
        matrix.col_indices(),
        matrix.values(),
        matrix.shape,
        check_invariants=True,
    )
    dense = matrix.to_dense()
    f, y = torch.randn(footprint.elements, 3), torch.randn(footprint.pixels, 3)
    torch.testing.assert_close(footprint.render(f), dense @ f)
    torch.testing.assert_close(footprint.adjoint(y), dense.T @ y)
    torch.testing.assert_close(footprint.column_sums(), dense.sum(0))
    torch.testing.assert_close(footprint.row_sums(), dense.sum(1))


def test_moving_scene_and_camera_together_changes_nothing() -> None:
    vertices, faces = sphere()
    for distance, tolerance in ((5.0, 2e-6), (1e6, 2e-6)):
        moved = motion(distance=distance)
        before = mesh_gbuffer(vertices, faces, camera())
        after = mesh_gbuffer(moved.apply(vertices), faces, moved.apply_camera(camera()))
        same = before.triangle == after.triangle
        assert (~same).sum() <= 2
        torch.testing.assert_close(
            after.weights[same], before.weights[same], rtol=0, atol=1000 * tolerance
        )
        torch.testing.assert_close(after.depth[same], before.depth[same], rtol=0, atol=1e-5)
        hit = same & (before.triangle >= 0)
        normal = moved.rotate(before.normal[hit].double()).float()
        torch.testing.assert_close(after.normal[hit], normal, rtol=0, atol=1e-4)
        position = moved.apply(before.position[hit])
        torch.testing.assert_close(after.position[hit], position, rtol=0, atol=1e-5)


def test_gradients_reach_features_and_vertices() -> None:
    vertices, faces = soup(6)
    view = camera(size=(7, 9))
    features = torch.randn(len(vertices), 2, dtype=torch.float64)

    def render(vertices: Tensor, features: Tensor) -> Tensor:
        return MeshFootprint.seen_by(view, vertices, faces, torch.float64).render(features)

    def buffer(vertices: Tensor) -> tuple[Tensor, ...]:
        seen = mesh_gbuffer(vertices, faces, view, dtype=torch.float64)
        return seen.depth, seen.normal, seen.position

    inputs = vertices.requires_grad_(), features.requires_grad_()
    assert render(*inputs).abs().sum() > 0
    assert torch.autograd.gradcheck(render, inputs)
    assert torch.autograd.gradcheck(buffer, (vertices,))


def test_gradients_in_float32_are_those_of_float64() -> None:
    vertices, faces = sphere()
    results = []
    for dtype in (torch.float32, torch.float64):
        moving = vertices.clone().requires_grad_()
        footprint = MeshFootprint.seen_by(camera(), moving, faces, dtype)
        image = footprint.render(moving[:, :1].detach().sin().to(dtype))
        results.append(torch.autograd.grad(image.square().sum(), moving)[0])
    scale = float(results[1].abs().max())
    torch.testing.assert_close(results[0] / scale, results[1] / scale, rtol=0, atol=1e-4)
    assert scale > 0


def test_a_sphere_has_its_depths_normals_and_positions() -> None:
    vertices, faces = sphere(120, 240)
    view = camera()
    t, normal = ray_sphere(view)
    buffer = mesh_gbuffer(vertices, faces, view)
    inner = ~ray_sphere(view, 0.98)[0].isnan()
    assert torch.equal(buffer.triangle >= 0, ~ray_sphere(view, 0.9999)[0].isnan()) or inner.any()
    rays = camera_rays(view)
    forward = (rays.directions @ view.world_from_cam[:3, 2]).view(view.size)
    depth = (t * forward)[inner]
    torch.testing.assert_close(buffer.depth.double()[inner], depth, rtol=0, atol=2e-3)
    torch.testing.assert_close(buffer.normal.double()[inner], normal[inner], rtol=0, atol=5e-3)
    place = rays.origins + t.reshape(-1, 1) * rays.directions
    torch.testing.assert_close(
        buffer.position[inner], place.view(*view.size, 3)[inner], rtol=0, atol=3e-3
    )
    cosine = -(normal * rays.directions.view(*view.size, 3)).sum(-1)
    torch.testing.assert_close(
        grazing(buffer, view).double()[inner], cosine[inner], rtol=0, atol=2e-2
    )
    assert not buffer.normal[buffer.triangle < 0].any()
    assert not buffer.position[buffer.triangle < 0].any()


def test_normals_point_to_the_side_that_is_seen() -> None:
    vertices, faces = sphere()
    view = camera()
    expected = mesh_gbuffer(vertices, faces, view).normal
    inside_out = mesh_gbuffer(vertices, faces.flip(1), view).normal
    torch.testing.assert_close(inside_out, expected)
    right = vertices[faces].mean(1)[:, :1] > 0
    buffer = mesh_gbuffer(vertices, torch.where(right, faces, faces.flip(1)), view)
    hit = buffer.triangle >= 0
    apart = (buffer.normal - expected).norm(dim=-1)[hit]
    seam = buffer.position[hit][:, 0].abs() < 0.15
    assert seam.any() and (apart[~seam] < 1e-4).all() and (apart[seam] < 1.5).all()
    torch.testing.assert_close(buffer.normal[hit].norm(dim=-1), torch.ones(int(hit.sum())))


def test_vertices_of_faces_that_cancel_take_the_normal_of_the_face() -> None:
    vertices, faces = quad(0.0)
    both = torch.cat([faces, faces.flip(1)])
    assert not area_weighted_normals(vertices, both).any()
    buffer = mesh_gbuffer(vertices, both, camera((0.0, -3.0, 0.0)))
    expected = torch.tensor([0.0, -1.0, 0.0]).expand(int((buffer.triangle >= 0).sum()), 3)
    torch.testing.assert_close(buffer.normal[buffer.triangle >= 0], expected)


def test_welded_vertices_share_a_normal() -> None:
    vertices, faces = sphere()
    split = faces.reshape(-1)
    apart = area_weighted_normals(vertices[split], torch.arange(len(split)).view(-1, 3))
    joined = area_weighted_normals(vertices[split], torch.arange(len(split)).view(-1, 3), split)
    smooth = area_weighted_normals(vertices, faces)
    torch.testing.assert_close(joined, smooth[split])
    assert not torch.allclose(apart, joined, atol=1e-2)
    torch.testing.assert_close(smooth, vertices, rtol=0, atol=3e-2)


def test_distances_are_those_to_the_occlusion_edge() -> None:
    vertices, faces = quad(0.0, 1.0)
    vertices[4:] *= torch.tensor([9.0, 1.0, 9.0])
    buffer = mesh_gbuffer(vertices, faces, camera((0.0, -3.0, 0.0), (60, 60)))
    front = buffer.triangle < 2
    assert front.any() and (~front).any() and (buffer.triangle >= 0).all()
    edge = torch.zeros_like(front)
    for axis in (0, 1):
        change = front.narrow(axis, 1, 59) != front.narrow(axis, 0, 59)
        edge.narrow(axis, 1, 59).logical_or_(change)
        edge.narrow(axis, 0, 59).logical_or_(change)
    found = edge_distance_px(buffer.triangle >= 0, buffer.position, 6)
    assert torch.equal(found == 0, edge)
    y, x = edge.nonzero().double().unbind(-1)
    rows, columns = torch.meshgrid(torch.arange(60), torch.arange(60), indexing="ij")
    exact = ((rows[..., None] - y) ** 2 + (columns[..., None] - x) ** 2).amin(-1).sqrt()
    torch.testing.assert_close(found, exact.clamp_max(6).float())


def test_a_slanted_floor_and_a_cube_have_no_inner_edges() -> None:
    floor = torch.tensor(
        [[-50.0, -2.9, -0.5], [50.0, -2.9, -0.5], [50.0, 60, -0.5], [-50, 60, -0.5]]
    )
    buffer = mesh_gbuffer(
        floor.double(), torch.tensor([[0, 1, 2], [0, 2, 3]]), camera((0.0, -3.0, 0.0), (64, 64))
    )
    lower = edge_distance_px(buffer.triangle >= 0, buffer.position, 3)[42:-1]
    assert (buffer.triangle[42:-1] >= 0).all() and (lower == 3).all()
    signs = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3).double()
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = torch.tensor([[q[0], q[i], q[i + 1]] for q in quads for i in (1, 2)])
    buffer = mesh_gbuffer(signs, faces, camera((2.0, -2.5, 1.5), (80, 80)))
    hit = (buffer.triangle >= 0).float()[None, None]
    inside = -torch.nn.functional.max_pool2d(-hit, 3, 1, 1)[0, 0] > 0
    distance = edge_distance_px(buffer.triangle >= 0, buffer.position, 4)
    assert inside.sum() > 300 and (distance[inside] > 0).all()


def test_nothing_in_view() -> None:
    vertices, faces = sphere()
    away = camera()
    turned = replace(
        away,
        world_from_cam=away.world_from_cam
        @ torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]).double()),
    )
    none = torch.zeros(0, 3, dtype=torch.int64)
    for v, f, view in (
        (vertices, faces, turned),
        (vertices, none, away),
        (vertices[:0], none, away),
    ):
        buffer = mesh_gbuffer(v, f, view)
        assert (buffer.triangle < 0).all() and not buffer.depth.any()
        footprint = MeshFootprint(buffer.triangle, buffer.weights, f, len(v))
        assert not footprint.row_sums().any() and not footprint.column_sums().any()
        assert footprint.render(torch.ones(len(v), 2)).shape == (37 * 52, 2)
        assert (edge_distance_px(buffer.triangle >= 0, buffer.position, 2) == 2).all()


def test_what_cannot_be_rendered_is_refused() -> None:
    vertices, faces = sphere()
    view = camera()
    with pytest.raises(UsageError, match="one camera is rendered at a time"):
        MeshFootprint.seen_by(view[None], vertices, faces)
    with pytest.raises(UsageError, match="lens distortion: undistort"):
        mesh_gbuffer(vertices, faces, replace(view, distortion=torch.ones(4).double()))
    with pytest.raises(UsageError, match="limit must be at least 1"):
        edge_distance_px(torch.ones(4, 5, dtype=torch.bool), torch.zeros(4, 5, 3), 0)


@pytest.mark.skipif(not importlib.util.find_spec("embreex"), reason="embreex is not installed")
def test_faces_are_those_that_embree_hits() -> None:
    trimesh = pytest.importorskip("trimesh")
    vertices, faces = soup(400)
    view = camera(size=(120, 160))
    rays = camera_rays(view)
    mesh = trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False)
    expected = torch.from_numpy(
        mesh.ray.intersects_first(rays.origins.numpy(), rays.directions.numpy())
    ).view(view.size)
    found = mesh_gbuffer(vertices, faces, view).triangle
    assert (found != expected).sum() <= 5 and (found >= 0).float().mean() > 0.2
