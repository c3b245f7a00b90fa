"""The KITTI metric against its definition read slowly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from geodistill.checks import InputError
from geodistill.io.kitti import Labels, make_labels
from geodistill.metrics import rounds
from geodistill.metrics.detectors import flat
from geodistill.metrics.kitti import CLASSES, LEVELS, OVERLAPS, caps, evaluate
from tests.metrics import kitti_oracle

NAMES = ("Car", "Van", "Pedestrian", "Person_sitting", "Cyclist", "Truck", "DontCare", "car")
CHANCES = (0.38, 0.07, 0.2, 0.05, 0.15, 0.04, 0.06, 0.05)


def made_truth(rng: np.random.Generator, most: int = 6) -> Labels:
    count = int(rng.integers(0, most + 1))
    names = tuple(rng.choice(NAMES, count, p=CHANCES).tolist())
    left, top = rng.uniform(0, 900, count), rng.uniform(100, 250, count)
    wide = rng.uniform(20, 200, count)
    tall = rng.choice([24.0, 25.0, 30.0, 40.0, 41.0, 90.0], count)  # at the limits too
    bbox = np.stack([left, top, left + wide, top + tall], 1)
    sizes = np.stack(
        [rng.uniform(1.3, 2, count), rng.uniform(0.5, 2, count), rng.uniform(0.6, 4.5, count)], 1
    )
    location = np.stack(
        [rng.uniform(-9, 9, count), rng.uniform(1, 2, count), rng.uniform(4, 20, count)], 1
    )
    table = np.column_stack(
        [
            rng.choice([0, 0.1, 0.15, 0.3, 0.5, 0.7], count),
            rng.choice([0.0, 1, 2, 3], count),
            rng.uniform(-np.pi, np.pi, count),
            *(bbox, sizes, location),
            rng.uniform(-np.pi, np.pi, count),
        ]
    )
    return make_labels(names, table)


def made_predictions(rng: np.random.Generator, truth: Labels) -> Labels:
    """Near copies, several of some, of the right class mostly; others anywhere; ties of scores and
    of overlaps."""
    copies = rng.integers(0, 4, len(truth)) if len(truth) else np.zeros(0, int)
    which = np.repeat(np.arange(len(truth)), copies)
    other = made_truth(rng, 3)
    size = len(which)
    jitter = rng.choice([0.0, 0.0, 0.03, 0.1, 0.4], (size, 1))
    parts = {
        "bbox": truth.bbox[which] + 40 * jitter * rng.standard_normal((size, 4)),
        "sizes": truth.sizes[which] * np.exp(jitter * rng.standard_normal((size, 3))),
        "location": truth.location[which] + jitter * rng.standard_normal((size, 3)),
        "rotation_y": truth.rotation_y[which] + jitter[:, 0] * rng.standard_normal(size),
        "alpha": truth.alpha[which] + jitter[:, 0] * rng.standard_normal(size),
    }
    wrong = rng.random(size) < 0.1
    names = [
        str(rng.choice(NAMES[:5])) if wrong[k] else truth.names[i] for k, i in enumerate(which)
    ]
    joined = {name: np.concatenate([part, getattr(other, name)]) for name, part in parts.items()}
    names = [{"car": "Car", "DontCare": "Car"}.get(name, name) for name in [*names, *other.names]]
    order = rng.permutation(len(names))
    scores = np.round(rng.random(len(names)), 2)
    zero = np.zeros(len(names))
    found = Labels(tuple(names), zero, zero, scores=scores, **joined)
    return taken(found, order)


def taken(labels: Labels, order: np.ndarray) -> Labels:
    parts = {
        name: value[order] for name, value in vars(labels).items() if isinstance(value, np.ndarray)
    }
    return replace(labels, names=tuple(labels.names[k] for k in order), **parts)


def perfect(truth: Labels) -> Labels:
    return replace(truth, scores=np.linspace(0.9, 0.1, len(truth)))


@pytest.fixture(scope="module")
def frames() -> tuple[list[Labels], list[Labels]]:
    rng = np.random.default_rng(0)
    truth = [made_truth(rng) for _ in range(1000)]
    return truth, [made_predictions(rng, frame) for frame in truth]


@pytest.mark.parametrize("name", CLASSES)
def test_every_precision_is_that_of_the_definition(
    frames: tuple[list[Labels], list[Labels]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "PAIRS", 300)  # many parts
    values, defined = beside_the_definition(*frames, name)
    assert values == pytest.approx(defined, abs=1e-6)


MIRRORED = {
    "location": lambda one: one.location * (-1, 1, 1),
    "alpha": lambda one: np.pi - one.alpha,
    "rotation_y": lambda one: np.pi - one.rotation_y,
}
SWAPPED = {"Car": "Cyclist", "car": "Cyclist", "Cyclist": "Car"}


@pytest.mark.parametrize("name", ["Car", "Cyclist"])
@pytest.mark.parametrize(
    "changed",
    [
        MIRRORED,
        {"location": lambda one: one.location + np.array([0.5, 0, 0])},
        {"names": lambda one: tuple(SWAPPED.get(name, name) for name in one.names)},
    ],
    ids=["mirrored", "shifted", "mislabelled"],
)
def test_a_detector_with_one_error_scores_as_the_definition_says(changed, name: str) -> None:
    """In every third frame, so that all scores lie between none and the cap."""
    rng = np.random.default_rng(7)
    truth = [made_truth(rng) for _ in range(150)]
    found = [perfect(frame) for frame in truth]
    for one in range(0, 150, 3):
        changes = {field: change(found[one]) for field, change in changed.items()}
        found[one] = replace(found[one], **changes)
    values, defined = beside_the_definition(truth, found, name)
    assert values == pytest.approx(defined, abs=1e-6)
    best = evaluate(truth, [perfect(frame) for frame in truth]).values()
    worse = evaluate(truth, found).values()
    assert 0 < worse[f"{name}/3d/AP40/hard"] < best[f"{name}/3d/AP40/hard"]


def beside_the_definition(
    truth: list[Labels], found: list[Labels], name: str
) -> tuple[dict[str, float], dict[str, float]]:
    """All values of a class, and what the slow reading of the definition has in their places."""
    defined = {}
    for level, title in enumerate(LEVELS):
        for view in ("2d", "bev", "3d"):
            least = OVERLAPS.get(name.lower(), 0.5)
            precision, similarity = kitti_oracle.precisions(
                *(truth, found, name.lower(), view, level, least)
            )
            assert max(precision) > 0.05
            checks = {view: precision} | ({"aos": similarity} if view == "2d" else {})
            for what, wanted in checks.items():
                for ap, positions in (("AP40", range(1, 41)), ("AP11", range(0, 41, 4))):
                    average = kitti_oracle.average(wanted, positions)
                    defined[f"{name}/{what}/{ap}/{title}"] = average
    values = evaluate(truth, found).values()
    return {key: values[key] for key in defined}, defined


@pytest.mark.parametrize("count", [1, 2, 5, 10, 20, 41, 100])
def test_a_perfect_detector_reaches_the_cap_of_so_many_objects(count: int) -> None:
    rng = np.random.default_rng(count)
    truth = []
    while sum(map(len, truth)) < count:
        frame = made_truth(rng, 5)
        plain = taken(frame, np.flatnonzero([name == "Car" for name in frame.names]))
        plain = taken(plain, np.arange(min(len(plain), count - sum(map(len, truth)))))
        zero = np.zeros(len(plain))
        bbox = plain.bbox.copy()
        bbox[:, 3] = bbox[:, 1] + 50
        truth.append(replace(plain, bbox=bbox, occlusion=zero, truncation=zero))
    report = evaluate(truth, [perfect(frame) for frame in truth])
    values = report.values()
    for level in LEVELS:
        assert report.counts["Car", level] == count
        for view in ("2d", "bev", "3d", "aos"):
            found = tuple(values[f"Car/{view}/{ap}/{level}"] for ap in ("AP40", "AP11"))
            assert found == pytest.approx(caps(count), abs=1e-9)
    assert caps(count)[0] == {1: 0, 2: 2.5, 5: 10, 10: 22.5, 20: 47.5}.get(count, 100)
    reached = {1: 1, 2: 1, 5: 2, 10: 3, 20: 5}.get(count, 11)
    assert caps(count)[1] == pytest.approx(100 * reached / 11)


def test_what_is_wrong_lowers_what_it_concerns() -> None:
    rng = np.random.default_rng(3)
    truth = [made_truth(rng) for _ in range(300)]
    right = [perfect(frame) for frame in truth]
    best = evaluate(truth, right).values()
    turned = [replace(frame, alpha=frame.alpha + np.pi) for frame in right]
    found = evaluate(truth, turned).values()
    changed = {key for key, value in found.items() if value != pytest.approx(best[key], abs=1e-9)}
    assert changed == {key for key in best if "/aos/" in key}
    assert all(found[key] == pytest.approx(0, abs=1e-9) for key in changed)
    unsaid = [*right[:-1], replace(right[-1], alpha=np.full(len(right[-1]), -10.0))]
    assert len(right[-1]) and not any("/aos/" in key for key in evaluate(truth, unsaid).values())
    raised = [replace(frame, location=frame.location - np.array([0, 9.0, 0])) for frame in right]
    found = evaluate(truth, raised).values()
    changed = {key for key, value in found.items() if value != pytest.approx(best[key], abs=1e-9)}
    assert changed == {key for key in best if "/3d/" in key} and {
        found[key] for key in changed
    } == {0}
    swap = {"Car": "Cyclist", "car": "Cyclist", "Cyclist": "Car"}
    named = [replace(f, names=tuple(swap.get(name, name) for name in f.names)) for f in right]
    found = evaluate(truth, named).values()
    assert all(found[f"{name}/3d/AP40/hard"] == 0 for name in ("Car", "Cyclist"))
    assert found["Pedestrian/3d/AP40/hard"] == best["Pedestrian/3d/AP40/hard"]


def test_the_order_of_frames_is_nothing(frames: tuple[list[Labels], list[Labels]]) -> None:
    truth, found = (part[:200] for part in frames)
    order = np.random.default_rng(1).permutation(200)
    forth = evaluate(truth, found).values()
    mixed = evaluate([truth[k] for k in order], [found[k] for k in order]).values()
    assert forth == pytest.approx(mixed, abs=1e-9)


def test_nothing_at_all() -> None:
    rng = np.random.default_rng(4)
    truth = made_truth(rng, 6)
    none = taken(perfect(truth), np.arange(0))
    empty = replace(none, scores=None)
    for labels, predictions in (
        ([], []),
        ([empty], [none]),
        ([empty], [perfect(truth)]),
        ([truth], [none]),
    ):
        values = evaluate(labels, predictions).values()
        assert len(values) >= 54 and set(values.values()) == {0.0}


def test_the_score_is_of_the_classes_that_there_are() -> None:
    rng = np.random.default_rng(3)
    truth = [made_truth(rng) for _ in range(60)]
    cars = [replace(one, names=("Car",) * len(one)) for one in truth]
    found = flat(evaluate(cars, [perfect(frame) for frame in cars]))
    assert found["Cyclist/3d/AP40/moderate"] == 0
    assert found["score"] == found["Car/3d/AP40/moderate"] > 50
    assert flat(evaluate([cars[0]], [perfect(cars[0])], ["Cyclist"]))["score"] == 0


def test_what_cannot_be_compared_is_refused() -> None:
    frame = made_truth(np.random.default_rng(5))
    with pytest.raises(InputError, match="1 frames of labels and 2 of predictions"):
        evaluate([frame], [perfect(frame)] * 2)
    with pytest.raises(InputError, match="need scores"):
        evaluate([frame], [frame])
    unsure = replace(perfect(frame), scores=np.full(len(frame), np.nan))
    with pytest.raises(InputError, match="no finite numbers"):
        evaluate([frame], [unsure])


def test_other_overlaps_hold_from_above_and_of_volumes() -> None:
    rng = np.random.default_rng(6)
    truth = [made_truth(rng) for _ in range(200)]
    near = [
        replace(perfect(frame), location=frame.location + np.array([0.25, 0, 0])) for frame in truth
    ]
    strict, loose = evaluate(truth, near), evaluate(truth, near, overlaps={"car": 0.5})
    assert strict.curves["Car", "3d", "hard"].ap40 < loose.curves["Car", "3d", "hard"].ap40
    assert strict.curves["Car", "2d", "hard"].ap40 == loose.curves["Car", "2d", "hard"].ap40
