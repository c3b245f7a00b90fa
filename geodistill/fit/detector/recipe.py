"""What a detector is trained by, as files of recipes have it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from geodistill.checks import UsageError, expect_within
from geodistill.detect.augment import Augmentation
from geodistill.nn.anchor_detector import AnchorSettings
from geodistill.nn.point_settings import PointSettings
from geodistill.nn.precision import Precision
from geodistill.train.adamw import OneCycle


@dataclass(frozen=True)
class Recipe:
    """Attributes:
    detector: what is trained; its `architecture` says which other settings it has.
    epochs: how often each scan is seen.
    batch: scans of a step, over all processes.
    cycle: of the optimiser.
    augmentation: of training scans; None for none. What it pastes by default is filled in.
    mean: weight of the past in the running mean of the weights that is kept; 0 keeps the last.
    measure_every: epochs between measurements; 0 measures at the end only.
    train, val: splits of the data set.
    workers: processes that prepare scans ahead; 0 prepares them in the one that trains.
    seed: of weights, order and augmentation.
    precision: of the maps of training, the teachers' included; bfloat16 is for GPUs and
        CPUs that have units for it. Detectors are kept, and measured, in float32.
    losses: from a teacher, each a mapping with `loss`, its name, and its options.
    """

    detector: AnchorSettings | PointSettings = field(default_factory=AnchorSettings)
    epochs: int = 80
    batch: int = 6
    cycle: OneCycle = field(default_factory=OneCycle)
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    mean: float = 0.0
    measure_every: int = 0
    train: str = "train"
    val: str = "val"
    workers: int = 0
    seed: int = 0
    precision: Precision = "float32"
    losses: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        expect_within(self, epochs=(1, math.inf), batch=(1, math.inf), workers=(0, 1024))
        expect_within(self, measure_every=(0, math.inf), seed=(0, 2**63 - 1))
        if self.precision != "float32" and isinstance(self.detector, PointSettings):
            raise UsageError(f"{self.detector.architecture} has no maps: its precision is float32")
        if not 0 <= self.mean < 1:
            raise UsageError(f"mean must be in [0, 1), got {self.mean}")
        if self.augmentation is not None:
            paste = self.augmentation.pasting(self.detector.classes)
            object.__setattr__(self, "augmentation", replace(self.augmentation, paste=paste))
