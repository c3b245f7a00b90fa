"""Points through a camera: the operator's identities, occlusion, and the default radius."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from geodistill.checks import InputError, UsageError
from geodistill.rays import project
from geodistill.render.points import SPACINGS, PointFootprint, default_radius
from tests.render.meshes import camera, motion

# torch warns of what is new in its CSR tensors, which only tests and exact solves ask for.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse")


def ball(count: int = 4000, seed: int = 0) -> Tensor:
    """Points spread over the unit sphere."""
    draw = torch.Generator().manual_seed(seed)
    directions = torch.randn(count, 3, generator=draw, dtype=torch.float64)
    return torch.nn.functional.normalize(directions, dim=-1)


def test_constants_render_to_the_row_sums_which_are_at_most_one() -> None:
    points = ball()
    footprint = PointFootprint.seen_by(camera(), points, default_radius(points))
    rows = footprint.row_sums()
    assert (footprint.weights >= 0).all() and (rows <= 1 + 1e-6).all()
    image = footprint.render(torch.full((len(points), 2), -2.5))
    torch.testing.assert_close(image, -2.5 * rows[:, None].expand(-1, 2))
    torch.testing.assert_close(footprint.column_sums().sum(), rows.sum())
    disc = (camera().K[0, 0] / 3.0) ** 2 * torch.pi  # about what the ball covers, in pixels
    assert 0.85 * disc < rows.sum() < 1.3 * disc
    assert (rows > 0.99).float().mean() > 0.8 * (rows > 0).float().mean()


def test_the_adjoint_moves_across_the_inner_product() -> None:
    footprint = PointFootprint.seen_by(camera(), ball(), 0.05)
    draw = torch.Generator().manual_seed(0)
    f = torch.randn(footprint.elements, 7, generator=draw)
    y = torch.randn(footprint.pixels, 7, generator=draw)
    left = (footprint.render(f).double() * y).sum()
    right = (f.double() * footprint.adjoint(y)).sum()
    scale = float(footprint.render(f.abs()).double().mul(y.abs()).sum())
    assert abs(float(left - right)) <= 1e-6 * scale and scale > 1


def test_the_matrix_is_the_footprint() -> None:
    footprint = PointFootprint.seen_by(camera(), ball(500), 0.1)
    dense = footprint.to_csr().to_dense()
    f, y = torch.randn(footprint.elements, 3), torch.randn(footprint.pixels, 3)
    torch.testing.assert_close(footprint.render(f), dense @ f)
    torch.testing.assert_close(footprint.adjoint(y), dense.T @ y)
    torch.testing.assert_close(footprint.column_sums(), dense.sum(0))
    torch.testing.assert_close(footprint.row_sums(), dense.sum(1))


@pytest.mark.parametrize("distance", [5.0, 1e6])
def test_moving_points_and_camera_together_changes_nothing(distance: float) -> None:
    points, moved = ball(), motion(distance=distance)
    before = PointFootprint.seen_by(camera(), points, 0.05)
    after = PointFootprint.seen_by(moved.apply_camera(camera()), moved.apply(points), 0.05)
    same = (before.index == after.index).all(1)
    assert (~same).float().mean() < 0.002
    torch.testing.assert_close(after.weights[same], before.weights[same], rtol=0, atol=2e-4)


def test_gradients_reach_features_and_positions() -> None:
    points = ball(25)
    view = camera(size=(7, 9))
    features = torch.randn(25, 2, dtype=torch.float64)

    def render(points: Tensor, features: Tensor) -> Tensor:
        return PointFootprint.seen_by(view, points, 0.4, torch.float64).render(features)

    inputs = points.requires_grad_(), features.requires_grad_()
    assert render(*inputs).abs().sum() > 0
    assert torch.autograd.gradcheck(render, inputs)


def test_one_point_is_a_disc_with_smooth_weights() -> None:
    view = camera((0.0, -3.0, 0.0), (40, 50))
    place = torch.tensor([[0.2, 0.0, 0.3]], dtype=torch.float64)
    rows = PointFootprint.seen_by(view, place, 0.3).row_sums().view(40, 50)
    (u, v), depth = project(view, place)[0][0], float(project(view, place)[1])
    y, x = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(50) + 0.5, indexing="ij")
    radius_px = 0.3 * view.K[0, 0] / depth
    r2 = ((x - u) ** 2 + (y - v) ** 2) / radius_px**2
    torch.testing.assert_close(rows, (1 - r2).clamp_min(0).float(), rtol=0, atol=1e-5)
    assert radius_px > 4


def test_what_is_behind_is_hidden_and_what_is_beside_is_blended() -> None:
    view = camera((0.0, -3.0, 0.0), (40, 50))
    front = torch.tensor([[0.0, 0.0, 0.0]], dtype=torch.float64)
    colour = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    behind = torch.cat([front, front + torch.tensor([0.02, 0.5, 0.0])])
    rows = PointFootprint.seen_by(view, front, 0.2).row_sums()
    image = PointFootprint.seen_by(view, behind, 0.2).render(colour)
    assert not image[rows > 0, 1].any() and image[rows > 0, 0].all()
    assert (image[rows == 0, 1] == 0).all(), "the farther disc is the smaller one"
    beside = torch.cat([front, front + torch.tensor([0.1, 0.1, 0.0])])
    image = PointFootprint.seen_by(view, beside, 0.2).render(colour)
    assert ((image > 0.1).all(1)).any()


def test_the_far_side_is_not_seen() -> None:
    points = ball()
    view = camera()
    radius = default_radius(points)
    facing = (points * (view.centers - points)).sum(-1)
    seen = PointFootprint.seen_by(view, points, radius).column_sums() > 0
    assert seen[facing < -0.4].float().mean() < 0.03, "but through the gaps"
    assert seen[facing > 0.2].float().mean() > 0.7
    closed = PointFootprint.seen_by(view, points, 1.5 * radius).column_sums() > 0
    assert not closed[facing < -0.6].any()


def test_the_default_radius_follows_the_spacing() -> None:
    ticks = torch.arange(30, dtype=torch.float64) * 0.02
    grid = torch.cartesian_prod(ticks, ticks, torch.zeros(1, dtype=torch.float64))
    assert default_radius(grid) == pytest.approx(SPACINGS * 0.02)
    assert default_radius(grid * 1e-3 + 1e3) == pytest.approx(SPACINGS * 2e-5, rel=1e-6)
    twice = torch.cat([grid, grid[:300], torch.full((3, 3), torch.nan).double()])
    assert default_radius(twice) == pytest.approx(SPACINGS * 0.02)
    assert default_radius(torch.cat([grid, grid])) == pytest.approx(SPACINGS * 0.02)
    assert default_radius(ball(20_000), 1) == pytest.approx(default_radius(ball(20_000)), rel=0.05)
    for points in (grid[:0], grid[:1], grid[:1].expand(9, 3)):
        with pytest.raises(InputError, match=r"points, no two of which are apart"):
            default_radius(points)


def test_nothing_in_view_and_what_is_refused() -> None:
    view, points = camera(), ball(50)
    for some in (points[:0], points + view.centers - 3 * view.world_from_cam[:3, 2]):
        footprint = PointFootprint.seen_by(view, some, 0.1)
        assert not footprint.row_sums().any() and not footprint.column_sums().any()
        assert footprint.to_csr().shape == (37 * 52, len(some))
    with pytest.raises(UsageError, match="radius must be positive and finite, got -1"):
        PointFootprint.seen_by(view, points, -1.0)
    with pytest.raises(UsageError, match="lens distortion"):
        lens = replace(view, distortion=torch.ones(4).double())
        PointFootprint.seen_by(lens, points, 0.1)
