"""How strongly each loss pulls at its tap, beside what the labels pull there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geodistill.distill.detectors import Teaching
from geodistill.distill.losses.taps import Taps
from geodistill.fit.detector.stored import Store
from geodistill.nn.bev import Predictions
from geodistill.nn.detector import Detector
from geodistill.nn.detector_files import load_detector
from geodistill.nn.detector_kinds import new_detector

BATCHES = 4


def strengths(work: Path, methods: Mapping[str, list[dict[str, Any]]]) -> str:
    """A table of gradients' norms at the taps, those of losses with the weight 1 by those of the
    labels: of a student that has learnt nothing, and of one that labels alone have taught. And the
    largest weight at which a loss never pulls more strongly than the labels.
    """
    teacher = load_detector(work / "pillars_small_teacher_0")
    batches = Store(work / "pillars_small_batches_0", "")
    taught = load_detector(work / "pillars_small_16x_none_0").train()
    torch.manual_seed(0)
    students = (new_detector(taught.settings).train(), taught)
    lines = [
        "| loss | tap | beside labels, at first | at last | weight for as much |",
        "| --- | --- | --- | --- | --- |",
    ]
    met: list[dict[str, Any]] = []
    for options in (one for losses in methods.values() for one in losses):
        if options["loss"] == "assignment" or options in met:
            continue
        met.append(options)
        shares = [_share(student, teacher, options, batches) for student in students]
        taps = ", ".join(dict.fromkeys(shares[0][0]))
        first, last = (share for _, share in shares)
        weight = 1 / max(first, last)
        lines.append(f"| {options['loss']} | {taps} | {first:.2g} | {last:.2g} | {weight:.2g} |")
    return "\n".join(lines)


def _share(
    student: Detector, teacher: Detector, options: dict[str, Any], batches: Store
) -> tuple[tuple[str, ...], float]:
    """A loss's taps, and how strongly it pulls there with the weight 1, beside the labels."""
    teaching = Teaching(student, [teacher], [{**options, "weight": 1.0, "until": 0.0}])
    (loss,) = teaching.losses
    taps = loss.settings.taps
    own, theirs = 0.0, 0.0
    for step in range(BATCHES):
        batch = batches.read(step, student)
        seen = Taps(student.network, taps)
        predictions = student(batch.inputs)
        labels = torch.stack(list(student.losses(predictions, batch.targets).values())).sum()
        places = [x for tap in taps for x in _tensors(seen.outputs[tap])]
        pulled = _gradients(teaching.loss(batch, predictions, 0.5)[0], places)
        places = [x for x, pull in zip(places, pulled, strict=True) if pull is not None]
        own += _norm(_gradients(labels, places))
        theirs += _norm(pulled)
        seen.remove()
    return taps, theirs / own


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Predictions):
        return [value.logits, value.codes, value.halves]
    return [value]


def _gradients(value: Tensor, places: list[Tensor]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(value, places, retain_graph=True, allow_unused=True)


def _norm(gradients: Sequence[Tensor | None]) -> float:
    return float(sum(float(g.square().sum()) for g in gradients if g is not None)) ** 0.5
