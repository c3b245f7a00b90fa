"""What a detector of points is: its classes, proposals, detections and weights of losses."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from geodistill.checks import ABOVE_ZERO, UsageError, expect_within
from geodistill.detect.proposals import Draw
from geodistill.nn.pointnet import MOMENTUM
from geodistill.nn.pointrcnn import COARSEST, STEP, Norm


@dataclass(frozen=True)
class PointClass:
    """A class and the mean length, width and height of its objects in metres."""

    name: str
    size: tuple[float, float, float]

    def __post_init__(self) -> None:
        expect_within(self, size=ABOVE_ZERO)


KITTI = (
    PointClass("Car", (3.9, 1.6, 1.56)),
    PointClass("Pedestrian", (0.8, 0.6, 1.73)),
    PointClass("Cyclist", (1.76, 0.6, 1.73)),
)


@dataclass(frozen=True)
class Proposing:
    """Which of the boxes of points are proposals.

    Attributes:
        candidates: of a scan, by their scores, that are compared.
        overlap: from above, of which only the better box stays.
        most: of a scan; with OpenPCDet's 100 detecting takes a fifth of the time.
        overlap_learning, most_learning: in training.
    """

    candidates: int = 9000
    overlap: float = 0.85
    most: int = 512
    overlap_learning: float = 0.8
    most_learning: int = 512

    def __post_init__(self) -> None:
        one, share = (1, math.inf), (0, 1)
        expect_within(self, candidates=one, most=one, most_learning=one)
        expect_within(self, overlap=share, overlap_learning=share)


@dataclass(frozen=True)
class PointChoice:
    """Which of the refined boxes are detections.

    Attributes:
        least_score: below it there is none.
        overlap: from above, of which only the better box stays.
        most: of a scan.
    """

    least_score: float = 0.1
    overlap: float = 0.1
    most: int = 100

    def __post_init__(self) -> None:
        expect_within(self, least_score=(0, 1), overlap=(0, 1), most=(1, math.inf))


@dataclass(frozen=True)
class PointWeights:
    """Of the parts of the loss."""

    points: float = 1.0
    boxes: float = 1.0
    certainty: float = 1.0
    refinement: float = 1.0
    corners: float = 1.0

    def __post_init__(self) -> None:
        positive = (0, math.inf)
        expect_within(self, points=positive, boxes=positive, certainty=positive)
        expect_within(self, refinement=positive, corners=positive)


@dataclass(frozen=True)
class PointSettings:
    """Attributes:
    architecture: of the network.
    compression: of its parameters, 1 for the published widths, 8 and 16 for students'.
    objects: its classes, in the order of the network's outputs.
    points: of a scan; a multiple of 256. 16384 is published; 4096 are for CPUs.
    values: of a point: x, y, z, reflectance and what else.
    low, high: corners of the box of points that are kept, in metres.
    far_m: points at least so far from the sensor are all kept.
    rim_m: points so near to a box learn nothing.
    pooled: points of a proposal; a multiple of 16.
    context_m: by so much proposals are widened on each side for it.
    refiner_norm: "none" for OpenPCDet's.
    epsilon: of the backbone's batch norms; 1e-5 for OpenPCDet's.
    momentum: see `nn.anchor_detector.AnchorSettings`.
    proposing: from points to proposals.
    drawing: of proposals to learn from.
    unsure, sure: overlaps with an object from which a proposal is to be sure, and fully so.
    choice: of detections.
    weights: of the losses.
    """

    architecture: Literal["pointrcnn"] = "pointrcnn"
    compression: int = 1
    objects: tuple[PointClass, ...] = KITTI
    points: int = 16_384
    values: int = 4
    low: tuple[float, float, float] = (0.0, -40.0, -3.0)
    high: tuple[float, float, float] = (70.4, 40.0, 1.0)
    far_m: float = 40.0
    rim_m: float = 0.1
    pooled: int = 512
    context_m: float = 0.0
    refiner_norm: Norm = "batch"
    epsilon: float = 1e-3
    momentum: float = MOMENTUM
    proposing: Proposing = field(default_factory=Proposing)
    drawing: Draw = field(default_factory=Draw)
    unsure: float = 0.25
    sure: float = 0.7
    choice: PointChoice = field(default_factory=PointChoice)
    weights: PointWeights = field(default_factory=PointWeights)

    def __post_init__(self) -> None:
        anywhere, positive = (-math.inf, math.inf), (0, math.inf)
        expect_within(self, low=anywhere, high=anywhere, momentum=(0, 1), epsilon=ABOVE_ZERO)
        expect_within(self, far_m=positive, rim_m=positive, context_m=positive)
        expect_within(self, unsure=(0, 1), sure=(0, 1))
        if not self.unsure < self.sure:
            raise UsageError(f"unsure must be below sure, {self.sure:g}, got {self.unsure:g}")
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise UsageError(f"no box reaches from {self.low} to {self.high} m")
        names = [one.name for one in self.objects]
        if not names or len({*names}) < len(names):
            said = ", ".join(names) or "none"
            raise UsageError(f"a detector needs at least one class, and each once, got {said}")
        if self.values < 3:
            raise UsageError(f"a point has at least x, y and z, got {self.values} values")
        multiples = (("points", self.points, COARSEST), ("pooled", self.pooled, STEP**2))
        for name, count, least in multiples:
            if count < least or count % least:
                raise UsageError(f"{name} must be a multiple of {least}, got {count}")

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.objects)
