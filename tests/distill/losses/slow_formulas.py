"""What slow readings of formulas have in common."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from geodistill.distill.losses import build_loss
from tests.distill.losses.seen_scans import detector, maps, seen

T, S = maps(6, 8, seed=1), maps(6, 8, seed=2)


def value(name: str, teacher: object = T, student: object = S, **options: object) -> float:
    loss = build_loss({"loss": name, **options}, teacher, student)
    return loss(teacher, student, seen(detector(16, 0)), 0.0).item()


def numbers(x: Tensor) -> np.ndarray:
    return x.double().numpy()


def close(expected: float) -> object:
    return pytest.approx(expected, rel=1e-4)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
