"""How much longer training from scratch takes to get as good as a conversion."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

Point = Sequence[float]


@dataclass(frozen=True)
class SpeedUp:
    """A ratio of times. If not exact, the goal was not reached and the ratio is a lower bound."""

    ratio: float
    exact: bool

    def __str__(self) -> str:
        return f"{'' if self.exact else '≥ '}{self.ratio:.1f}x"

    @staticmethod
    def median(values: Iterable[SpeedUp | None]) -> SpeedUp | None:
        """The median; a lower bound counts as its value, and makes the median one if it is it."""
        known = sorted((v for v in values if v is not None), key=lambda v: v.ratio)
        if not known:
            return None
        middle = known[(len(known) - 1) // 2 : len(known) // 2 + 1]
        return SpeedUp(median(v.ratio for v in middle), all(v.exact for v in middle))


def speed_up(record: Mapping[str, Any], goal_db: float, seconds: float) -> SpeedUp:
    """How many times `seconds` a recorded run from scratch took to reach `goal_db`.

    Between two looks PSNR is taken to be linear in the logarithm of time.
    """
    curve, setup = record["curve"], record["setup_seconds"]
    reached = _first_at(curve, goal_db)
    if reached is not None:
        return SpeedUp((setup + reached) / seconds, True)
    return SpeedUp((setup + curve[-1][0]) / seconds, False)


def conversion_seconds(curve: Mapping[str, Any], converted: Mapping[str, Any]) -> float:
    """What a conversion took beside its run from scratch; when it was recorded itself where that is
    not known, or was of a conversion with another result."""
    if curve.get("goal_psnr_db") == converted["truth_psnr_db"]:
        return curve.get("conversion_seconds", converted["seconds"])
    return converted["seconds"]


def least(values: Iterable[SpeedUp]) -> SpeedUp | None:
    """The fastest of several schedules: the first that got there, else the longest try."""
    known = list(values)
    exact = [value for value in known if value.exact]
    if exact:
        return min(exact, key=lambda value: value.ratio)
    return max(known, key=lambda value: value.ratio, default=None)


def psnr_at(record: Mapping[str, Any], seconds: float) -> float | None:
    """The curve's PSNR after `seconds`, setting up included; None outside of it."""
    curve, seconds = record["curve"], seconds - record["setup_seconds"]
    for before, after in pairwise(curve):
        if before[0] <= seconds <= after[0] and after[0] > before[0]:
            share = math.log(seconds / before[0]) / math.log(after[0] / before[0])
            return before[2] + share * (after[2] - before[2])
    return None


def _first_at(curve: Sequence[Point], goal_db: float) -> float | None:
    for i, (seconds, _, psnr) in enumerate(curve):
        if psnr < goal_db:
            continue
        if i == 0:
            return seconds
        early, _, low = curve[i - 1]
        return early * (seconds / early) ** ((goal_db - low) / (psnr - low))
    return None
