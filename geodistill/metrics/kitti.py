"""The KITTI object benchmark's average precision: 2D, bird's-eye view, 3D and orientation.

Source: Geiger, Lenz and Urtasun, "Are we ready for autonomous driving?" (CVPR 2012); 40 recall
positions after Simonelli et al., "Disentangling Monocular 3D Object Detection" (ICCV 2019). What
the benchmark's own evaluator does is kept to the letter, as results are compared to its: which
labels are ignored, the order in which objects are matched, and the thresholds.

All frames are matched at once: round k matches the k-th object of every frame, at all thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from geodistill.detect.overlap import intersection_area
from geodistill.io.kitti import UNKNOWN_ALPHA, Labels
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

LEVELS = ("easy", "moderate", "hard")
LEAST_HEIGHT_PX = (40.0, 25.0, 25.0)
MOST_OCCLUSION = (0, 1, 2)
MOST_TRUNCATION = (0.15, 0.3, 0.5)
CLASSES = ("Car", "Pedestrian", "Cyclist")
IGNORED = {"car": "van", "pedestrian": "person_sitting"}
"""Classes that count neither for nor against another."""
OVERLAPS = {"car": 0.7}
"""By class; 0.5 for all others."""
VIEWS = ("2d", "bev", "3d")
POSITIONS = 41
_OTHER, _COUNTS, _IGNORED = -1, 0, 1


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision over recall of one class, view and level.

    Attributes:
        precision: float64 [41], at recalls 0, 1/40 .. 1: the best at that recall or above; 0 beyond
            the recall that was reached.
    """

    precision: Array

    @property
    def ap40(self) -> float:
        """Percent, over 40 positions without that at a recall of 0."""
        return float(100 * self.precision[1:].sum() / (POSITIONS - 1))

    @property
    def ap11(self) -> float:
        """Percent, over 11 positions."""
        return float(100 * self.precision[::4].sum() / 11)


@dataclass(frozen=True, eq=False)
class KittiReport:
    """Attributes:
    curves: by (class, view, level), views being "2d", "bev", "3d" and "aos".
    counts: by (class, level), how many objects count.
    """

    curves: dict[tuple[str, str, str], Curve] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def values(self) -> dict[str, float]:
        """Flat, such as "Car/3d/AP40/moderate": percent."""
        found = {}
        for (name, view, level), curve in self.curves.items():
            found[f"{name}/{view}/AP40/{level}"] = curve.ap40
            found[f"{name}/{view}/AP11/{level}"] = curve.ap11
        return found


def caps(count: int) -> tuple[float, float]:
    """The largest AP40 and AP11 in percent that `count` objects allow, those of a perfect detector:
    with fewer than 41 the benchmark's thresholds do not reach all recalls."""
    perfect = Curve((np.arange(POSITIONS) < count).astype(float))
    return perfect.ap40, perfect.ap11


def count_valid(labels: Sequence[Labels], name: str) -> tuple[int, ...]:
    """How many objects of a class count at each level."""
    counts = [0] * len(LEVELS)
    for frame in labels:
        own = _names([frame]) == name.lower()
        height = frame.bbox[:, 3] - frame.bbox[:, 1]
        for level in range(len(LEVELS)):
            within = _within(height, frame.occlusion, frame.truncation, level)
            counts[level] += int((own & within).sum())
    return tuple(counts)


def evaluate(
    labels: Sequence[Labels],
    predictions: Sequence[Labels],
    classes: Sequence[str] = CLASSES,
    overlaps: dict[str, float] | None = None,
    views: Sequence[str] = VIEWS,
) -> KittiReport:
    """Average precision of predictions, frame by frame.

    Args:
        labels: of F frames; objects named DontCare are regions in which 2D detections do not count.
        predictions: of the same frames, with scores.
        classes: names, case-insensitive.
        overlaps: least intersection over union in bird's-eye view and 3D by class in lower case,
            in the place of `OVERLAPS`; 2D keeps those.
        views: of "2d", "bev" and "3d".

    Returns:
        Curves of the views, and with 2D those of orientation ("aos") where all predictions say it.

    Raises InputError for different numbers of frames, or predictions without finite scores.
    """
    expect_comparable(labels, predictions)
    scene = _Scene(labels, predictions)
    report = KittiReport()
    for name in classes:
        own = name.lower()
        for number, level in enumerate(LEVELS):
            wanted, offered = scene.label_state(own, number), scene.prediction_state(own, number)
            report.counts[name, level] = int((wanted == _COUNTS).sum())
            for view in views:
                usual = OVERLAPS.get(own, 0.5)
                least = usual if view == "2d" or overlaps is None else overlaps.get(own, usual)
                curve, orientation = _curves(scene, view, least, wanted, offered)
                report.curves[name, view, level] = curve
                if view == "2d" and scene.says_alpha(own):
                    report.curves[name, "aos", level] = orientation
    return report


class _Scene:
    """All frames' objects one after the other, and the pairs of them that overlap."""

    def __init__(self, labels: Sequence[Labels], predictions: Sequence[Labels]) -> None:
        self.frame_of_label = _frames(labels)
        self.frame_of_prediction = _frames(predictions)
        self.label_names = _names(labels)
        self.prediction_names = _names(predictions)
        self.scores = stacked([frame.scores for frame in predictions if frame.scores is not None])
        self.alphas = stacked([f.alpha for f in labels]), stacked([f.alpha for f in predictions])
        boxes = stacked([f.bbox for f in labels], 4), stacked([f.bbox for f in predictions], 4)
        self.heights = tuple(box[:, 3] - box[:, 1] for box in boxes)
        self.occlusion = stacked([f.occlusion for f in labels])
        self.truncation = stacked([f.truncation for f in labels])
        solids = _boxes(labels), _boxes(predictions)
        # How much of a prediction lies in a region that nobody has labelled.
        self.covered = np.zeros(len(self.scores))
        parts = [
            self._overlapping(places, boxes, solids)
            for places in parts_of(self.frame_of_label, self.frame_of_prediction)
        ]
        labelled, predicted, overlaps = zip(*parts, strict=True)
        self.of_label, self.of_prediction = np.concatenate(labelled), np.concatenate(predicted)
        self.overlap = {view: np.concatenate([part[view] for part in overlaps]) for view in VIEWS}

    def _overlapping(
        self, places: Numbers, boxes: tuple[Array, Array], solids: tuple[Array, Array]
    ) -> tuple[Numbers, Numbers, dict[str, Array]]:
        """Pairs of labels at some places and predictions of their frames: the numbers of both, and
        their overlaps by view, of which one at least is above 0."""
        label, prediction = same_frame(self.frame_of_label[places], self.frame_of_prediction)
        label = places[label]
        shared, areas = _shared_px(boxes[0][label], boxes[1][prediction])
        unlabelled = self.label_names[label] == "dontcare"
        np.maximum.at(self.covered, prediction[unlabelled], _ratio(shared, areas[1])[unlabelled])
        found = {
            "2d": _ratio(shared, areas[0] + areas[1] - shared),
            **_solid(solids[0][label], solids[1][prediction]),
        }
        kept = np.any([found[view] > 0 for view in VIEWS], 0)
        return label[kept], prediction[kept], {view: found[view][kept] for view in VIEWS}

    def label_state(self, name: str, level: int) -> NDArray[np.int8]:
        own = self.label_names == name
        hard = ~_within(self.heights[0], self.occlusion, self.truncation, level)
        similar = self.label_names == IGNORED.get(name, "")
        state = np.full(len(own), _OTHER, np.int8)
        state[own & ~hard] = _COUNTS
        state[(own & hard) | similar] = _IGNORED
        return state

    def prediction_state(self, name: str, level: int) -> NDArray[np.int8]:
        state = np.where(self.prediction_names == name, _COUNTS, _OTHER).astype(np.int8)
        state[np.abs(self.heights[1]) < LEAST_HEIGHT_PX[level]] = _IGNORED
        return state

    def says_alpha(self, name: str) -> bool:
        """Whether there are predictions of a class, and none, of any class, without its angle."""
        return name in self.prediction_names and bool((self.alphas[1] != UNKNOWN_ALPHA).all())


def _within(height: Array, occlusion: Array, truncation: Array, level: int) -> NDArray[np.bool_]:
    """Whether objects are as easy to see as a level asks for."""
    return (
        (height > LEAST_HEIGHT_PX[level])
        & (occlusion <= MOST_OCCLUSION[level])
        & (truncation <= MOST_TRUNCATION[level])
    )


def _curves(
    scene: _Scene,
    view: str,
    least: float,
    wanted: NDArray[np.int8],
    offered: NDArray[np.int8],
) -> tuple[Curve, Curve]:
    """Of precision, and of precision times the similarity of orientations."""
    keep = scene.overlap[view] > least
    keep &= (wanted[scene.of_label] >= 0) & (offered[scene.of_prediction] >= 0)
    label, prediction = scene.of_label[keep], scene.of_prediction[keep]
    overlap = scene.overlap[view][keep]
    rounds = ranks(scene.frame_of_label[label], label)
    scores = scene.scores

    # First each object takes the free prediction of the highest score: which scores matter?
    best = np.lexsort((np.arange(len(label)), -scores[prediction], label))
    everything = np.full(1, -np.inf)
    hits = []
    for pairs, _ in _matched(rounds, label, prediction, best, scores, everything):
        counts = (wanted[label[pairs]] == _COUNTS) & (offered[prediction[pairs]] == _COUNTS)
        hits.append(scores[prediction[pairs[counts]]])
    count = int((wanted == _COUNTS).sum())
    thresholds = _thresholds(np.concatenate([*hits, np.zeros(0)]), count)

    # Then, at each threshold, that of the largest overlap; those too low to count come last.
    late = offered[prediction] == _IGNORED
    best = np.lexsort((np.arange(len(label)), np.where(late, 0.0, -overlap), late, label))
    true = np.zeros(len(thresholds))
    alike = np.zeros(len(thresholds))
    free = (scores[:, None] >= thresholds) & (offered == _COUNTS)[:, None]
    if view == "2d":
        free &= (scene.covered <= least)[:, None]
    for pairs, at in _matched(rounds, label, prediction, best, scores, thresholds):
        counts = (wanted[label[pairs]] == _COUNTS) & (offered[prediction[pairs]] == _COUNTS)
        turn = scene.alphas[0][label[pairs]] - scene.alphas[1][prediction[pairs]]
        np.add.at(true, at[counts], 1.0)
        np.add.at(alike, at[counts], (1 + np.cos(turn[counts])) / 2)
        free[prediction[pairs], at] = False
    found = true + free.sum(0)
    return _curve(_ratio(true, found)), _curve(_ratio(alike, found))


def _matched(
    rounds: Numbers,
    label: Numbers,
    prediction: Numbers,
    best: Numbers,
    scores: Array,
    thresholds: Array,
) -> list[tuple[Numbers, Numbers]]:
    """Matches of each round: pairs, and the numbers of the thresholds that they hold at.

    An object takes the first free pair in the order `best`, in which an object's pairs are
    together.
    """
    taken = np.zeros((len(scores), len(thresholds)), bool)
    found = []
    ordered = rounds[best]
    for number in range(int(rounds.max(initial=-1)) + 1):
        pairs = best[ordered == number]
        mine = prediction[pairs]
        free = (scores[mine, None] >= thresholds) & ~taken[mine]
        rows, at = first_free(label[pairs], free)
        chosen = pairs[rows]
        taken[prediction[chosen], at] = True
        found.append((chosen, at))
    return found


def _thresholds(hits: Array, count: int) -> Array:
    """The scores at which recall passes 0, 1/40 .. 1, as the evaluator chooses them."""
    ordered = np.sort(hits)[::-1]
    kept, recall = [], 0.0
    for k, score in enumerate(ordered):
        left, right = (k + 1) / count, (min(k + 1, len(ordered) - 1) + 1) / count
        if right - recall < recall - left and k < len(ordered) - 1:
            continue
        kept.append(score)
        recall += 1 / (POSITIONS - 1)
    return np.array(kept[:POSITIONS])


def _curve(precision: Array) -> Curve:
    padded = np.zeros(POSITIONS)
    padded[: len(precision)] = precision
    return Curve(np.maximum.accumulate(padded[::-1])[::-1].copy())


def _shared_px(one: Array, two: Array) -> tuple[Array, tuple[Array, Array]]:
    """Areas that boxes in images share, and their own."""
    low, high = np.maximum(one[:, :2], two[:, :2]), np.minimum(one[:, 2:], two[:, 2:])
    areas = tuple(np.prod(box[:, 2:] - box[:, :2], 1) for box in (one, two))
    return np.prod(np.clip(high - low, 0, None), 1), (areas[0], areas[1])


def _solid(one: Array, two: Array) -> dict[str, Array]:
    """Intersection over union from above, and of volumes, of pairs of boxes [P, 7]."""
    away = np.linalg.norm(one[:, :2] - two[:, :2], axis=1)
    reach = (np.linalg.norm(one[:, 3:5], axis=1) + np.linalg.norm(two[:, 3:5], axis=1)) / 2
    near = np.flatnonzero(away < reach)
    shared = np.zeros(len(one))
    pairs = (torch.from_numpy(boxes[near]) for boxes in (one, two))
    shared[near] = intersection_area(*pairs).numpy()
    low = np.maximum(one[:, 2] - one[:, 5] / 2, two[:, 2] - two[:, 5] / 2)
    high = np.minimum(one[:, 2] + one[:, 5] / 2, two[:, 2] + two[:, 5] / 2)
    volume = shared * np.clip(high - low, 0, None)
    found = {}
    for view, part, sizes in (("bev", shared, slice(3, 5)), ("3d", volume, slice(3, 6))):
        own = np.prod(one[:, sizes], 1) + np.prod(two[:, sizes], 1)
        found[view] = _ratio(part, own - part)
    return found


def _boxes(frames: Sequence[Labels]) -> Array:
    """Seen from above with the camera's x to the right and its z up the page: boxes [N, 7]."""
    sizes = stacked([frame.sizes for frame in frames], 3)
    at = stacked([frame.location for frame in frames], 3)
    turn = stacked([frame.rotation_y for frame in frames])
    height, width, length = sizes.T
    middle = height / 2 - at[:, 1]
    return np.stack([at[:, 0], at[:, 2], middle, length, width, height, -turn], 1)


def _frames(frames: Sequence[Labels]) -> Numbers:
    return np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])


def _names(frames: Sequence[Labels]) -> NDArray[np.str_]:
    return np.array([name.lower() for frame in frames for name in frame.names], np.str_)


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
