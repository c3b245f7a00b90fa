"""The tables of trained students: means over seeds, and how much of the gap was won back."""

from __future__ import annotations

import math
import re
import statistics
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

TUNED = 0
"""The seed on which methods were tuned."""
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Two-sided 95 %, by the number of values."""
HEAD = """| taught by | seeds | score | deviation | over none | share of the gap |
| --- | --- | --- | --- | --- | --- |"""

BySeed = dict[str, float]


def report(records: Sequence[dict[str, Any]], planned: int) -> str:
    """Markdown: tables of each kind of student whose teacher is there, of the seed on which methods
    were tuned and of all others, the largest gain first. The score is the mean of the classes'
    moderate 3D AP40.

    Args:
        records: with `teacher`, the score of a student's own, where that is not the one recorded.
        planned: how many trainings there are to be.
    """
    found: dict[str, dict[str, BySeed]] = defaultdict(lambda: defaultdict(dict))
    tuned_by: dict[str, float] = {}
    for record in records:
        student, method, seed = record["cell"].split("/")
        found[student][method][seed] = float(record["score"])
        if seed == str(TUNED) and "teacher" in record:
            tuned_by[student] = float(record["teacher"])
    if not records:
        return "Nothing is trained yet.\n"
    parts = [_conditions(records, planned)]
    teachers = {name: own["teacher"]["0"] for name, own in found.items() if "teacher" in own}
    for student in sorted(found.keys() - teachers.keys()):
        teacher = teachers.get(re.sub(r"_\d+x.*", "", student))
        if teacher is not None and "none" in found[student]:
            parts += _student(student, found[student], teacher, tuned_by.get(student, teacher))
    return "\n\n".join(parts) + "\n"


def _conditions(records: Sequence[dict[str, Any]], planned: int) -> str:
    dates = sorted(record["date"] for record in records)
    machines = ", ".join(sorted({record["cpu"] for record in records}))
    versions = ", ".join(sorted({record["torch"] for record in records}))
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    text = (
        f"Trained {when} on {machines}, one thread for each training, torch {versions}. "
        f"{len(records)} of {planned} trainings."
    )
    return textwrap.fill(text, 120)


def _student(
    student: str, methods: Mapping[str, BySeed], kept: float, tuned_by: float
) -> list[str]:
    parts = [f"### {student}"]
    for title, tuned, teacher in (("", False, kept), (f"Seed {TUNED}:", True, tuned_by)):
        chosen = {
            name: {seed: score for seed, score in own.items() if (seed == str(TUNED)) == tuned}
            for name, own in methods.items()
        }
        chosen = {name: own for name, own in chosen.items() if own}
        if "none" not in chosen:
            continue
        alone = chosen["none"]
        mean = statistics.mean(alone.values())
        gap = (
            f"The teacher has {teacher:.2f}, labels alone {mean:.2f}: a gap of "
            f"{teacher - mean:.2f}."
        )
        places = sorted(chosen, key=lambda one: -_mean_gain(chosen[one], alone))
        rows = [_row(one, chosen[one], alone, teacher) for one in places]
        parts += [f"{title} {gap}".strip(), "\n".join([HEAD, *rows])]
    return parts


def _gains(own: BySeed, alone: BySeed) -> list[float]:
    """Over labels alone, of the same seeds."""
    return [own[seed] - alone[seed] for seed in own if seed in alone]


def _mean_gain(own: BySeed, alone: BySeed) -> float:
    gains = _gains(own, alone)
    return statistics.mean(gains) if gains else -math.inf


def _row(method: str, own: BySeed, alone: BySeed, teacher: float) -> str:
    scores = list(own.values())
    spread = f"{statistics.stdev(scores):.2f}" if len(own) > 1 else ""
    gain, share = "", ""
    both = _gains(own, alone)
    if method != "none" and both:
        gap = teacher - statistics.mean(alone[seed] for seed in own if seed in alone)
        gain = _interval(both)
        share = f"{100 * statistics.mean(both) / gap:.0f} %" if gap > 0 else ""
    mean = statistics.mean(scores)
    return f"| {method} | {len(own)} | {mean:.2f} | {spread} | {gain} | {share} |"


def _interval(values: Sequence[float]) -> str:
    """Mean, and its 95 % interval over the seeds."""
    mean = statistics.mean(values)
    if len(values) not in STUDENT_T:
        return f"{mean:+.2f}"
    half = STUDENT_T[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"
