"""What every 3D detector is: scans to boxes, and what it loses against labelled ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geodistill.checks import InputError, check
from geodistill.detect.scenes import Detections


class Detector(nn.Module, ABC):
    """A detector of one architecture; `nn.detector_kinds` lists them.

    Attributes:
        settings: a frozen dataclass with `architecture`, `compression`, `values` of a point and
            `choice` of detections, whose `least_score` is the least of a detection.
        network: whose parts losses tap by their names; called with what `prepare` gives.
    """

    settings: Any
    network: nn.Module

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """In the order of the network's outputs."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Lowest and highest corner of what it sees, in metres."""

    @property
    @abstractmethod
    def places(self) -> dict[str, Any]:
        """Names and values of the settings that decide which places of a scan features and
        predictions belong to: detectors that differ in none can be compared place by place."""

    @property
    @abstractmethod
    def learnt(self) -> dict[str, Any]:
        """Settings that decide, beside `places`, what `targets` are."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def area(self) -> tuple[float, float, float, float]:
        """Least x and y, largest x and y of what it sees, in metres."""
        low, high = self.bounds
        return (*low[:2], *high[:2])

    @abstractmethod
    def prepare(self, scans: Sequence[Tensor], generator: torch.Generator | None = None) -> Any:
        """Scans [N, F] each as the network's input, on its device; the number of them is `.scans`.

        Args:
            generator: of the CPU, of what is drawn in training; None: always the same of a scan.

        Raises InputError for points of another number of values than the settings'.
        """

    def expect_values(self, scans: Sequence[Tensor]) -> None:
        own = self.settings.values
        for scan in scans:
            check(scan=(scan, "N F"))
            if scan.shape[1] != own:
                raise InputError(
                    f"points of a scan have {scan.shape[1]} values and the detector's have {own}: "
                    "it is of another kind of data"
                )

    @abstractmethod
    def forward(self, inputs: Any) -> Any:
        """Predictions."""

    @abstractmethod
    def targets(self, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> list[Any]:
        """What is learnt of each scan, of its boxes [M, 7] and their labels int64 [M]."""

    @abstractmethod
    def losses(self, predictions: Any, targets: Sequence[Any]) -> dict[str, Tensor]:
        """Parts of the loss, each with its weight; their sum is learnt from."""

    @abstractmethod
    def detections(self, predictions: Any) -> list[Detections]:
        """Of each scan, on the CPU, best first."""
