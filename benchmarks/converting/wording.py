"""How figures and verdicts are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from converting.speed import SpeedUp

Record = Mapping[str, Any]
EMPTY = "-"
SPEED_UP, SPEED_UP_AIM = 10.0, 20.0


def at_most(value: float, limit: float) -> str:
    return "met" if value <= limit else "missed"


def at_least(value: float, limit: float) -> str:
    return "met" if value >= limit else "missed"


def speed_verdict(speed: SpeedUp | None) -> str:
    if speed is None:
        return EMPTY
    verdicts = []
    for limit in (SPEED_UP, SPEED_UP_AIM):
        open_ended = not speed.exact and speed.ratio < limit
        verdicts.append("open" if open_ended else at_least(speed.ratio, limit))
    return f"{speed} (≥ {SPEED_UP:g}: {verdicts[0]}, aim {SPEED_UP_AIM:g}: {verdicts[1]})"


def decibel(psnr: float | None) -> str:
    return "identical" if psnr is None else f"{psnr:.2f}"


def marked(label: str, records: Iterable[Record]) -> str:
    """The label, with the fingerprints of older code that its figures come from."""
    older = sorted({record["fingerprint"] for record in records if record["stale"]})
    return label + f" [code {', '.join(older)}]" * bool(older)


def counted(items: Sequence[Any], noun: str) -> str:
    return f"{len(items)} {noun}{'s' * (len(items) != 1)}"


def section(title: str, text: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return ""
    table = [head, ["---"] * len(head), *lines]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in table)
    return f"## {title}\n\n{text}\n\n{rows}"
