"""Fields down to grid nodes: the operator, against rendering and functions that it reproduces."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from scenes import AnalyticField, ring

import geodistill
from geodistill.cameras import Similarity, rotations
from geodistill.checks import ShapeError, UsageError
from geodistill.geometry.fields import Field, load_field
from geodistill.rays import camera_rays
from geodistill.render import field_footprint
from geodistill.render.field_footprint import FieldFootprint, FieldGrid
from geodistill.render.fields import NEGLIGIBLE, STOP, render_view
from geodistill.render.samples import DEFAULT_STEP, RayFootprint, march, unit_camera, visible

# torch warns of what is new in its CSR tensors, which only tests and exact solves ask for.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse")

CAMERA = ring(1, 24)[0]
NODES = 33


@pytest.fixture(scope="module")
def field() -> Field:
    return AnalyticField()


@pytest.fixture(scope="module")
def footprint(field: Field) -> FieldFootprint:
    return FieldFootprint(field, FieldGrid.of_field(field, NODES), CAMERA)


def random_features(footprint: FieldFootprint, channels: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(footprint.elements, channels, generator=draw)


def test_a_grid_numbers_its_nodes(field: Field) -> None:
    grid = FieldGrid.of_field(field, NODES)
    taken = grid.index >= 0
    numbers = grid.index[taken].long()
    assert torch.equal(numbers, torch.arange(len(grid))) and 0 < len(grid) < NODES**3
    unit = taken.nonzero() * (2 / (NODES - 1)) - 1
    expected = field.frame.apply(unit.double())
    torch.testing.assert_close(grid.positions[numbers], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["linf", "l2"])
def test_nodes_of_a_contracted_field_are_where_it_is_read(kind: Literal["linf", "l2"]) -> None:
    field = AnalyticField()
    field.contraction = kind
    grid = FieldGrid.of_field(field, 9)
    unit = (grid.index >= 0).nonzero() * (2 / 8) - 1.0
    inside = unit.norm(dim=1) < 0.99  # not infinitely far away
    found = field._unit(grid.positions[grid.index[grid.index >= 0].long()][inside])
    torch.testing.assert_close(found.double(), unit[inside].double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("nodes", [2, 5, NODES, 200])
def test_row_sums_are_the_rendered_opacity(field: Field, nodes: int) -> None:
    footprint = FieldFootprint(field, FieldGrid.of_field(field, nodes), CAMERA)
    opacity = render_view(field, CAMERA).opacity.reshape(-1)
    torch.testing.assert_close(footprint.row_sums(), opacity, rtol=0, atol=2e-6)
    assert opacity.max() > 0.99


def test_row_sums_of_the_bundled_field() -> None:
    file = Path(geodistill.__file__).parent / "assets" / "bundled_ngp.safetensors"
    scene = load_field(file)
    footprint = FieldFootprint(scene, FieldGrid.of_field(scene, 65), CAMERA)
    sums, opacity = footprint.row_sums(), render_view(scene, CAMERA).opacity.reshape(-1)
    torch.testing.assert_close(sums, opacity, rtol=0, atol=2e-6)
    assert sums.max() <= 1 + 1e-6 and 0.1 < sums.mean() < 0.9


def test_the_image_of_ones_is_the_row_sums(footprint: FieldFootprint) -> None:
    ones = footprint.render(torch.ones(footprint.elements, 2))
    torch.testing.assert_close(ones, footprint.row_sums()[:, None].expand(-1, 2), rtol=0, atol=1e-6)
    assert torch.equal(
        footprint.render(torch.ones(footprint.elements, 1))[:, 0], footprint.row_sums()
    )
    assert footprint.row_sums().max() <= 1 + 1e-6


def test_what_is_linear_in_space_is_rendered_as_the_samples_see_it(field: Field) -> None:
    """Corners interpolate a linear function exactly: it comes out as if samples carried it."""
    grid = FieldGrid.of_field(field, NODES)
    found = FieldFootprint(field, grid, CAMERA).render(grid.positions.float())
    samples = march(camera_rays(unit_camera(field, CAMERA)), field.occupancy, DEFAULT_STEP)
    weights = visible(field, samples, STOP).weights
    weights = weights.where(weights > NEGLIGIBLE, 0.0)
    expected = RayFootprint(weights, samples.offsets, samples.ray).render(samples.u)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("channels", [1, 7, 64])
def test_the_adjoint_is_one(footprint: FieldFootprint, channels: int) -> None:
    features = random_features(footprint, channels)
    pixels = torch.randn(footprint.pixels, channels, generator=torch.Generator().manual_seed(1))
    image, lifted = footprint.render(features).double(), footprint.adjoint(pixels).double()
    gap = (image * pixels).sum() - (features * lifted).sum()
    assert abs(float(gap)) < 1e-6 * float(image.norm() * pixels.norm())


def test_the_matrix_is_the_operator(footprint: FieldFootprint) -> None:
    matrix, features = footprint.to_csr(), random_features(footprint, 3)
    torch.testing.assert_close(matrix @ features, footprint.render(features), rtol=0, atol=5e-6)
    ones = torch.ones(footprint.pixels, 1)
    columns = (matrix.to_dense().T @ ones)[:, 0]
    torch.testing.assert_close(columns, footprint.column_sums(), rtol=1e-4, atol=1e-5)
    assert matrix.values().min() >= 0
    torch.testing.assert_close(footprint.adjoint(ones)[:, 0], footprint.column_sums())


def test_chunks_do_not_show(
    field: Field, footprint: FieldFootprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, pixels = random_features(footprint, 5), torch.rand(footprint.pixels, 5)
    image, lifted = footprint.render(features), footprint.adjoint(pixels)
    monkeypatch.setattr(field_footprint, "RAYS_PER_CHUNK", 37)
    monkeypatch.setattr(field_footprint, "VALUES_AT_ONCE", 300)
    parts = FieldFootprint(field, FieldGrid.of_field(field, NODES), CAMERA)
    assert len(list(parts.chunks(5))) > 20
    torch.testing.assert_close(parts.render(features), image, rtol=0, atol=1e-6)
    torch.testing.assert_close(parts.adjoint(pixels), lifted, rtol=1e-5, atol=1e-5)


def test_render_and_adjoint_are_differentiable(field: Field) -> None:
    camera = replace(CAMERA, K=CAMERA.K / 6 + torch.tensor([0, 0, 0.0]), size=(4, 4))
    footprint = FieldFootprint(field, FieldGrid.of_field(field, 3), camera)
    features = random_features(footprint, 2).double().requires_grad_()
    pixels = torch.rand(16, 2, dtype=torch.float64, requires_grad=True)
    assert footprint.row_sums().max() > 0.1
    assert torch.autograd.gradcheck(footprint.render, features)
    assert torch.autograd.gradcheck(footprint.adjoint, pixels)
    assert torch.autograd.gradgradcheck(lambda f: footprint.render(f).square(), features)


def test_moving_the_field_with_its_camera_changes_nothing(field: Field) -> None:
    grid = FieldGrid.of_field(field, NODES)
    turn = torch.tensor([0.3, -1.1, 0.7], dtype=torch.float64)
    motion = Similarity(rotations(turn), torch.tensor([30.0, -4, 9]).double(), 2.5)
    moved = copy.deepcopy(field)
    moved.world_from_field = motion.compose(field.frame).matrix()
    there = FieldGrid.of_field(moved, NODES)
    torch.testing.assert_close(there.positions, motion.apply(grid.positions))
    assert torch.equal(there.index, grid.index)
    camera = CAMERA.to(dtype=torch.float64)
    before = FieldFootprint(field, grid, camera)
    after = FieldFootprint(moved, there, motion.apply_camera(camera))
    features = torch.sin(3 * grid.positions).float()
    torch.testing.assert_close(after.render(features), before.render(features), rtol=0, atol=2e-2)


def test_rays_that_meet_nothing_see_nothing(field: Field) -> None:
    aside = replace(CAMERA, world_from_cam=CAMERA.world_from_cam.clone())
    aside.world_from_cam[:3, 3] += 50.0
    grid = FieldGrid.of_field(field, 9)
    footprint = FieldFootprint(field, grid, aside)
    assert not footprint.row_sums().any() and not footprint.column_sums().any()
    assert footprint.to_csr().shape == (576, len(grid))


def test_refused(field: Field, footprint: FieldFootprint) -> None:
    with pytest.raises(UsageError, match="a grid needs at least 2 nodes an axis, got 1"):
        FieldGrid.of_field(field, 1)
    with pytest.raises(UsageError, match=r"one camera, got a batch of \[1\]"):
        FieldFootprint(field, FieldGrid.of_field(field, 3), CAMERA[None])
    with pytest.raises(ShapeError, match=r"features must have shape"):
        footprint.render(torch.zeros(3, 2))
    with pytest.raises(ShapeError, match=r"pixels must have shape \[576, C\], got \[575, 2\]"):
        footprint.adjoint(torch.zeros(575, 2))
