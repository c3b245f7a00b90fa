"""Losses of what heads say, and where objects are, against slow readings of their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geodistill.detect.overlap import iou_nearest
from geodistill.detect.scenes import Detections
from geodistill.distill.losses import build_loss
from geodistill.distill.losses.assignment import with_detections
from geodistill.distill.losses.gid import distances, within
from geodistill.distill.losses.nd import places_of_objects
from tests.distill.losses.seen_scans import AREA, BOXES, LABELS, detector, heads, maps, seen
from tests.distill.losses.slow_formulas import close, numbers, sigmoid, value


def labels() -> np.ndarray:
    return torch.stack([one.label for one in seen(detector(16, 0)).targets]).numpy()


def smooth(t: np.ndarray, s: np.ndarray) -> float:
    total = 0.0
    for k in range(7):
        d = abs(t[k] - s[k]) if k < 6 else abs(math.sin(t[k] - s[k]))
        total += d * d / 2 * 9 if d < 1 / 9 else d - 1 / 18
    return total


def test_logits_at_the_anchors_of_objects() -> None:
    t, s, own = heads(1), heads(2), labels()
    classes = codes = count = 0.0
    for k in range(2):
        for a in np.flatnonzero(own[k] >= 0):
            away = sigmoid(numbers(t.logits[k, a])) - sigmoid(numbers(s.logits[k, a]))
            classes += (away**2).sum()
            codes += smooth(numbers(t.codes[k, a]), numbers(s.codes[k, a]))
            count += 1
    assert count > 4
    assert value("logits", t, s) == close(15 * classes / count + 0.2 * codes / count)


def test_kd_over_all_anchors() -> None:
    t, s = heads(1), heads(2)
    p, q = (sigmoid(numbers(x.logits) / 2) for x in (t, s))
    apart = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert value("kd", t, s) == close(4 * apart.sum() / (labels() >= 0).sum())


def test_pld_ranks_the_right_class_first() -> None:
    t, s, own = heads(1), heads(2), labels()
    t.logits.add_(3)  # so that the right class is not the teacher's first by chance
    total = count = 0.0
    for k in range(2):
        for a in np.flatnonzero(own[k] >= 0):
            z, y = numbers(t.logits[k, a]), numbers(s.logits[k, a])
            weight = np.exp(z) / np.exp(z).sum()
            order = [own[k, a], *sorted({0, 1, 2} - {own[k, a]}, key=lambda c: -z[c])]
            for place, c in enumerate(order):
                rest = sum(math.exp(y[d]) for d in order[place:])
                total -= weight[c] * math.log(math.exp(y[c]) / rest)
            count += 1
    assert value("pld", t, s) == close(total / count)


def test_nd_at_the_places_of_objects() -> None:
    t, s = maps(6, 16, seed=1), maps(6, 16, seed=2)
    own = seen(detector(16, 0))
    triples = set()
    for k, one in enumerate(own.targets):
        for a in np.flatnonzero(one.label.numpy() >= 0):
            triples.add((k, int(a) // 6, int(one.label[a])))
    found = places_of_objects(own, (16, 16))
    assert set(zip(*(x.tolist() for x in found), strict=True)) == triples
    flat = [numbers(x.flatten(2)) for x in (t, s)]
    total = 0.0
    for k, place, label in triples:
        mean = np.mean([flat[0][i, :, p] for i, p, c in triples if c == label], 0)
        direction = mean / np.linalg.norm(mean)
        a, b = flat[0][k, :, place], flat[1][k, :, place]
        total += 1 - b @ direction / max(np.linalg.norm(a), np.linalg.norm(b))
    assert value("nd", t, s) == close(total / len(triples))


def test_ofa_at_the_head_and_at_the_exits() -> None:
    t, s, stage, own = heads(1), heads(2), maps(4, 16, seed=3), labels()
    options = {"loss": "ofa", "stages": ("backbone.stages.0",), "gamma": 1.5}
    loss = build_loss(options, t, (s, stage))
    found = loss(t, (s, stage), seen(detector(16, 0)), 0.0).item()
    left = numbers(loss.exits[0](stage).detach().flatten(2))
    total = count = 0.0
    for k in range(2):
        for a in np.flatnonzero(own[k] >= 0):
            p = np.exp(numbers(t.logits[k, a]))
            p, y = p / p.sum(), own[k, a]
            for z in (numbers(s.logits[k, a]), left[k, :, a // 6]):
                q = np.exp(z) / np.exp(z).sum()
                total -= (1 + p[y]) ** 1.5 * math.log(q[y])
                total -= sum(p[c] * math.log(q[c]) for c in range(3) if c != y)
            count += 1
    assert found == close(total / count)


def test_instances_are_sampled_where_they_are() -> None:
    """Of a map that is linear in x and y, what is in a box is linear too."""
    x = (torch.arange(64) + 0.5) * 0.2
    y = -6.4 + (torch.arange(64) + 0.5) * 0.2
    flat = torch.stack([x.expand(64, 64), y[:, None].expand(64, 64)])
    found = within(flat, BOXES[0], AREA, 3)
    torch.testing.assert_close(found.mean((2, 3)), BOXES[0][:, :2], atol=1e-4, rtol=0)
    yaw, length = BOXES[0][:, 6], BOXES[0][:, 3]
    ahead = found[:, :, 1, 2] - found[:, :, 1, 0]
    expected = torch.stack([yaw.cos(), yaw.sin()], 1) * (2 / 3 * length)[:, None]
    torch.testing.assert_close(ahead, expected, atol=1e-4, rtol=0)
    corner = found[:, :, 2, 2] - found[:, :, 1, 2]
    left = torch.stack([-yaw.sin(), yaw.cos()], 1) * (BOXES[0][:, 4] / 3)[:, None]
    torch.testing.assert_close(corner, left, atol=1e-4, rtol=0)
    apart = distances(maps(3, 4)[:1].expand(3, -1, -1, -1) * torch.arange(3.0)[:, None, None, None])
    torch.testing.assert_close(apart.sum() / 6, torch.tensor(1.0))
    assert apart[0, 2].item() == pytest.approx(2 * apart[0, 1].item(), rel=1e-4)


def test_gid_looks_where_teacher_and_student_differ() -> None:
    """A difference at one anchor is one instance; others do not count."""
    own, t = seen(detector(16, 0)), heads(1)
    t.codes.zero_()
    s = type(t)(t.logits.clone(), t.codes.clone(), t.halves.clone())
    anchors = own.anchors.reshape(-1, 7)
    anchor = 6 * (8 * 16 + 8) + 4  # a car's
    s.logits[0, anchor, 2] += 2.0
    here, there = maps(4, 16, seed=1), maps(4, 16, seed=1)
    loss = build_loss({"loss": "gid"}, (here, t), (there, s))
    near = (iou_nearest(anchors, anchors[anchor : anchor + 1]) >= 0.5).sum().item()
    p, q = sigmoid(numbers(t.logits[0, anchor, 2])), sigmoid(numbers(s.logits[0, anchor, 2]))
    apart = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert loss((here, t), (there, s), own, 0.0).item() == close(apart / near / 2)
    far = there.clone()
    far[1] += 1  # no instance is in the second scan
    far[0, :, 0] += 1
    assert loss((here, t), (far, s), own, 0.0).item() == close(apart / near / 2)
    far[0, :, 8, 8] += 3
    assert loss((here, t), (far, s), own, 0.0).item() > 1.5 * apart / near / 2


def test_sure_detections_are_learnt_like_labels() -> None:
    of = detector(16, 0)
    new = torch.tensor([[11.0, 5.0, -1.0, 3.9, 1.6, 1.5, 0.0]])
    more = torch.cat([new, new - torch.tensor([4.0, 0, 0, 0, 0, 0, 0])])
    found = [
        Detections(more, torch.tensor([0.9, 0.5]), torch.tensor([2, 2])),
        Detections(more[:0], torch.zeros(0), torch.zeros(0, dtype=torch.int64)),
    ]
    taught = of.targets(*with_detections(BOXES, LABELS, found, 0.6))
    both = of.targets(
        [torch.cat([new, BOXES[0]]), BOXES[1]], [torch.tensor([2, 2, 0, 1]), LABELS[1]]
    )
    plain = of.targets(BOXES, LABELS)
    for one, two in zip(taught, both, strict=True):
        assert one.label.equal(two.label) and one.code.equal(two.code)
    assert (taught[0].object == 0).any() and not taught[0].label.equal(plain[0].label)
    assert taught[1].label.equal(plain[1].label)
    lower = of.targets(*with_detections(BOXES, LABELS, found, least_score=0.4))
    assert (lower[0].object == 1).any()


def test_a_label_keeps_the_anchors_that_overlap_it_most() -> None:
    """A detection beside it, whose best anchors they are as well, is learnt by others only."""
    of = detector(16, 0)
    beside = BOXES[0][:1] + torch.tensor([0.1, 0.1, 0, 0, 0, 0, 0])
    one, none = torch.tensor([0.9]), torch.zeros(0)
    found = [
        Detections(beside, one, torch.tensor([2])),
        Detections(beside[:0], none, torch.zeros(0, dtype=torch.int64)),
    ]
    taught, plain = (
        of.targets(*with_detections(BOXES, LABELS, found, 0.6)),
        of.targets(BOXES, LABELS),
    )
    overlap = iou_nearest(of.anchors.reshape(-1, 7), BOXES[0][:1])[:, 0]
    cars = torch.arange(len(overlap)) // 2 % 3 == 2
    best = cars & (overlap == overlap[cars].max())
    assert best.any() and (taught[0].object[best] == 1).all()
    assert taught[0].code[best].equal(plain[0].code[best])
