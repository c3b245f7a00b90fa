"""How strongly each loss pulls at its tap, beside what the labels pull there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geodistill.distill.detectors import Teaching
from geodistill.distill.losses import Seen, loss_settings
from geodistill.distill.losses.base import PlaceSettings
from geodistill.distill.losses.masks import footprints
from geodistill.distill.losses.places import seen_cells
from geodistill.distill.losses.taps import Taps
from geodistill.fit.detector.stored import Store
from geodistill.nn.bev import Predictions
from geodistill.nn.detector import Detector
from geodistill.nn.detector_files import load_detector
from geodistill.nn.detector_kinds import new_detector

BATCHES = 4
REACH = PlaceSettings.reach
HEAD = """| loss | tap | beside labels, first | last | weight for as much | on objects | far off |
| --- | --- | --- | --- | --- | --- | --- |"""


@dataclass(frozen=True)
class Pull:
    """What a loss says to the student's outputs at its taps.

    Attributes:
        taps: the parts.
        share: the norm of its gradient by that of the labels'.
        on_objects, far: of its gradient's squares on maps, the shares in the cells of boxes, and in
            those far from all points; None at other taps.
    """

    taps: tuple[str, ...]
    share: float
    on_objects: float | None
    far: float | None


def strengths(work: Path, seed: int, teacher_file: Path, losses: Sequence[dict[str, Any]]) -> str:
    """A table of gradients' norms at the taps, those of losses with the weight 1 by those of the
    labels: of a student that has learnt nothing, and of one that labels alone have taught. The
    largest weight at which a loss never pulls more strongly than the labels. And where on maps it
    pulls the latter student, compared near points alone and in all cells.
    """
    teacher = load_detector(teacher_file)
    batches = Store(work / f"pillars_small_batches_{seed}", "")
    taught = load_detector(work / f"pillars_small_16x_none_{seed}").train()
    torch.manual_seed(0)
    students = (new_detector(taught.settings).train(), taught)
    lines = [HEAD]
    asked = [{**one, "weight": 1.0, "until": 0.0} for one in losses if one["loss"] != "assignment"]
    asked += [{**one, "reach": None} for one in asked if _of_places(one)]
    for number, options in enumerate(asked):
        if options in asked[:number]:
            continue
        first, last = (_pull(student, teacher, options, batches) for student in students)
        weight = 1 / max(first.share, last.share)
        where = (
            "" if share is None else f"{100 * share:.1f} %" for share in (last.on_objects, last.far)
        )
        name = options["loss"] + (", all cells" if options.get("reach", REACH) is None else "")
        lines.append(
            f"| {name} | {', '.join(dict.fromkeys(last.taps))} | {first.share:.2g} | "
            f"{last.share:.2g} | {weight:.2g} | {' | '.join(where)} |"
        )
    return "\n".join(lines)


def _of_places(options: dict[str, Any]) -> bool:
    kind, settings = loss_settings(options)
    return issubclass(kind.Settings, PlaceSettings) and settings.tap != "encoder"


def _pull(student: Detector, teacher: Detector, options: dict[str, Any], batches: Store) -> Pull:
    teaching = Teaching(student, [teacher], [options])
    (loss,) = teaching.losses
    taps = loss.settings.taps
    own, theirs, on_objects, far, on_maps = 0.0, 0.0, 0.0, 0.0, 0.0
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
        for pull in pulled:
            if pull is not None and pull.dim() == 4:
                squares, size = pull.square().sum(1), (pull.shape[2], pull.shape[3])
                boxes = [footprints(one, student.area, size).any(0) for one in batch.boxes]
                scans = Seen(batch.inputs, batch.boxes, [], None, student.area)
                on_maps += float(squares.sum())
                on_objects += float((squares * torch.stack(boxes)).sum())
                far += float((squares * ~seen_cells(scans, size, REACH)).sum())
    teaching.close()
    where = (on_objects / on_maps, far / on_maps) if on_maps else (None, None)
    return Pull(taps, theirs / own, *where)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Predictions):
        return [value.logits, value.codes, value.halves]
    return [value]


def _gradients(value: Tensor, places: list[Tensor]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(value, places, retain_graph=True, allow_unused=True)


def _norm(gradients: Sequence[Tensor | None]) -> float:
    return float(sum(float(g.square().sum()) for g in gradients if g is not None)) ** 0.5
