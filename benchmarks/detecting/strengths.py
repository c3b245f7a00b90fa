"""How strongly each loss pulls at its tap, beside what the labels pull there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geodistill.distill.detectors import Teaching
from geodistill.distill.losses.taps import Taps
from geodistill.fit.detector.stored import Store
from geodistill.nn.bev import Predictions
from geodistill.nn.detector_files import load_detector

BATCHES = 4


def strengths(work: Path, methods: Mapping[str, list[dict[str, Any]]]) -> str:
    """A table of gradients' norms at the taps, of a student that labels alone have taught.

    With the weight 1, and the weight at which a loss would pull half as strongly as the labels.
    """
    teacher = load_detector(work / "teacher")
    store = Store(work / "batches_0", "")
    lines = [
        "| loss | tap | labels | loss | weight for a half |",
        "| --- | --- | --- | --- | --- |",
    ]
    for losses in methods.values():
        for options in losses:
            if options["loss"] == "assignment":
                continue
            student = load_detector(work / "pillars_small_16x_none_0").train()
            teaching = Teaching(student, [teacher], [options])
            (loss,) = teaching.losses
            taps = loss.settings.taps
            own, theirs = 0.0, 0.0
            for step in range(BATCHES):
                batch = store.read(step, student)
                seen = Taps(student.network, taps)
                predictions = student(teaching.labels(batch).inputs)
                labels = torch.stack(
                    list(student.losses(predictions, batch.targets).values())
                ).sum()
                places = [x for tap in taps for x in _tensors(seen.outputs[tap])]
                own += _norm(labels, places) / BATCHES
                taught, _ = teaching.loss(batch, predictions, 0.5)
                theirs += _norm(taught / loss.settings.weight, places) / BATCHES
                seen.remove()
            half = 0.5 * own / max(theirs, 1e-12)
            lines.append(
                f"| {options['loss']} | {', '.join(taps)} | {own:.2e} | {theirs:.2e} | {half:.3g} |"
            )
    return "\n".join(lines)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Predictions):
        return [value.logits, value.codes, value.halves]
    return [value]


def _norm(value: Tensor, places: list[Tensor]) -> float:
    found = torch.autograd.grad(value, places, retain_graph=True, allow_unused=True)
    return float(sum(float(g.square().sum()) for g in found if g is not None)) ** 0.5
