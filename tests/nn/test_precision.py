"""Maps in bfloat16: what stays in float32, and how near the rest is."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor

from geodistill.checks import UsageError
from geodistill.distill.detectors import Teaching
from geodistill.distill.losses.taps import Taps
from geodistill.fit.detector.batches import Batch
from geodistill.nn.anchor_detector import AnchorDetector, AnchorSettings
from geodistill.nn.precision import computing
from geodistill.nn.synced import SyncedNorm
from geodistill.nn.voxels import VoxelGrid
from tests.fit.small_recipe import POINTS, RECIPE

CPU = torch.device("cpu")
SECOND = replace(
    RECIPE.detector,
    architecture="second",
    grid=VoxelGrid((0.0, -12.8, -3.0), (25.6, 12.8, 1.0), (0.2, 0.2, 0.1), 5, 6000),
)
BOTH = pytest.mark.parametrize("settings", [RECIPE.detector, SECOND], ids=["pillars", "second"])


def scans(detector: AnchorDetector) -> list[Tensor]:
    low, high = (torch.tensor(corner) for corner in detector.bounds)
    drawn = [torch.rand(3000, 4) for _ in range(2)]
    return [torch.cat([low + one[:, :3] * (high - low), one[:, 3:]], 1) for one in drawn]


@BOTH
def test_predictions_are_near_and_their_gradients_whole(settings: AnchorSettings) -> None:
    torch.manual_seed(0)
    detector = AnchorDetector(settings).train()
    inputs = detector.prepare(scans(detector))
    plain = detector(inputs)
    with computing("bfloat16", CPU):
        fast = detector(inputs)
    for name in ("logits", "codes", "halves"):
        own, other = getattr(plain, name), getattr(fast, name)
        assert other.dtype == torch.float32 and not torch.equal(own, other)
        assert (own - other).std() < 0.1 * own.std()
    (fast.logits.square().sum() + fast.codes.sum() + fast.halves.sum()).backward()
    for parameter in detector.parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32


@BOTH
def test_encoders_stay_and_taps_are_float32(settings: AnchorSettings) -> None:
    detector = AnchorDetector(settings).eval()
    taps = Taps(detector.network, ["encoder", "backbone", "backbone.stages.0", "neck"])
    inputs = detector.prepare(scans(detector))
    detector(inputs)
    plain = dict(taps.outputs)
    with computing("bfloat16", CPU):
        detector(inputs)
    assert torch.equal(plain["encoder"], taps.outputs["encoder"])
    assert not torch.equal(plain["neck"], taps.outputs["neck"])
    values = [
        x for value in taps.outputs.values() for x in (value, *value) if isinstance(x, Tensor)
    ]
    assert all(value.dtype == torch.float32 for value in values)


def test_nothing_changes_in_float32() -> None:
    detector = AnchorDetector(RECIPE.detector).eval()
    inputs = detector.prepare(scans(detector))
    with computing("float32", CPU):
        inside = detector(inputs)
    assert torch.equal(inside.logits, detector(inputs).logits)


def test_teachers_compute_like_their_students() -> None:
    student, teacher = (AnchorDetector(replace(RECIPE.detector, compression=c)) for c in (16, 4))
    plain, fast = (
        Teaching(student, [teacher], [{"loss": "hint"}], precision)
        for precision in ("float32", "bfloat16")
    )
    inputs = student.prepare(scans(student))
    batch = cast(Batch, SimpleNamespace(inputs=inputs, taught={}))  # all that is looked at
    one, two = (teaching.outputs(batch)[0]["neck"] for teaching in (plain, fast))
    assert not torch.equal(one, two)
    assert (one - two).std() < 0.03 * one.std()


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_over_ranks_keeps_its_statistics_in_float32(affine: bool) -> None:
    x = (100 + torch.randn(4, 3, 8, 8)).bfloat16()
    norm = torch.nn.BatchNorm2d(3, affine=affine).train()
    found = SyncedNorm(norm)(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, torch.nn.BatchNorm2d(3).train()(x), atol=0.05, rtol=0.02)


def test_detectors_without_maps_refuse() -> None:
    with pytest.raises(UsageError, match="pointrcnn has no maps"):
        replace(POINTS, precision="bfloat16")


def test_shapes_can_be_computed_alone() -> None:
    network = AnchorDetector(RECIPE.detector).network.to("meta")
    width = next(network.backbone.parameters()).shape[1]
    found = network.neck(network.backbone(torch.zeros(1, width, 16, 16, device="meta")))
    assert network.head(found).logits.device.type == "meta"
