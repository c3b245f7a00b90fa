"""The nuScenes metric against its definition read slowly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from geodistill.checks import InputError
from geodistill.detect.objects import Objects
from geodistill.metrics import rounds
from geodistill.metrics.nuscenes import CLASSES, DISTANCES_M, evaluate
from tests.metrics import nuscenes_oracle

CHANCES = (0.3, 0.1, 0.05, 0.05, 0.05, 0.2, 0.05, 0.05, 0.1, 0.05)
ATTRIBUTES = ("", "vehicle.moving", "vehicle.parked")


def made_truth(rng: np.random.Generator, most: int = 12) -> Objects:
    """Some on top of each other, some too far, some without points, velocity or attribute."""
    count = int(rng.integers(0, most + 1))
    centers = rng.uniform(-12, 12, (count, 3))
    if count > 3:
        centers[1] = centers[0]
    velocities = rng.normal(0, 3, (count, 2))
    velocities[rng.random(count) < 0.1] = np.nan
    return Objects(
        tuple(rng.choice(CLASSES, count, p=CHANCES).tolist()),
        centers,
        rng.uniform(0.5, 4, (count, 3)),
        rng.uniform(-np.pi, np.pi, count),
        rng.choice([5.0, 20.0, 29.9, 30.0, 40.0, 50.0, 60.0], count, p=[0.7] + [0.05] * 6),
        velocities,
        tuple(rng.choice(ATTRIBUTES, count).tolist()),
        points=rng.choice([0, 1, 40], count, p=[0.05, 0.15, 0.8]),
    )


def made_predictions(rng: np.random.Generator, truth: Objects) -> Objects:
    """Near copies, several of some, at the very limits too; others anywhere; ties of scores."""
    which = np.repeat(np.arange(len(truth)), rng.integers(0, 4, len(truth)))
    other = made_truth(rng, 4)
    size = len(which)
    step = rng.choice([0.0, 0.2, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0], (size, 1))
    towards = rng.choice([-1.0, 0.0, 1.0], (size, 3))
    names = [truth.names[k] if rng.random() < 0.9 else "car" for k in which]
    joined = Objects(
        (*names, *other.names),
        np.concatenate([truth.centers[which] + step * towards, other.centers]),
        np.concatenate([truth.sizes[which] * rng.uniform(0.8, 1.3, (size, 3)), other.sizes]),
        np.concatenate([truth.yaws[which] + rng.normal(0, 1, size), other.yaws]),
        np.concatenate([truth.distances[which], other.distances]),
        rng.normal(0, 3, (size + len(other), 2)),
        tuple(rng.choice(ATTRIBUTES, size + len(other)).tolist()),
        np.round(rng.random(size + len(other)), 2),
    )
    return taken(joined, rng.permutation(len(joined)))


def taken(objects: Objects, order: np.ndarray) -> Objects:
    parts = {
        name: value[order] for name, value in vars(objects).items() if isinstance(value, np.ndarray)
    }
    attributes = objects.attributes
    if attributes is not None:
        attributes = tuple(attributes[k] for k in order)
    names = tuple(objects.names[k] for k in order)
    return replace(objects, names=names, attributes=attributes, **parts)


def perfect(truth: Objects) -> Objects:
    return replace(truth, scores=np.linspace(0.9, 0.1, len(truth)), points=None)


@pytest.fixture(scope="module")
def frames() -> tuple[list[Objects], list[Objects]]:
    rng = np.random.default_rng(0)
    truth = [made_truth(rng) for _ in range(400)]
    return truth, [made_predictions(rng, frame) for frame in truth]


def test_every_value_is_that_of_the_definition(
    frames: tuple[list[Objects], list[Objects]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "PAIRS", 300)  # many parts
    values = evaluate(*frames).values()
    sums: dict[str, list[float]] = {}
    for name in CLASSES:
        for limit in DISTANCES_M:
            ap, errors = nuscenes_oracle.one_class(*frames, name, limit)
            assert ap > 0.02
            assert values[f"{name}/AP/{limit:g}"] == pytest.approx(100 * ap, abs=1e-9)
            sums.setdefault("mAP", []).append(100 * ap)
            if limit == 2:
                own = {key.split("/")[1] for key in values if key.startswith(f"{name}/")}
                assert own == {"AP", *errors}
                for kind, value in errors.items():
                    assert values[f"{name}/{kind}"] == pytest.approx(value, abs=1e-9)
                    sums.setdefault(f"m{kind}", []).append(value)
    means = {name: sum(part) / len(part) for name, part in sums.items()}
    assert len(means) == 6
    for name, value in means.items():
        assert values[name] == pytest.approx(value, abs=1e-9)
    score = 5 * means["mAP"] / 100
    score += sum(max(1 - value, 0) for name, value in means.items() if name != "mAP")
    assert values["NDS"] == pytest.approx(100 * score / 10, abs=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_few_frames_hit_the_corners(seed: int) -> None:
    rng = np.random.default_rng([7, seed])
    truth = [made_truth(rng, 5) for _ in range(seed)]
    found = [made_predictions(rng, frame) for frame in truth]
    if seed % 3 == 0:  # scores of 0 end the curve of scores, as the benchmark has it
        found = [replace(f, scores=np.round(np.zeros(len(f)) + (f.yaws > 0), 1)) for f in found]
    values = evaluate(truth, found).values()
    for name in CLASSES:
        for limit in DISTANCES_M:
            ap, errors = nuscenes_oracle.one_class(truth, found, name, limit)
            assert values[f"{name}/AP/{limit:g}"] == pytest.approx(100 * ap, abs=1e-9)
        ap, errors = nuscenes_oracle.one_class(truth, found, name, 2.0)
        for kind, value in errors.items():
            assert values[f"{name}/{kind}"] == pytest.approx(value, abs=1e-9)


def test_a_perfect_detector_is_perfect(frames: tuple[list[Objects], list[Objects]]) -> None:
    truth = [
        replace(
            frame,
            velocities=np.ones((len(frame), 2)),
            attributes=("vehicle.moving",) * len(frame),
            points=None,
        )
        for frame in frames[0]
    ]
    values = evaluate(truth, [perfect(frame) for frame in truth]).values()
    assert values["NDS"] == pytest.approx(100) and values["mAP"] == pytest.approx(100)
    assert all(values[key] == pytest.approx(0, abs=1e-12) for key in values if key[-2:] == "OE")


def test_what_is_wrong_lowers_what_it_concerns(
    frames: tuple[list[Objects], list[Objects]],
) -> None:
    truth = [replace(frame, points=None) for frame in frames[0]]
    right = [perfect(frame) for frame in truth]
    best = evaluate(truth, right).values()

    def changed(found: list[Objects]) -> set[str]:
        values = evaluate(truth, found).values()
        return {key for key in values if values[key] != pytest.approx(best[key], abs=1e-9)}

    turned = [replace(frame, yaws=frame.yaws + np.pi) for frame in right]
    kinds = {key for key in best if key.endswith("/AOE")}
    assert changed(turned) == {*kinds, "mAOE", "NDS"} - {"barrier/AOE"}
    assert evaluate(truth, turned).values()["car/AOE"] == pytest.approx(np.pi)
    raised = [replace(frame, centers=frame.centers + np.array([0, 0, 5.0])) for frame in right]
    assert changed(raised) == set()
    wide = [replace(frame, sizes=frame.sizes * np.array([1, 2.0, 1])) for frame in right]
    assert changed(wide) == {key for key in best if key.endswith("ASE")} | {"NDS"}
    assert evaluate(truth, wide).values()["mASE"] == pytest.approx(0.5)
    shifted = [replace(frame, centers=frame.centers + np.array([0.6, 0, 0])) for frame in right]
    lost = changed(shifted)
    assert {"car/AP/0.5", "car/ATE", "mAP"} <= lost and "car/AP/4" not in lost


def test_errors_that_nothing_says_are_left_out(
    frames: tuple[list[Objects], list[Objects]],
) -> None:
    truth, found = frames
    whole = evaluate(truth, found).values()
    plain = [replace(frame, velocities=None, attributes=None) for frame in found]
    values = evaluate(truth, plain).values()
    assert {key.split("/")[-1] for key in whole.keys() - values.keys()} == {
        "AVE", "AAE", "mAVE", "mAAE", "NDS",
    }  # fmt: skip
    assert all(whole[key] == value for key, value in values.items())
    nothing = [frame.chosen(np.zeros(len(frame), bool)) for frame in plain]
    assert evaluate(truth, nothing).values().keys() == values.keys()


def test_classes_and_ranges_of_other_data(frames: tuple[list[Objects], list[Objects]]) -> None:
    def renamed(frame: Objects) -> Objects:
        names = tuple("Tram" if name == "car" else name for name in frame.names)
        return replace(frame, names=names)

    truth, found = ([renamed(frame) for frame in part] for part in frames)
    everywhere = evaluate(truth, found, ("Tram",))
    near = evaluate(truth, found, ("Tram",), {"Tram": 50.0})
    assert everywhere.counts["Tram"] > near.counts["Tram"]
    assert near.values()["Tram/AP"] == evaluate(*frames).values()["car/AP"]
    none = evaluate(truth, found, ("Ship",)).values()
    assert none["Ship/AP"] == 0 and none["mATE"] == 1 and none["NDS"] == 0


def test_the_order_of_frames_without_ties_is_nothing() -> None:
    rng = np.random.default_rng(5)
    truth = [made_truth(rng) for _ in range(100)]
    found = [made_predictions(rng, frame) for frame in truth]
    found = [replace(frame, scores=rng.random(len(frame))) for frame in found]
    order = rng.permutation(100)
    mixed = evaluate([truth[k] for k in order], [found[k] for k in order]).values()
    assert evaluate(truth, found).values() == pytest.approx(mixed, abs=1e-9)


def test_what_cannot_be_compared_is_refused() -> None:
    frame = made_truth(np.random.default_rng(5))
    with pytest.raises(InputError, match="1 frames of labels and 2 of predictions"):
        evaluate([frame], [perfect(frame)] * 2)
    with pytest.raises(InputError, match="need scores"):
        evaluate([frame], [frame])
    with pytest.raises(InputError, match="no finite numbers"):
        evaluate([frame], [replace(frame, scores=np.full(len(frame), np.nan))])
    with pytest.raises(InputError, match=r"sizes of \d+ objects must be"):
        replace(frame, sizes=frame.sizes[:, :2])
    with pytest.raises(InputError, match="1 attributes"):
        replace(frame, attributes=("",))
