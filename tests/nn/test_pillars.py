"""Voxels and pillars against the dense lists that they are published with."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodistill.checks import ShapeError, UsageError
from geodistill.nn.pillars import PillarEncoder, ground_map
from geodistill.nn.pointpillars import KITTI_GRID, PointPillars, narrowed
from geodistill.nn.voxels import VoxelGrid, Voxels, voxelize

GRID = VoxelGrid((0.0, -4.0, -3.0), (8.0, 4.0, 1.0), (0.5, 0.5, 2.0), 5, 60)
PILLARS = replace(GRID, size=(0.5, 0.5, 4.0))


def scans(seed: int = 0, count: int = 900) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    crowded = torch.randn(count, 4, generator=generator) * torch.tensor([2.0, 2, 1, 0.1])
    crowded += torch.tensor([4.0, 0, -1, 0.5])
    spread = torch.rand(count // 3, 4, generator=generator) * torch.tensor([10.0, 10, 5, 1])
    return [crowded, spread - torch.tensor([1.0, 5, 3.5, 0]), torch.zeros(0, 4)]


def test_voxels_are_those_of_a_plain_loop() -> None:
    given = scans()
    found = voxelize(given, GRID)
    points, which, cells, counts = [], [], [], []
    for number, scan in enumerate(given):
        known: dict[tuple[int, ...], int] = {}
        for point in scan:
            place = [
                int(((point[k] - GRID.low[k]) / GRID.size[k]).floor().item()) for k in range(3)
            ]
            if any(not 0 <= place[k] < GRID.cells[k] for k in range(3)):
                continue
            key = tuple(place)
            if key not in known:
                if len(known) == GRID.most_voxels:
                    continue
                known[key] = len(cells)
                cells.append([number, *place[::-1]])
                counts.append(0)
            if counts[known[key]] < GRID.most_points:
                counts[known[key]] += 1
                points.append(point)
                which.append(known[key])
    assert found.cells.tolist() == cells and found.counts.tolist() == counts
    assert found.voxel.tolist() == which
    torch.testing.assert_close(found.points, torch.stack(points))
    assert max(counts) == GRID.most_points and cells[-1][0] == 1
    assert sum(cell[0] == 0 for cell in cells) == GRID.most_voxels  # both limits were met


def dense(encoder: PillarEncoder, voxels: Voxels) -> Tensor:
    """The encoder with every empty place of a pillar."""
    given = encoder.decorated(voxels)
    padded = given.new_zeros(len(voxels.counts), voxels.grid.most_points, given.shape[1])
    for k, voxel in enumerate(voxels.voxel.tolist()):
        padded[voxel, int((voxels.voxel[:k] == voxel).sum())] = given[k]
    normed = encoder.norm(encoder.linear(padded).transpose(1, 2))
    return F.relu(normed).amax(2)


@pytest.mark.parametrize("coordinates", ["absolute", "mmdet3d_legacy"])
def test_the_encoder_is_that_with_empty_places(coordinates: str) -> None:
    torch.manual_seed(0)
    one = PillarEncoder(4, 16, coordinates).double()  # type: ignore[arg-type]
    nn.init.normal_(one.norm.weight)
    nn.init.normal_(one.norm.bias)
    two = copy.deepcopy(one)
    voxels = voxelize([scan.double() for scan in scans()], GRID)
    for training in (True, False):
        found, wanted = one.train(training)(voxels), dense(two.train(training), voxels)
        torch.testing.assert_close(found, wanted)
        for encoder, result in ((one, found), (two, wanted)):
            encoder.zero_grad()
            result.square().sum().backward()
        for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, msg=name)
        for (name, a), b in zip(one.named_buffers(), two.buffers(), strict=True):
            torch.testing.assert_close(a, b, msg=name)


def test_a_batch_without_points_is_not_remembered() -> None:
    encoder = PillarEncoder(4, 8).train()
    before = copy.deepcopy(encoder.state_dict())
    encoder(voxelize([torch.zeros(0, 4)] * 2, KITTI_GRID))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_what_a_point_enters_with() -> None:
    voxels = voxelize([torch.tensor([[1.1, 0.2, -2.0, 0.7], [1.3, 0.4, -1.5, 0.1]])], GRID)
    given = PillarEncoder(4, 8).decorated(voxels)
    row = [1.1, 0.2, -2.0, 0.7, -0.1, -0.1, -0.25, -0.15, -0.05, 0.0]
    torch.testing.assert_close(given[0], torch.tensor(row))
    legacy = PillarEncoder(4, 8, "mmdet3d_legacy").decorated(voxels)
    torch.testing.assert_close(legacy[0], torch.tensor([*row[7:], *row[3:]]))


def test_pillars_lie_where_their_points_are() -> None:
    voxels = voxelize(scans(), PILLARS)
    features = torch.randn(len(voxels.counts), 3)
    found = ground_map(features, voxels)
    assert found.shape == (3, 3, 16, 16)
    scan, _, y, x = voxels.cells.T
    torch.testing.assert_close(found[scan, :, y, x], features)
    assert found.abs().sum() == pytest.approx(features.abs().sum().item(), rel=1e-5)


@pytest.mark.parametrize(("compression", "millions"), [(1, 4.835), (4, 1.217), (16, 0.309)])
def test_parameters_are_as_many_as_published(compression: int, millions: float) -> None:
    model = PointPillars(compression=compression)
    count = sum(p.numel() for p in model.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=6e-4)


def test_widths_are_divided_as_published() -> None:
    assert [narrowed(64, c) for c in (1, 2, 4, 8, 16)] == [64, 45, 32, 22, 16]
    with pytest.raises(UsageError, match="one of 1, 2, 4, 8, 16"):
        narrowed(64, 3)


def test_every_anchor_is_predicted() -> None:
    model = PointPillars(compression=16).eval()
    found = model(voxelize(scans(), PILLARS))
    count = 8 * 8 * 6
    assert found.logits.shape == (3, count, 3) and found.halves.shape == (3, count, 2)
    assert found.codes.shape == (3, count, 7)
    alone = model(voxelize(scans()[1:2], PILLARS))
    torch.testing.assert_close(alone.codes[0], found.codes[1])
    assert KITTI_GRID.cells == (432, 496, 1)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="scan"):
        voxelize([torch.zeros(4)], GRID)
