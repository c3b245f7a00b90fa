from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from geodistill import config
from geodistill.checks import InputError, UsageError
from geodistill.detect.anchors import encode
from geodistill.detect.losses import focal_loss
from geodistill.nn.anchor_detector import AnchorDetector, AnchorSettings, Choice
from geodistill.nn.bev import Predictions
from geodistill.nn.detector_files import fingerprint, load_detector, save_detector
from geodistill.nn.voxels import VoxelGrid
from geodistill.runs import load_tensors, save_tensors

GRID = VoxelGrid((0.0, -5.12, -3.0), (10.24, 5.12, 1.0), (0.32, 0.32, 4.0), 32, 4000)
SETTINGS = AnchorSettings(compression=16, grid=GRID)

BOXES = torch.tensor(
    [
        [3.0, 1.0, -1.0, 3.9, 1.6, 1.56, 0.2],
        [8.0, -2.0, -1.0, 4.1, 1.7, 1.5, math.pi - 0.1],
        [6.0, 3.5, -0.8, 0.8, 0.6, 1.73, -1.5],
    ]
)
LABELS = torch.tensor([2, 2, 0])


def detector(**changes) -> AnchorDetector:
    torch.manual_seed(0)
    return AnchorDetector(replace(SETTINGS, **changes))


def perfect(found: AnchorDetector) -> Predictions:
    """What a network that knows all boxes would say."""
    (target,) = found.targets([BOXES], [LABELS])
    logits = torch.full((len(target.label), 3), -8.0)
    own = (target.label >= 0).nonzero()[:, 0]
    logits[own, target.label[own]] = 8.0
    halves = torch.zeros(len(target.label), 2)
    halves[own, target.half[own]] = 8.0
    return Predictions(logits[None], target.code[None], halves[None])


@pytest.mark.parametrize("offset", [math.pi / 4, -math.pi / 2])
@pytest.mark.parametrize("by_class", [True, False])
def test_perfect_predictions_are_the_boxes(offset: float, by_class: bool) -> None:
    model = detector(offset=offset, choice=Choice(by_class=by_class))
    (found,) = model.detections(perfect(model))
    assert sorted(found.labels.tolist()) == [0, 2, 2]
    order = [int((found.boxes[:, :2] - box[:2]).norm(dim=1).argmin()) for box in BOXES]
    boxes = found.boxes[order]
    assert torch.allclose(boxes[:, :6], BOXES[:, :6], atol=1e-4)
    turn = torch.remainder(boxes[:, 6] - BOXES[:, 6] + 1, 2 * math.pi) - 1
    assert turn.abs().max() < 1e-4


def test_perfect_predictions_lose_little() -> None:
    model = detector()
    right = perfect(model)
    targets = model.targets([BOXES], [LABELS])
    parts = model.losses(right, targets)
    assert set(parts) == {"classes", "codes", "halves"}
    assert all(float(value) < 1e-2 for value in parts.values())
    wrong = replace(right, codes=right.codes + 0.1, halves=-right.halves)
    worse = model.losses(wrong, targets)
    assert float(worse["codes"]) > 0.1 and float(worse["halves"]) > 1


def test_normalisers_of_both_toolboxes() -> None:
    torch.manual_seed(1)
    boxes, labels = [BOXES, BOXES[:1]], [LABELS, LABELS[:1]]
    by_batch, by_scan = detector(), detector(normaliser="scan")
    targets = by_batch.targets(boxes, labels)
    shape = (2, len(targets[0].label))
    said = Predictions(torch.randn(*shape, 3), torch.randn(*shape, 7), torch.randn(*shape, 2))
    counts = [int((one.label >= 0).sum()) for one in targets]
    sums = []
    for k, one in enumerate(targets):
        wanted = torch.zeros(shape[1], 3)
        own = (one.label >= 0).nonzero()[:, 0]
        wanted[own, one.label[own]] = 1
        sums.append(float(focal_loss(said.logits[k], wanted)[one.label != -2].sum()))
    together = float(by_batch.losses(said, targets)["classes"])
    assert together == pytest.approx(sum(sums) / sum(counts), rel=1e-5)
    apart = float(by_scan.losses(said, targets)["classes"])
    assert apart == pytest.approx((sums[0] / counts[0] + sums[1] / counts[1]) / 2, rel=1e-5)


def test_boxes_below_the_threshold_claim_anchors_as_each_toolbox_has_it() -> None:
    small = torch.tensor([[5.0, 0.0, -1.0, 0.4, 0.3, 1.5, 0.0]])  # a car of toy size
    labels = torch.tensor([2])
    (anyhow,) = detector().targets([small], [labels])
    (never,) = detector(forced="negative").targets([small], [labels])
    assert (anyhow.label >= 0).any() and not (never.label >= 0).any()


def test_codes_are_of_the_detectors_own_anchors() -> None:
    model = detector()
    (target,) = model.targets([BOXES], [LABELS])
    own = (target.label >= 0).nonzero()[:, 0]
    anchors = model.anchors.reshape(-1, 7)[own]
    assert torch.allclose(encode(BOXES[target.object[own]], anchors), target.code[own])


def test_a_grid_that_strides_do_not_divide() -> None:
    grid = replace(GRID, high=(10.24 + 0.32, 5.12, 1.0))
    with pytest.raises(UsageError, match="33 x 32 cells: pointpillars needs multiples of 8"):
        AnchorSettings(grid=grid)


def test_points_of_another_number_of_values() -> None:
    with pytest.raises(InputError, match="have 5 values and the detector's have 4"):
        detector().prepare([torch.zeros(3, 4), torch.zeros(3, 5)])


@pytest.mark.parametrize(
    ("architecture", "thick", "said"),
    [
        ("pointpillars", 2.0, "2 layers of voxels: pointpillars needs 1$"),
        ("second", 0.2, "20 layers of voxels: second needs 40 to 55"),
    ],
)
def test_a_grid_of_other_layers(architecture, thick: float, said: str) -> None:
    grid = replace(GRID, size=(0.16, 0.16, thick))
    with pytest.raises(UsageError, match=said):
        AnchorSettings(architecture=architecture, grid=grid)


@pytest.mark.parametrize(
    "change",
    [
        {"size": (0.32, 0.0, 4.0)},
        {"size": (0.32, 0.32, 8.0)},
        {"size": (1e-320, 0.32, 4.0)},
        {"size": (1e-30, 0.32, 4.0)},
        {"low": (-1e30, 0.0, -3.0)},
        {"size": (math.nan, 0.32, 4.0)},
        {"high": (-1.0, 5.12, 1.0)},
    ],
)
def test_a_grid_that_is_none(change) -> None:
    with pytest.raises(UsageError, match="fill no grid from"):
        replace(GRID, **change)


@pytest.mark.parametrize("area", [(math.nan, 0, 0, 0), (0, 0, 0, 0), (10, 10, -10, -10)])
def test_an_area_that_is_none(area) -> None:
    with pytest.raises(UsageError, match="area "):
        replace(SETTINGS, area=area)


def test_a_class_that_comes_twice() -> None:
    with pytest.raises(UsageError, match="once, got Car, Car"):
        AnchorSettings(grid=GRID, anchors=(SETTINGS.anchors[2],) * 2)


def test_points_without_z() -> None:
    with pytest.raises(UsageError, match="at least x, y and z, got 2 values"):
        AnchorSettings(grid=GRID, values=2)


@pytest.mark.parametrize("scan", [torch.zeros(0, 4), torch.tensor([[50.0, 0, 0, 1]])])
def test_scans_with_nothing_in_them(scan: torch.Tensor) -> None:
    model = detector()
    parts = model.losses(
        model(model.prepare([scan, scan])), model.targets([BOXES] * 2, [LABELS] * 2)
    )
    assert all(value.isfinite() for value in parts.values())
    assert all(buffer.isfinite().all() for buffer in model.buffers())
    model.eval()
    with torch.no_grad():
        (found,) = model.detections(model(model.prepare([scan])))
    assert found.boxes.isfinite().all()


def test_files(tmp_path: Path) -> None:
    model = detector(coordinates="mmdet3d_legacy", momentum=0.1).eval()
    save_detector(tmp_path / "a.safetensors", model)
    again = load_detector(tmp_path / "a.safetensors")
    assert again.settings == model.settings
    assert fingerprint(again) == fingerprint(model)
    scan = torch.rand(200, 4) * torch.tensor([10, 4, 2, 1.0])
    with torch.no_grad():
        one, two = (m(m.prepare([scan])).logits for m in (model, again))
    assert torch.equal(one, two)
    next(again.parameters()).data += 1
    assert fingerprint(again) != fingerprint(model)


def test_files_of_half_precision_are_read_in_float32(tmp_path: Path) -> None:
    model = detector()
    rounded = {name: value.half() for name, value in model.named_parameters()}
    for name, values in model.named_parameters():
        values.data = rounded[name]
    save_detector(tmp_path / "half.safetensors", model)
    for name, values in load_detector(tmp_path / "half.safetensors").named_parameters():
        assert values.dtype == torch.float32 and torch.equal(values, rounded[name].float())


def test_files_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_detector(path, detector())
    tensors, _ = load_tensors(path)
    other = config.to_dict(replace(SETTINGS, compression=4))
    save_tensors(path, tensors, {"format": "geodistill-detector", "settings": other})
    with pytest.raises(InputError, match=r"does not fit a pointpillars detector: .* another shape"):
        load_detector(path)
    tensors.pop("network.head.logits.bias")
    tensors["more"] = torch.zeros(1)
    same = {"format": "geodistill-detector", "settings": config.to_dict(SETTINGS)}
    save_tensors(path, tensors, same)
    with pytest.raises(
        InputError, match=r"1 tensors are missing .* 1 are unknown \(such as more\)"
    ):
        load_detector(path)
    save_tensors(path, tensors, {"format": "geodistill-field"})
    with pytest.raises(InputError, match="is no detector, but geodistill-field"):
        load_detector(path)
