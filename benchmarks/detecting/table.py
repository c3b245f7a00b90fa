"""The table of trained students: means over seeds, and how much of the gap was won back."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from typing import Any

STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Two-sided 95 %, by the number of values."""


def table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown, the best first; the score is the mean of the classes' moderate 3D AP40."""
    scores = {record["cell"]: float(record["score"]) for record in records}
    lines = [
        "| student | taught by | seeds | score | deviation | over none | share of the gap |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    places = sorted(
        {_place(cell) for cell in scores},
        key=lambda one: (one[0], -statistics.mean(_by_seed(scores, *one).values())),
    )
    for recipe, method in places:
        own = _by_seed(scores, recipe, method)
        alone = _by_seed(scores, recipe, "none")
        mean = statistics.mean(own.values())
        spread = f"{statistics.stdev(own.values()):.2f}" if len(own) > 1 else ""
        gain, share = "", ""
        both = [own[seed] - alone[seed] for seed in own if seed in alone]
        if method != "none" and both:
            gain = _interval(both)
            teacher = scores.get(f"{re.sub(r'_[0-9]+x.*', '', recipe)}/teacher/0", 0.0)
            gap = teacher - statistics.mean(alone.values())
            share = f"{100 * statistics.mean(both) / gap:.0f} %" if gap > 0 else ""
        lines.append(
            f"| {recipe} | {method} | {len(own)} | {mean:.2f} | {spread} | {gain} | {share} |"
        )
    return "\n".join(lines)


def _place(cell: str) -> tuple[str, str]:
    recipe, method, _ = cell.split("/")
    return recipe, method


def _by_seed(scores: dict[str, float], recipe: str, method: str) -> dict[str, float]:
    return {
        cell.split("/")[2]: score
        for cell, score in scores.items()
        if _place(cell) == (recipe, method)
    }


def _interval(values: Sequence[float]) -> str:
    """Mean, and its 95 % interval over the seeds."""
    mean = statistics.mean(values)
    if len(values) not in STUDENT_T:
        return f"{mean:+.2f}"
    half = STUDENT_T[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"
