"""Growing a field's grids: the function stays, the resolution arrives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geodistill.fit.growth import STAGES, set_stage, stage_at
from geodistill.geometry.fields import Field, build_field
from geodistill.geometry.fields.composite import CompositeConfig
from geodistill.geometry.fields.heads import LatentField
from geodistill.geometry.fields.mlp import MlpConfig
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.fields.plenoxels import CHANNELS, Plenoxels, PlenoxelsConfig
from geodistill.geometry.fields.tensorf import TensorfConfig, TensorfCpConfig
from geodistill.geometry.grids import nodes_near

LAST = len(STAGES) - 1
NGP = NgpConfig(levels=2, log2_size=6, base_resolution=4, max_resolution=8)
# 15 nodes grow from 8 that are every other one of them: the first grid is nested in the last.
FACTORED = {
    "tensorf": TensorfConfig(resolution=15, density_rank=2, color_rank=3),
    "tensorf-cp": TensorfCpConfig(resolution=15, density_rank=3, color_rank=4),
    "composite": CompositeConfig(NGP, TensorfConfig(resolution=15, density_rank=2, color_rank=3)),
}


def grid(resolution: int) -> Tensor:
    axis = torch.linspace(-1.0, 1.0, resolution)
    return torch.cartesian_prod(axis, axis, axis)


def anywhere(count: int = 500) -> Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1


def line_lengths(field: Field) -> set[int]:
    return {p.shape[0] for name, p in field.named_parameters() if "lines" in name}


def test_stages_follow_the_progress_and_end_at_the_full_resolution() -> None:
    starts = [start for start, _ in STAGES]
    assert starts[0] == 0.0 and STAGES[LAST][1] == 1.0
    for stage, start in enumerate(starts):
        assert stage_at(start) == stage
        assert stage_at(start + 1e-6) == stage
        assert start == 0.0 or stage_at(start - 1e-6) == stage - 1
    assert stage_at(1.0) == LAST


@pytest.mark.parametrize("architecture", list(FACTORED))
def test_every_stage_has_its_fraction_of_the_nodes(architecture: str) -> None:
    field = build_field(architecture, FACTORED[architecture])
    for stage, (_, fraction) in enumerate(STAGES):
        set_stage(field, stage)
        expected = max(8, round(fraction * 15))
        assert line_lengths(field) == {expected}
        planes = {tuple(p.shape[:2]) for n, p in field.named_parameters() if "planes" in n}
        assert planes <= {(expected, expected)}
        assert field.latent(anywhere()).isfinite().all()
        trained = {id(p) for group in field.param_groups() for p in group.params}
        assert trained == {id(p) for p in field.parameters()}


@pytest.mark.parametrize("architecture", list(FACTORED))
def test_growing_to_a_grid_that_holds_the_old_one_changes_nothing_anywhere(
    architecture: str,
) -> None:
    field = build_field(architecture, FACTORED[architecture])
    set_stage(field, 0)
    assert line_lengths(field) == {8}
    for name, p in field.named_parameters():
        if "lines" in name or "planes" in name:
            p.data.normal_(generator=torch.Generator().manual_seed(len(name)))
    before = field.latent(anywhere()).detach()
    set_stage(field, LAST)
    assert line_lengths(field) == {15}
    torch.testing.assert_close(field.latent(anywhere()), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", list(FACTORED))
def test_growing_interpolates_at_the_new_nodes(architecture: str) -> None:
    field = build_field(architecture, FACTORED[architecture])
    set_stage(field, 0)
    at_new = field.latent(grid(10)).detach()
    set_stage(field, 1)
    assert line_lengths(field) == {10}
    torch.testing.assert_close(field.latent(grid(10)), at_new, rtol=1e-4, atol=1e-4)


def test_the_last_stage_of_a_full_grid_is_the_field_itself() -> None:
    field = build_field("tensorf", FACTORED["tensorf"])
    before = [p.detach().clone() for p in field.parameters()]
    set_stage(field, LAST)
    for old, new in zip(before, field.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old)


def voxels(resolution: int = 20) -> Plenoxels:
    field = build_field("plenoxels", PlenoxelsConfig(resolution=resolution))
    assert isinstance(field, Plenoxels)
    field.occupancy = torch.zeros(16, 16, 16, dtype=torch.bool)
    field.occupancy[4:13, 2:12, 5:11] = True
    return field


def node_points(field: Plenoxels) -> Tensor:
    return field.node_positions((field.links >= 0).nonzero())


def test_voxels_start_where_the_scene_may_be() -> None:
    field = voxels()
    set_stage(field, 0)
    assert torch.equal(field.links >= 0, nodes_near(field.occupancy, 8))
    assert field.values.shape == (int((field.links >= 0).sum()), CHANNELS)


def test_subdividing_voxels_keeps_the_values_at_the_new_nodes() -> None:
    field = voxels()
    set_stage(field, 0)
    field.values.data.normal_(generator=torch.Generator().manual_seed(0))
    for stage, resolution in ((1, 13), (2, 20)):
        finer = (nodes_near(field.occupancy, resolution).nonzero() + 0.5) * (2 / resolution) - 1
        before = field.latent(finer).detach()
        set_stage(field, stage)
        assert field.links.shape == (resolution,) * 3
        torch.testing.assert_close(node_points(field), finer)
        torch.testing.assert_close(field.values.detach(), before, rtol=1e-5, atol=1e-5)


def test_subdividing_voxels_keeps_a_linear_function_inside() -> None:
    field = voxels()
    set_stage(field, 0)
    slope = torch.randn(3, CHANNELS, generator=torch.Generator().manual_seed(1))
    field.values.data = 2.0 + node_points(field) @ slope
    # Beyond a coarse cell from the border all coarse nodes exist.
    low, high = torch.tensor([-0.5, -0.75, -0.375]) + 0.26, torch.tensor([0.625, 0.5, 0.375]) - 0.26
    u = low + (high - low) * torch.rand(400, 3, generator=torch.Generator().manual_seed(2))
    for stage in (1, LAST):
        set_stage(field, stage)
        torch.testing.assert_close(field.latent(u), 2.0 + u @ slope, rtol=1e-4, atol=1e-4)


def test_pruned_space_has_no_nodes_after_growing() -> None:
    field = voxels()
    set_stage(field, 0)
    field.occupancy[8:] = False
    set_stage(field, LAST)
    assert torch.equal(field.links >= 0, nodes_near(field.occupancy, 20))
    assert (node_points(field)[:, 0] < 0.1).all()


@pytest.mark.parametrize(
    ("architecture", "config"), [("ngp", NGP), ("mlp", MlpConfig(depth=3, width=16, octaves=2))]
)
def test_fields_without_such_grids_do_not_change(architecture: str, config: object) -> None:
    field = build_field(architecture, config)
    assert isinstance(field, LatentField)
    before = list(field.parameters())
    for stage in range(len(STAGES)):
        set_stage(field, stage)
    assert all(a is b for a, b in zip(before, field.parameters(), strict=True))
