"""The nuScenes detection metric: average precision by the distance of centres, and the errors of
what is found.

Source: Caesar et al., "nuScenes: A multimodal dataset for autonomous driving" (CVPR 2020), and the
benchmark's configuration detection_cvpr_2019. What the benchmark's own evaluator does is kept to
the letter: the order of equal scores, how curves are resampled, and means that go on where an
object has no velocity or attribute.

All frames are matched at once: round k matches the k-th detection of every frame, at all distances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from geodistill.detect.objects import Objects
from geodistill.metrics.rounds import (
    Array,
    Numbers,
    expect_comparable,
    first_free,
    parts_of,
    ranks,
    same_frame,
    stacked,
)

RANGES = {
    **dict.fromkeys(("car", "truck", "bus", "trailer", "construction_vehicle"), 50.0),
    **dict.fromkeys(("pedestrian", "motorcycle", "bicycle"), 40.0),
    **dict.fromkeys(("traffic_cone", "barrier"), 30.0),
}
"""Metres from the vehicle within which objects count, by class."""
CLASSES = tuple(RANGES)
DISTANCES_M = (0.5, 1.0, 2.0, 4.0)
"""Within which a centre is found."""
ERRORS = ("ATE", "ASE", "AOE", "AVE", "AAE")
"""Of translation (m), scale (1 - IoU), orientation (rad), velocity (m/s), attribute (1 - accuracy).
"""
WITHOUT = {"traffic_cone": ("AOE", "AVE", "AAE"), "barrier": ("AVE", "AAE")}
"""Errors that a class does not have."""
HALF_TURNS = ("barrier",)
"""Classes whose front and back are one."""
POSITIONS = 101
LEAST = 0.1  # recall and precision below it count as nothing
_ERROR_DISTANCE = DISTANCES_M.index(2.0)
_FIRST = round(100 * LEAST) + 1


@dataclass(frozen=True, eq=False)
class Curve:
    """Of one class and distance, at recalls 0, 0.01 .. 1, all 0 beyond the recall that was reached.

    Attributes:
        precision: float64 [101].
        scores: float64 [101] at which these recalls are reached.
    """

    precision: Array
    scores: Array

    @property
    def ap(self) -> float:
        """Percent, over recalls above 0.1 and of the precision above 0.1."""
        above = np.maximum(self.precision[_FIRST:] - LEAST, 0)
        return float(100 * above.mean() / (1 - LEAST))


@dataclass(frozen=True, eq=False)
class NuscenesReport:
    """Attributes:
    curves: by (class, distance).
    errors: by (class, error of `ERRORS`), where the class has it and the objects say it.
    counts: by class, how many objects count.
    """

    curves: dict[tuple[str, float], Curve] = field(default_factory=dict)
    errors: dict[tuple[str, str], float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def values(self) -> dict[str, float]:
        """Flat: "car/AP/0.5", "car/AP", "mAP" and "NDS" in percent, "car/ATE", "mATE" and the other
        errors in their units. NDS needs all errors: there is none without velocities and
        attributes.
        """
        found = {f"{name}/AP/{limit:g}": curve.ap for (name, limit), curve in self.curves.items()}
        for name in self.counts:
            found[f"{name}/AP"] = _mean([self.curves[name, limit].ap for limit in DISTANCES_M])
        found["mAP"] = _mean([found[f"{name}/AP"] for name in self.counts])
        found |= {f"{name}/{error}": value for (name, error), value in self.errors.items()}
        means = {}
        for error in ERRORS:
            values = [value for (_, own), value in self.errors.items() if own == error]
            if values:
                means[f"m{error}"] = _mean(values)
        found |= means
        if len(means) == len(ERRORS):
            right = sum(1 - min(1.0, value) for value in means.values())
            found["NDS"] = (5 * found["mAP"] + 100 * right) / 10
        return found


def evaluate(
    truths: Sequence[Objects],
    predictions: Sequence[Objects],
    classes: Sequence[str] = CLASSES,
    ranges: Mapping[str, float] = RANGES,
) -> NuscenesReport:
    """Average precision and errors of detections, frame by frame.

    Args:
        truths: of F frames; those without points do not count.
        predictions: of the same frames, with scores.
        classes: names. One of which there are no objects has an AP of 0 and errors of 1, as the
            benchmark has it.
        ranges: within which objects and detections count; a class that is not in it counts
            everywhere.

    Raises InputError for different numbers of frames, or predictions without finite scores.
    """
    expect_comparable(truths, predictions)
    one, two = _Side(truths), _Side(predictions)
    report = NuscenesReport()
    for name in classes:
        limit = ranges.get(name, math.inf)
        wanted = one.of(name, limit)
        offered = two.of(name, limit)
        # Best first; of equal scores the last comes first, as the benchmark has it.
        offered = offered[np.argsort(two.scores[offered], kind="stable")[::-1]]
        match = _matched(one, two, wanted, offered)
        report.counts[name] = len(wanted)
        for number, distance in enumerate(DISTANCES_M):
            hit = match[:, number] >= 0
            curve = _curve(hit, two.scores[offered], len(wanted))
            report.curves[name, distance] = curve
            if number == _ERROR_DISTANCE:
                found, own = offered[hit], match[hit, number]
                for error, values in _errors(one, two, own, found, name).items():
                    report.errors[name, error] = _resampled(values, two.scores[found], curve)
    return report


class _Side:
    """All frames' objects one after the other."""

    def __init__(self, frames: Sequence[Objects]) -> None:
        self.frame = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
        self.names = np.array([name for frame in frames for name in frame.names], np.str_)
        self.at = stacked([frame.centers[:, :2] for frame in frames], 2)
        self.sizes = stacked([frame.sizes for frame in frames], 3)
        self.yaws = stacked([frame.yaws for frame in frames])
        self.distances = stacked([frame.distances for frame in frames])
        self.scores = stacked([f.scores for f in frames if f.scores is not None])
        some = [frame for frame in frames if len(frame)]
        self.points = stacked(
            [np.ones(len(f)) if f.points is None else f.points.astype(np.float64) for f in some]
        )
        velocities = [f.velocities for f in frames if f.velocities is not None]
        self.velocities = stacked(velocities, 2) if len(velocities) == len(frames) else None
        attributes = [f.attributes for f in frames if f.attributes is not None]
        self.attributes = (
            np.array([name for names in attributes for name in names], np.str_)
            if len(attributes) == len(frames)
            else None
        )

    def of(self, name: str, limit: float) -> Numbers:
        """Of the objects of a class that count."""
        kept = (self.names == name) & (self.distances < limit) & (self.points != 0)
        return np.flatnonzero(kept)


def _matched(one: _Side, two: _Side, wanted: Numbers, offered: Numbers) -> Numbers:
    """What each detection finds within each distance, -1 for nothing: int64 [K, 4].

    Detections, best first, take the nearest object of their frame that is free.
    """
    truth, found, away = _near(one, two, wanted, offered)
    rounds = ranks(two.frame[offered[found]], found)
    order = np.lexsort((truth, away, found, rounds))  # equally near ones: the first
    truth, found, rounds = (part[order] for part in (truth, found, rounds))
    near = away[order, None] < DISTANCES_M  # [P, 4]
    match = np.full((len(offered), len(DISTANCES_M)), -1)
    taken = np.zeros((len(one.frame), len(DISTANCES_M)), bool)
    ends = np.searchsorted(rounds, np.arange(int(rounds.max(initial=-1)) + 2))
    for start, end in pairwise(ends.tolist()):
        own = truth[start:end]
        free = near[start:end] & ~taken[own]
        chosen, at = first_free(found[start:end], free)
        match[found[start + chosen], at] = own[chosen]
        taken[own[chosen], at] = True
    return match


def _near(
    one: _Side, two: _Side, wanted: Numbers, offered: Numbers
) -> tuple[Numbers, Numbers, Array]:
    """Pairs of one frame that could match: objects, places in `offered`, and how far apart."""
    frames, own = one.frame[wanted], two.frame[offered]
    truths, founds, aways = [], [], []
    for places in parts_of(own, frames):
        found, truth = same_frame(own[places], frames)
        found, truth = places[found], wanted[truth]
        away = np.sqrt(((two.at[offered[found]] - one.at[truth]) ** 2).sum(1))
        kept = away < max(DISTANCES_M)
        truths.append(truth[kept])
        founds.append(found[kept])
        aways.append(away[kept])
    return np.concatenate(truths), np.concatenate(founds), np.concatenate(aways)


def _curve(hit: NDArray[np.bool_], scores: Array, count: int) -> Curve:
    """Of detections, best first, that find one of `count` objects each or nothing."""
    if not hit.any():
        return Curve(np.zeros(POSITIONS), np.zeros(POSITIONS))
    true, false = np.cumsum(hit).astype(np.float64), np.cumsum(~hit).astype(np.float64)
    recall, places = true / float(count), np.linspace(0, 1, POSITIONS)
    precision = np.interp(places, recall, true / (false + true), right=0)
    return Curve(precision, np.interp(places, recall, scores, right=0))


def _errors(one: _Side, two: _Side, truth: Numbers, found: Numbers, name: str) -> dict[str, Array]:
    """Of pairs that match: those of `ERRORS` that are known."""
    step = two.at[found] - one.at[truth]
    errors = {"ATE": np.sqrt((step**2).sum(1))}
    a, b = one.sizes[truth], two.sizes[found]
    shared = np.minimum(a, b).prod(1)
    union = a.prod(1) + b.prod(1) - shared
    errors["ASE"] = 1 - np.divide(shared, union, out=np.zeros(len(union)), where=union > 0)
    period = math.pi if name in HALF_TURNS else 2 * math.pi
    turn = one.yaws[truth] - two.yaws[found]
    errors["AOE"] = np.abs((turn + period / 2) % period - period / 2)
    if one.velocities is not None and two.velocities is not None:
        slip = two.velocities[found] - one.velocities[truth]
        errors["AVE"] = np.sqrt((slip**2).sum(1))
    if one.attributes is not None and two.attributes is not None:
        wanted = one.attributes[truth]
        errors["AAE"] = np.where(wanted == "", np.nan, wanted != two.attributes[found])
    return {error: v for error, v in errors.items() if error not in WITHOUT.get(name, ())}


def _resampled(values: Array, scores: Array, curve: Curve) -> float:
    """The mean, over recalls from 0.11 to the largest, of the mean error of what is found so far;
    1 where recall stays below."""
    reached = np.flatnonzero(curve.scores)
    last = int(reached[-1]) if len(reached) else 0
    if last < _FIRST:
        return 1.0
    known = ~np.isnan(values)
    if not known.any():
        return 1.0
    count = known.cumsum()
    total = np.where(known, values, 0.0).cumsum()
    so_far = np.divide(total, count, out=np.zeros(len(total)), where=count > 0)
    at = np.interp(curve.scores[::-1], scores[::-1], so_far[::-1])[::-1]
    return float(at[_FIRST : last + 1].mean())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
