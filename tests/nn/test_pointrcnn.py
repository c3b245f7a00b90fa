"""PointRCNN: as many parameters and operations as published, and a scene that it learns."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geodistill.checks import UsageError
from geodistill.detect import point_codes
from geodistill.detect.boxes import inside
from geodistill.detect.overlap import iou_3d
from geodistill.detect.point_codes import turned
from geodistill.detect.proposals import Draw, point_objects
from geodistill.nn.point_detector import PointDetector
from geodistill.nn.point_settings import PointChoice, PointClass, PointSettings, Proposing
from geodistill.nn.pointrcnn import PointPredictions, pool

CLASSES = (
    PointClass("Car", (4.5, 1.9, 1.56)),
    PointClass("Van", (5.0, 1.9, 2.2)),
    PointClass("Truck", (8.0, 2.6, 3.0)),
)
BOXES = torch.tensor(
    [
        [12.0, -5, -0.9, 4.8, 2.0, 1.6, 0.4],
        [19.0, 5, -0.2, 7.5, 2.5, 3.1, -1.2],
        [9.0, 3, -0.6, 4.9, 2.0, 2.2, 2.0],
    ]
)
LABELS = torch.tensor([0, 2, 1])
SMALL = PointSettings(
    compression=16,
    objects=CLASSES,
    points=1024,
    pooled=64,
    proposing=Proposing(300, overlap=0.8, most=64, overlap_learning=0.95, most_learning=300),
    drawing=Draw(count=64, positive=0.75),
    unsure=0.5,
    sure=0.95,
)


def scene(seed: int = 0) -> Tensor:
    """Three boxes of points on their faces, and the ground."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for box in BOXES:
        unit = torch.rand(100, 3, generator=generator) - 0.5
        face = torch.randint(0, 3, (100,), generator=generator)
        side = torch.randint(0, 2, (100,), generator=generator).float() - 0.5
        unit[torch.arange(100), face] = 0.98 * side
        parts.append(turned(unit * box[3:6], box[6].expand(100)) + box[:3])
    area = torch.tensor([24.0, 20, 0.05])
    parts.append(torch.rand(500, 3, generator=generator) * area + torch.tensor([2.0, -10, -1.75]))
    xyz = torch.cat(parts)
    return torch.cat([xyz, torch.rand(len(xyz), 1, generator=generator)], 1)


def small(seed: int = 0) -> PointDetector:
    torch.manual_seed(seed)
    return PointDetector(SMALL)


@pytest.mark.parametrize(
    ("compression", "all_", "biases"),
    [(1, 4_042_891, 4_072), (8, 517_949, 1_441), (16, 259_489, 1_018)],
)
def test_parameters_are_as_many_as_published(compression: int, all_: int, biases: int) -> None:
    """Those of mmdetection3d, but for the biases before the backbone's norms, which do nothing."""
    model = PointDetector(PointSettings(compression=compression))
    assert sum(p.numel() for p in model.parameters()) == all_ - biases


def rows_of_layers(model: PointDetector, proposals: int) -> dict[str, int]:
    """How many rows each linear layer is given for one scan, by its name."""
    rows: dict[str, int] = {}

    def count(name: str, share: int) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            rows[name] = output.numel() // output.shape[-1] * share

        return hook

    given = 2
    for name, layer in model.network.named_modules():
        if isinstance(layer, nn.Linear):
            share = proposals // given if name.startswith("refiner") else 1
            layer.register_forward_hook(count(name, share))
    model.eval()
    model(model.prepare([scene()]))
    channels = model.network.neck.levels[-1].layers[-3].weight.shape[0]  # type: ignore[union-attr, index]
    model.network.refiner(torch.rand(given, model.settings.pooled, 5 + channels))
    return rows


def test_multiply_adds() -> None:
    """As in `nn.pointrcnn`; `benchmarks/detecting/figures.py` has what the published ones count."""
    rows = rows_of_layers(PointDetector(PointSettings(compression=16)), 512)
    for compression, first, all_ in ((1, 10.05, 96.84), (8, 1.275, 12.18), (16, 0.644, 6.197)):
        model = PointDetector(PointSettings(compression=compression))
        named = dict(model.network.named_modules())
        products = {name: count * named[name].weight.numel() for name, count in rows.items()}  # type: ignore[union-attr]
        one = sum(count for name, count in products.items() if not name.startswith("refiner"))
        assert one / 1e9 == pytest.approx(first, rel=1e-3)
        assert sum(products.values()) / 1e9 == pytest.approx(all_, rel=1e-3)


def test_a_scene_is_learnt() -> None:
    model, scan = small(), scene()
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    steps = 120
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    batch = model.prepare([scan])
    model.train()
    for _ in range(steps):
        parts = model.losses(model(batch), model.targets([BOXES], [LABELS]))
        optimiser.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimiser.step()
        rate.step()
    assert all(part < 0.8 for part in parts.values()), parts
    model.eval()
    with torch.no_grad():
        predictions = model(batch)
    boxes, labels = model.proposals(predictions, 0, 0.8, 64)
    overlaps = iou_3d(boxes, BOXES) * (labels[:, None] == LABELS)
    assert (overlaps.max(0).values > 0.7).all()
    (found,) = model.detections(predictions)
    overlaps = iou_3d(found.boxes, BOXES) * (found.labels[:, None] == LABELS)
    best = overlaps.max(0).values
    assert (best > 0.5).all() and best.mean() > 0.7, overlaps
    assert sorted(overlaps[:3].argmax(1).tolist()) == [0, 1, 2]


def test_losses_are_functions_of_the_batch() -> None:
    model = small().train()
    before = copy.deepcopy(model.state_dict())
    results = []
    for seed in (3, 3, 4):
        model.load_state_dict(before)
        batch = model.prepare([scene()], torch.Generator().manual_seed(seed))
        parts = model.losses(model(batch), model.targets([BOXES], [LABELS]))
        results.append({name: float(part.detach()) for name, part in parts.items()})
    assert list(results[0]) == ["points", "boxes", "certainty", "refinement", "corners"]
    assert results[0] == results[1] and results[0] != results[2]


def exact_predictions(model: PointDetector) -> PointPredictions:
    """As if the first stage knew: each point's box, with a score for those inside of one."""
    batch = model.prepare([scene()])
    xyz = batch.points[0, :, :3]
    objects = point_objects(xyz, BOXES, 0.1)
    learnt = objects.clamp(min=0)
    codes = point_codes.encode(BOXES[learnt], xyz, model.sizes[LABELS[learnt]])
    logits = torch.full((len(xyz), 3), -9.0)
    logits[objects >= 0, LABELS[objects[objects >= 0]]] = 9.0
    features = model(batch).features.detach()
    return PointPredictions(
        logits[None], codes[None], features, batch.points, batch.counts, batch.seed
    )


def test_who_knows_loses_nothing_in_the_first_stage() -> None:
    model = small().eval()
    predictions = exact_predictions(model)
    parts = model.losses(predictions, model.targets([BOXES], [LABELS]))
    assert parts["boxes"] < 1e-9 and parts["points"] < 1e-4
    # Proposals are the boxes, and the refiner, which has learnt nothing, hardly moves them.
    assert parts["refinement"] < 0.05 and parts["corners"] < 0.05
    wrong = model.losses(predictions, model.targets([BOXES + 0.5], [LABELS]))
    assert wrong["boxes"] > 0.5


def test_the_second_stage_teaches_the_first_nothing() -> None:
    model = small().train()
    batch = model.prepare([scene()])
    predictions = exact_predictions(model)
    first = model(batch)
    known = replace(predictions, features=first.features)
    parts = model.losses(known, model.targets([BOXES], [LABELS]))
    (parts["certainty"] + parts["refinement"] + parts["corners"]).backward()
    with_gradient = {
        name.split(".")[0] for name, p in model.network.named_parameters() if p.grad is not None
    }
    assert with_gradient == {"refiner"}


def test_labels_of_points_are_ignored_about_boxes() -> None:
    model = small().eval()
    batch = model.prepare([scene()])
    predictions = exact_predictions(model)
    wider = BOXES.clone()
    wider[:, 3:6] += 0.2
    xyz = batch.points[0, :, :3]
    rim = inside(xyz, wider).any(1) & ~inside(xyz, BOXES).any(1)
    assert rim.any()
    before = model.losses(predictions, model.targets([BOXES], [LABELS]))["points"]
    predictions.logits[0, rim] = 9.0
    assert model.losses(predictions, model.targets([BOXES], [LABELS]))["points"] == before


def test_points_in_boxes_are_pooled_in_the_boxes_frames() -> None:
    generator = torch.Generator().manual_seed(5)
    points = torch.rand(900, 3, generator=generator) * 4
    features = torch.rand(900, 2, generator=generator)
    boxes = torch.tensor(
        [[2.0, 2, 2, 2, 1, 3, 0.6], [1.0, 1, 1, 0.6, 0.6, 0.6, -2.0], [9.0, 9, 9, 1, 1, 1, 0.0]]
    )
    for context in (0.0, 0.3):
        found = pool(points, features, boxes, 12, context)
        assert found.shape == (3, 12, 5) and (found[2] == 0).all()
        sizes = set()
        for k in range(2):
            wider = boxes[k].clone()
            wider[3:6] += 2 * context
            within = inside(points, wider[None])[:, 0].nonzero()[:, 0]
            sizes.add(len(within) > 12)
            for place in range(12):
                point = within[place % len(within)]
                away = points[point] - boxes[k, :3]
                cos, sin = boxes[k, 6].cos(), boxes[k, 6].sin()
                local = [away[0] * cos + away[1] * sin, away[1] * cos - away[0] * sin, away[2]]
                wanted = torch.cat([torch.stack(local), features[point]])
                torch.testing.assert_close(found[k, place], wanted)
        assert context > 0 or sizes == {False, True}
    many = boxes[:1].repeat(70, 1)  # more than are looked for at a time
    last = pool(points, features, many, 12, 0.0)[69]
    assert torch.equal(last, pool(points, features, boxes[:1], 12, 0.0)[0])


@pytest.mark.parametrize("training", [True, False])
def test_empty_scans_and_scans_without_boxes(training: bool) -> None:
    model = small().train(training)
    scans = [torch.zeros(0, 4), scene(), torch.tensor([[5.0, 0, 0, 1]])]
    batch = model.prepare(scans)
    predictions = model(batch)
    none = torch.zeros(0, 7), torch.zeros(0, dtype=torch.int64)
    boxes, labels = [none[0], BOXES, none[0]], [none[1], LABELS, none[1]]
    parts = model.losses(predictions, model.targets(boxes, labels))
    assert all(part.isfinite() for part in parts.values())
    if training:
        torch.stack(list(parts.values())).sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    alone = model.prepare(scans[:1])
    parts = model.losses(model(alone), model.targets(boxes[:1], labels[:1]))
    assert all(float(part.detach()) == 0 for part in parts.values())
    with torch.no_grad():
        found = model.eval().detections(predictions)
    assert len(found[0]) == 0 and len(found) == 3
    assert all(one.boxes.shape == (len(one), 7) for one in found)


def test_what_is_beside_a_scan_does_not_matter() -> None:
    model = small().eval()
    with torch.no_grad():
        together = model(model.prepare([scene(1)[:300], scene()]))
        alone = model(model.prepare([scene()]))
    torch.testing.assert_close(together.codes[1], alone.codes[0], rtol=1e-4, atol=1e-5)
    one, two = model.detections(together)[1], model.detections(alone)[0]
    torch.testing.assert_close(one.boxes, two.boxes, rtol=1e-3, atol=1e-3)


def test_points_out_of_range_are_left_out() -> None:
    model = small().eval()
    far = torch.tensor([[80.0, 0, 0, 1], [5.0, 41, 0, 1], [5.0, 0, 2, 1], [5.0, 0, 0.5, 1]])
    batch = model.prepare([far])
    assert batch.counts.tolist() == [1] and (batch.points[0] == far[3]).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"points": 1000}, "points must be a multiple of 256, got 1000"),
        ({"points": 0}, "points must be a multiple of 256, got 0"),
        ({"pooled": 24}, "pooled must be a multiple of 16, got 24"),
        ({"objects": ()}, "at least one class"),
        ({"objects": CLASSES[:1] * 2}, "each once, got Car, Car"),
        ({"values": 2}, "at least x, y and z, got 2"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        PointSettings(**wrong)


def test_objects_without_a_size_are_refused() -> None:
    for length in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="size must be above 0"):
            PointClass("Car", (length, 1.6, 1.56))


def test_widths_that_are_not_published_are_refused() -> None:
    with pytest.raises(UsageError, match="compression must be one of"):
        PointDetector(PointSettings(compression=5))


def test_other_numbers_of_values_and_no_norms() -> None:
    for values in (3, 5):
        settings = PointSettings(
            compression=16,
            points=256,
            pooled=16,
            values=values,
            refiner_norm="none",
            choice=PointChoice(0.0),
        )
        model = PointDetector(settings).eval()
        assert not any(isinstance(m, nn.BatchNorm1d) for m in model.network.refiner.modules())
        scan = torch.cat([scene()[:, :3], torch.rand(800, 2)], 1)[:, :values]
        with torch.no_grad():
            (found,) = model.detections(model(model.prepare([scan])))
        assert found.scores.isfinite().all() and len(found) > 0
