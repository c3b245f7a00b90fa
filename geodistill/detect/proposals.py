"""What points and proposals learn, and which proposals are learnt from.

Source: Shi, Wang and Li, "PointRCNN" (CVPR 2019), sections 3.2 to 3.4; the numbers are those of
mmdetection3d and OpenPCDet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.checks import check, expect_within
from geodistill.detect import anchors
from geodistill.detect.boxes import inside
from geodistill.detect.overlap import iou_3d
from geodistill.detect.point_codes import from_own_frame, to_own_frame
from geodistill.detect.targets import BACKGROUND, IGNORED


@dataclass(frozen=True)
class Draw:
    """Which proposals of a scan its second stage learns from.

    Attributes:
        count: of them at most.
        positive: greatest part of them that are objects.
        overlap: least intersection over union, of volumes, of a proposal that is an object.
        hard: part of the others that overlap an object by at least `easy`.
        easy: see `hard`.
    """

    count: int = 128
    positive: float = 0.5
    overlap: float = 0.55
    hard: float = 0.8
    easy: float = 0.1

    def __post_init__(self) -> None:
        share = (0, 1)
        expect_within(self, count=(1, math.inf), positive=share, overlap=share, hard=share)
        expect_within(self, easy=share)


@dataclass(frozen=True, eq=False)
class Matches:
    """Of K proposals.

    Attributes:
        object: int64 [K], the box of its class that a proposal overlaps most; -1 where there is
            none.
        overlap: float64 [K], with it; 0 where there is none.
    """

    object: Tensor
    overlap: Tensor


def point_objects(points: Tensor, boxes: Tensor, rim: float) -> Tensor:
    """Which box each point learns, int64 [N]: that which it is in, of several the first; -1 for the
    background, -2 for nothing, which is within `rim` of a face of a box, outside of it.

    Args:
        points: [N, 3].
        boxes: [M, 7].
        rim: in metres.
    """
    check(points=(points, "N 3"), boxes=(boxes, "M 7"))
    found = torch.full((len(points),), BACKGROUND, device=points.device)
    if len(boxes) == 0:
        return found
    wider = torch.cat([boxes[:, :3], boxes[:, 3:6] + 2 * rim, boxes[:, 6:]], 1)
    found[inside(points, wider).any(1)] = IGNORED
    within = inside(points, boxes)
    return torch.where(within.any(1), within.int().argmax(1), found)


def match(proposals: Tensor, labels: Tensor, boxes: Tensor, box_labels: Tensor) -> Matches:
    """Proposals [K, 7] of classes [K] and the boxes [M, 7] of theirs [M] that they overlap."""
    check(proposals=(proposals, "K 7"), labels=(labels, "K"))
    check(boxes=(boxes, "M 7"), box_labels=(box_labels, "M"))
    if len(boxes) == 0:
        none = torch.full_like(labels, BACKGROUND)
        return Matches(none, torch.zeros_like(none, dtype=torch.float64))
    overlap = iou_3d(proposals, boxes) * (labels[:, None] == box_labels)
    best, which = overlap.max(1)
    return Matches(torch.where(best > 0, which, BACKGROUND), best)


def draw(overlap: Tensor, settings: Draw, generator: torch.Generator) -> Tensor:
    """Which proposals are learnt from, by their overlaps [K] with objects: int64, objects first.

    Random numbers are the generator's, which is one of the CPU.
    """
    check(overlap=(overlap, "K"))
    known = overlap.cpu()
    objects = _some(known >= settings.overlap, int(settings.count * settings.positive), generator)
    left = settings.count - len(objects)
    other = known < settings.overlap
    hard, easy = other & (known >= settings.easy), other & (known < settings.easy)
    # What one kind lacks the other makes up for.
    most_hard = max(int(left * settings.hard), left - int(easy.sum()))
    chosen = _some(hard, most_hard, generator)
    rest = _some(easy, left - len(chosen), generator)
    return torch.cat([objects, chosen, rest]).to(overlap.device)


def certainty(overlap: Tensor, none: float, full: float) -> Tensor:
    """How sure a proposal should be, 0 to 1: rising from an overlap of `none` to one of `full`."""
    return ((overlap - none) / (full - none)).clamp(0, 1)


def refinement(boxes: Tensor, proposals: Tensor) -> Tensor:
    """What proposals [P, 7] must learn to become boxes [P, 7], in their own frames: [P, 7].

    The turn is at most a right angle: a proposal that points the other way is taken as it is.
    """
    local = to_own_frame(boxes, proposals)
    turn = torch.remainder(local[:, 6:] + math.pi / 2, math.pi) - math.pi / 2
    return anchors.encode(torch.cat([local[:, :6], turn], 1), _at_origin(proposals))


def refined(codes: Tensor, proposals: Tensor) -> Tensor:
    """The boxes [P, 7] that codes [P, 7] make of proposals."""
    return from_own_frame(anchors.decode(codes, _at_origin(proposals)), proposals)


def _at_origin(boxes: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(boxes[:, :3]), boxes[:, 3:6], boxes[:, 6:] * 0], 1)


def _some(which: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most so many of those that are true."""
    places = which.nonzero()[:, 0]
    return places[torch.randperm(len(places), generator=generator)[:most]]
