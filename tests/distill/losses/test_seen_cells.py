"""Where a scan has no points nothing is compared, whatever is there."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from geodistill.checks import UsageError
from geodistill.distill.losses import LOSSES, Seen, build_loss, loss_settings
from geodistill.distill.losses.base import PlaceSettings
from geodistill.distill.losses.places import seen_cells
from geodistill.nn.bev import Predictions
from geodistill.nn.point_clouds import PointBatch
from tests.distill.losses.seen_scans import GRID, clouds, detector, heads, maps, seen

SMALL: dict[str, Any] = {"point_distiller": {"samples": 30, "neighbours": 5}}
OF_PLACES = [
    name for name in LOSSES if issubclass(loss_settings({"loss": name})[0].Settings, PlaceSettings)
]


def near_the_sensor() -> Seen:
    """The first scan with points where x < 3 and y > 0, the second with few anywhere."""
    of = detector(16, 0)
    first, second = clouds()
    own = [first[(first[:, 0] < 3) & (first[:, 1] > 0)], second[:3]]
    return replace(seen(of, trails=True), inputs=of.prepare(own))


@pytest.mark.parametrize(("size", "reach"), [(32, 0.0), (16, 0.0), (16, 2.0), (8, 1.7)])
def test_cells_are_seen_that_are_near_to_points(size: int, reach: float) -> None:
    own = near_the_sensor()
    found = seen_cells(own, (size, size), reach)
    assert found.shape == (2, size, size) and found.any() and not found.all()
    cell = 12.8 / size
    beside = math.ceil(reach / cell)
    slow = torch.zeros(2, size, size, dtype=torch.bool)
    per = GRID.cells[0] // size
    for scan, _, y, x in own.inputs.cells.tolist():
        row, column = y // per, x // per
        slow[
            scan,
            max(0, row - beside) : row + beside + 1,
            max(0, column - beside) : column + beside + 1,
        ] = True
    assert torch.equal(found, slow)


def test_without_a_limit_all_cells_are_seen() -> None:
    assert seen_cells(near_the_sensor(), (16, 16), None).all()


def of_each(name: str, seed: int) -> Any:
    """Maps or heads, as each loss compares them."""
    if name == "kd":
        return heads(seed)
    return (maps(8, 16, seed), maps(6, 8, seed)) if name == "fsp" else maps(8, 16, seed)


def changed(x: Any, own: Seen, reach: float, seed: int) -> Any:
    """Far from all points, something else."""
    if isinstance(x, tuple):
        return tuple(changed(one, own, reach, seed) for one in x)
    if isinstance(x, Predictions):
        far = ~seen_cells(own, (16, 16), reach).flatten(1).repeat_interleave(6, 1)
        return replace(x, logits=x.logits + 9 * seed * far[..., None])
    far = ~seen_cells(own, x.shape[2:], reach)[:, None]
    return x + 40 * far * (1 + maps(x.shape[1], x.shape[2], seed=seed).abs())


@pytest.mark.parametrize("name", OF_PLACES)
def test_what_is_far_from_all_points_does_not_count(name: str) -> None:
    own, reach = near_the_sensor(), 2.0
    teacher, student = of_each(name, 1), of_each(name, 2)
    torch.manual_seed(0)
    loss = build_loss({"loss": name, "tap": "neck", **SMALL.get(name, {})}, teacher, student)
    # Cells of the finer map that share one with a point of the coarser are seen there.
    finer = 2 * reach if name == "fsp" else reach
    given = changed(teacher, own, finer, 8), changed(student, own, finer, 9)
    value = loss(teacher, student, own, 0.0).item()
    assert value > 0
    assert loss(*given, own, 0.0).item() == pytest.approx(value, rel=1e-5)
    everywhere = build_loss(
        {"loss": name, "tap": "neck", "reach": None, **SMALL.get(name, {})}, teacher, student
    )
    everywhere.load_state_dict(loss.state_dict())
    pairs = ((teacher, student), given)
    all_, other = (everywhere(*pair, own, 0.0).item() for pair in pairs)
    assert other != pytest.approx(all_, rel=1e-4)


@pytest.mark.parametrize("name", OF_PLACES)
def test_scans_without_points_are_no_loss_and_no_number_is_lost(name: str) -> None:
    own = near_the_sensor()
    bare = replace(own, inputs=detector(16, 0).prepare([torch.zeros(0, 4)] * 2))
    teacher, student = of_each(name, 1), of_each(name, 2)
    loss = build_loss({"loss": name, "tap": "neck", **SMALL.get(name, {})}, teacher, student)
    assert torch.isfinite(loss(teacher, student, bare, 0.0))


@pytest.mark.parametrize("name", ["hint", "attention", "similarity"])
def test_a_cloud_without_points_is_left_out(name: str) -> None:
    full = replace(
        seen(detector(16, 0)), inputs=PointBatch(torch.zeros(1, 32, 4), torch.tensor([32]), [], 0)
    )
    both = PointBatch(torch.zeros(2, 32, 4), torch.tensor([32, 0]), [], 0)
    teacher, student = torch.randn(64, 8), torch.randn(64, 8)
    torch.manual_seed(0)
    loss = build_loss({"loss": name, "tap": "neck"}, teacher, student)
    alone = loss(teacher[:32], student[:32], full, 0.0)
    beside = loss(teacher, student, replace(full, inputs=both), 0.0)
    assert beside.item() == pytest.approx(alone.item(), rel=1e-5)


def test_a_reach_is_no_less_than_nothing() -> None:
    with pytest.raises(UsageError, match="reach must be at least 0, got -1"):
        build_loss({"loss": "hint", "reach": -1.0}, maps(8), maps(8))
