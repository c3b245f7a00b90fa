"""The nuScenes metric one detection after the other, as its definition reads: slow, and made apart
from what it checks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from geodistill.detect.objects import Objects

RANGE = {
    "car": 50, "truck": 50, "bus": 50, "trailer": 50, "construction_vehicle": 50,
    "pedestrian": 40, "motorcycle": 40, "bicycle": 40, "traffic_cone": 30, "barrier": 30,
}  # fmt: skip
THRESHOLDS = (0.5, 1.0, 2.0, 4.0)


def at_place(x: float, xs: list[float], ys: list[float], beyond: float | None) -> float:
    """A line through points of rising x, the last of equal ones; what is before the first is the
    first."""
    if x > xs[-1]:
        return ys[-1] if beyond is None else beyond
    if x < xs[0]:
        return ys[0]
    k = max(i for i in range(len(xs)) if xs[i] <= x)
    if k == len(xs) - 1 or xs[k] == x:
        return ys[k]
    return ys[k] + (ys[k + 1] - ys[k]) / (xs[k + 1] - xs[k]) * (x - xs[k])


def kept(frame: Objects, name: str) -> list[int]:
    return [
        k
        for k in range(len(frame))
        if frame.names[k] == name
        and frame.distances[k] < RANGE.get(name, math.inf)
        and (frame.points is None or frame.points[k] != 0)
    ]


def errors_of(truth: Objects, i: int, found: Objects, j: int, name: str) -> dict[str, float]:
    shift = math.dist(truth.centers[i, :2], found.centers[j, :2])
    a, b = truth.sizes[i].tolist(), found.sizes[j].tolist()
    shared = math.prod(min(p, q) for p, q in zip(a, b, strict=True))
    turn = truth.yaws[i] - found.yaws[j]
    period = math.pi if name == "barrier" else 2 * math.pi
    while turn >= period / 2:
        turn -= period
    while turn < -period / 2:
        turn += period
    result = {
        "ATE": shift,
        "ASE": 1 - shared / (math.prod(a) + math.prod(b) - shared),
        "AOE": abs(turn),
    }
    if truth.velocities is not None and found.velocities is not None:
        result["AVE"] = math.dist(truth.velocities[i], found.velocities[j])
    if truth.attributes is not None and found.attributes is not None:
        own = truth.attributes[i]
        result["AAE"] = math.nan if own == "" else float(own != found.attributes[j])
    return result


def one_class(
    truths: Sequence[Objects], predictions: Sequence[Objects], name: str, threshold: float
) -> tuple[float, dict[str, float]]:
    """AP, 0 to 1, and errors."""
    wanted = [kept(frame, name) for frame in truths]
    count = sum(map(len, wanted))
    listed = [(f, j) for f, frame in enumerate(predictions) for j in kept(frame, name)]
    own = [[] if frame.scores is None else frame.scores.tolist() for frame in predictions]
    scores = [own[f][j] for f, j in listed]
    order = [k for _, k in sorted((score, k) for k, score in enumerate(scores))][::-1]
    taken: set[tuple[int, int]] = set()
    true, hits, hit_scores = [], [], []
    for k in order:
        f, j = listed[k]
        best, nearest = None, math.inf
        for i in wanted[f]:
            if (f, i) in taken:
                continue
            away = math.dist(truths[f].centers[i, :2], predictions[f].centers[j, :2])
            if away < nearest:
                best, nearest = i, away
        true.append(nearest < threshold)
        if best is not None and nearest < threshold:
            taken.add((f, best))
            hits.append(errors_of(truths[f], best, predictions[f], j, name))
            hit_scores.append(scores[k])
    exempt = {"traffic_cone": {"AOE", "AVE", "AAE"}, "barrier": {"AVE", "AAE"}}.get(name, set())
    kinds = [kind for kind in ("ATE", "ASE", "AOE", "AVE", "AAE") if kind not in exempt]
    if not hits:
        return 0.0, dict.fromkeys(kinds, 1.0)
    recall = [sum(true[: k + 1]) / count for k in range(len(true))]
    precision = [sum(true[: k + 1]) / (k + 1) for k in range(len(true))]
    places = [k * (1 / 100) for k in range(100)] + [1.0]
    ordered = [scores[k] for k in order]
    curve = [at_place(x, recall, precision, 0.0) for x in places]
    score = [at_place(x, recall, ordered, 0.0) for x in places]
    ap = sum(max(p - 0.1, 0) for p in curve[11:]) / 90 / 0.9
    last = max((k for k in range(101) if score[k] != 0), default=0)
    errors = {}
    for kind in kinds:
        if kind not in hits[0]:
            continue
        if last < 11:
            errors[kind] = 1.0
            continue
        values = [hit[kind] for hit in hits]
        means = []
        for k in range(len(values)):
            real = [value for value in values[: k + 1] if not math.isnan(value)]
            means.append(sum(real) / len(real) if real else 0.0)
        if all(map(math.isnan, values)):
            means = [1.0] * len(values)
        part = [
            at_place(score[k], hit_scores[::-1], means[::-1], None) for k in range(11, last + 1)
        ]
        errors[kind] = sum(part) / len(part)
    return ap, errors
