"""The KITTI metric one object after the other, as its definition reads: slow, and made apart from
what it checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from geodistill.io.kitti import Labels

SIMILAR = {"car": ["van"], "pedestrian": ["person_sitting"]}
HEIGHT, OCCLUDED, TRUNCATED = (40, 25, 25), (0, 1, 2), (0.15, 0.3, 0.5)


class Thing(NamedTuple):
    name: str
    truncation: float
    occlusion: float
    alpha: float
    bbox: tuple[float, ...]
    size: tuple[float, ...]
    at: tuple[float, ...]
    turn: float
    score: float


def things(frame: Labels) -> list[Thing]:
    score = [0.0] * len(frame) if frame.scores is None else frame.scores.tolist()
    return [
        Thing(
            frame.names[k].lower(),
            float(frame.truncation[k]),
            float(frame.occlusion[k]),
            float(frame.alpha[k]),
            tuple(frame.bbox[k].tolist()),
            tuple(frame.sizes[k].tolist()),
            tuple(frame.location[k].tolist()),
            float(frame.rotation_y[k]),
            score[k],
        )
        for k in range(len(frame))
    ]


def ground_outline(thing: Thing) -> list[tuple[float, float]]:
    """Corners on the ground in x and z, counter-clockwise."""
    _, width, length = thing.size
    x, _, z = thing.at
    cos, sin = math.cos(thing.turn), math.sin(thing.turn)
    local = [(length / 2, -width / 2), (length / 2, width / 2)]
    local += [(-u, -v) for u, v in local]
    return [(x + u * cos + v * sin, z - u * sin + v * cos) for u, v in local]


def polygon_area(points: list[tuple[float, float]]) -> float:
    return (
        sum(
            points[i - 1][0] * points[i][1] - points[i][0] * points[i - 1][1]
            for i in range(len(points))
        )
        / 2
    )


def clip(subject: list[tuple[float, float]], window: list[tuple[float, float]]) -> float:
    for k in range(len(window)):
        (ax, ay), (bx, by) = window[k - 1], window[k]
        kept = []
        for i in range(len(subject)):
            (px, py), (qx, qy) = subject[i - 1], subject[i]
            s = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
            t = (bx - ax) * (qy - ay) - (by - ay) * (qx - ax)
            if (s < 0) != (t < 0):
                u = s / (s - t)
                kept.append((px + u * (qx - px), py + u * (qy - py)))
            if t >= 0:
                kept.append((qx, qy))
        subject = kept
    return polygon_area(subject) if len(subject) > 2 else 0.0


@cache
def overlap(one: Thing, two: Thing, view: str) -> float:
    if view == "2d":
        w = min(one.bbox[2], two.bbox[2]) - max(one.bbox[0], two.bbox[0])
        h = min(one.bbox[3], two.bbox[3]) - max(one.bbox[1], two.bbox[1])
        if w <= 0 or h <= 0:
            return 0.0
        areas = [(t.bbox[2] - t.bbox[0]) * (t.bbox[3] - t.bbox[1]) for t in (one, two)]
        return w * h / (sum(areas) - w * h)
    shared = clip(ground_outline(one), ground_outline(two))
    flat = [t.size[1] * t.size[2] for t in (one, two)]
    if view == "bev":
        return shared / (sum(flat) - shared)
    low = max(one.at[1] - one.size[0], two.at[1] - two.size[0])
    shared *= max(min(one.at[1], two.at[1]) - low, 0.0)
    whole = sum(t.size[0] * area for t, area in zip((one, two), flat, strict=True))
    return shared / (whole - shared)


def states(
    truth: list[Thing], found: list[Thing], name: str, level: int
) -> tuple[list[int], list[int]]:
    """0 counts, 1 is ignored, -1 is of another class."""
    of_truth = []
    for thing in truth:
        tall = thing.bbox[3] - thing.bbox[1]
        hard = (
            thing.occlusion > OCCLUDED[level]
            or thing.truncation > TRUNCATED[level]
            or tall <= HEIGHT[level]
        )
        if thing.name == name:
            of_truth.append(1 if hard else 0)
        else:
            of_truth.append(1 if thing.name in SIMILAR.get(name, []) else -1)
    of_found = []
    for thing in found:
        if abs(thing.bbox[3] - thing.bbox[1]) < HEIGHT[level]:
            of_found.append(1)
        else:
            of_found.append(0 if thing.name == name else -1)
    return of_truth, of_found


def precisions(
    labels: Sequence[Labels],
    predictions: Sequence[Labels],
    name: str,
    view: str,
    level: int,
    least: float,
) -> tuple[list[float], list[float]]:
    """At 41 positions, before what is better at higher recalls is filled in; and of orientation."""
    frames = [(things(one), things(two)) for one, two in zip(labels, predictions, strict=True)]
    hits, count = [], 0
    for truth, found in frames:
        of_truth, of_found = states(truth, found, name, level)
        count += of_truth.count(0)
        taken: set[int] = set()
        for i, thing in enumerate(truth):
            if of_truth[i] == -1:
                continue
            best = -1
            for j, other in enumerate(found):
                if of_found[j] == -1 or j in taken or not overlap(other, thing, view) > least:
                    continue
                if best < 0 or other.score > found[best].score:
                    best = j
            if best >= 0:
                taken.add(best)
                if of_truth[i] == 0 and of_found[best] == 0:
                    hits.append(found[best].score)
    thresholds = []
    recall = 0.0
    hits.sort(reverse=True)
    for i, score in enumerate(hits):
        left = (i + 1) / count
        right = (i + 2) / count if i < len(hits) - 1 else left
        if right - recall < recall - left and i < len(hits) - 1:
            continue
        thresholds.append(score)
        recall += 1 / 40
    precision, similarity = [0.0] * 41, [0.0] * 41
    for k, threshold in enumerate(thresholds):
        true = false = 0
        alike = 0.0
        for truth, found in frames:
            of_truth, of_found = states(truth, found, name, level)
            taken = set()
            for i, thing in enumerate(truth):
                if of_truth[i] == -1:
                    continue
                best, most, late = -1, least, False
                for j, other in enumerate(found):
                    if of_found[j] == -1 or j in taken or other.score < threshold:
                        continue
                    share = overlap(other, thing, view)
                    if not share > least:
                        continue
                    if of_found[j] == 0 and (share > most or late):
                        best, most, late = j, share, False
                    elif of_found[j] == 1 and best < 0:
                        best, late = j, True
                if best < 0:
                    continue
                taken.add(best)
                if of_truth[i] == 0 and of_found[best] == 0:
                    true += 1
                    alike += (1 + math.cos(thing.alpha - found[best].alpha)) / 2
            for j, other in enumerate(found):
                if j in taken or of_found[j] != 0 or other.score < threshold:
                    continue
                if view == "2d" and any(
                    thing.name == "dontcare" and within(other, thing) > least for thing in truth
                ):
                    continue
                false += 1
        precision[k] = true / (true + false) if true else 0.0
        similarity[k] = alike / (true + false) if true else 0.0
    return precision, similarity


def within(inner: Thing, region: Thing) -> float:
    """The share of a box in the image that lies in a region."""
    w = min(inner.bbox[2], region.bbox[2]) - max(inner.bbox[0], region.bbox[0])
    h = min(inner.bbox[3], region.bbox[3]) - max(inner.bbox[1], region.bbox[1])
    area = (inner.bbox[2] - inner.bbox[0]) * (inner.bbox[3] - inner.bbox[1])
    return max(w, 0) * max(h, 0) / area


def average(precision: list[float], positions: Sequence[int]) -> float:
    """Percent."""
    return 100 * sum(max(precision[k:]) for k in positions) / len(positions)
