"""Which network a checkpoint of mmdetection3d or OpenPCDet holds, by its names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.checkpoints import outline_checkpoint
from geodistill.nn.pointpillars import DIVISORS, ENCODED, PointPillars, narrowed
from geodistill.nn.second import SPARSE, Second
from geodistill.nn.toolboxes.layouts import State
from geodistill.nn.toolboxes.names import (
    ARCHITECTURES,
    COUNTER,
    IGNORED,
    TOOLBOXES,
    Architecture,
    Toolbox,
    theirs,
)

STATES = ("state_dict", "model_state")
_FIRST = {
    "pointpillars": ("encoder.norm.weight", "encoder.linear.weight", ENCODED),
    "second": ("encoder.first.norm.weight", "encoder.first.convolution.weight", SPARSE[0]),
}
"""Norm and weight of the first layer, and its published width."""


@dataclass(frozen=True)
class Shape:
    """Attributes:
    compression: of the network.
    values: of a point.
    classes, yaws: of the head.
    """

    compression: int
    values: int
    classes: int
    yaws: int


def is_toolbox_checkpoint(path: Path | str) -> bool:
    """Whether a PyTorch checkpoint is laid out as mmdetection3d and OpenPCDet do it, of whichever
    detector. What tensors hold is not read.

    Raises InputError for a file that is missing, damaged or no PyTorch checkpoint.
    """
    content = outline_checkpoint(path)
    if "model_state" in content or {"meta", "state_dict"} <= content.keys():
        return True
    state = content.get("state_dict")
    return isinstance(state, dict) and "bbox_head.conv_dir_cls.weight" in state


def weights_in(content: Mapping[str, Any], path: Path) -> State:
    """The weights of a checkpoint by the toolbox's names.

    Raises InputError where there are none.
    """
    found = next((content[key] for key in STATES if key in content), None)
    if not isinstance(found, dict):
        raise InputError(
            f"{path} is no checkpoint of mmdetection3d or OpenPCDet: it has neither state_dict nor "
            "model_state"
        )
    wrong = [key for key, value in found.items() if not isinstance(value, Tensor)]
    if wrong or not all(isinstance(key, str) for key in found):
        raise InputError(f"{path}: its weights have no names, or some are no tensors")
    kept = {key: value for key, value in found.items() if not key.startswith(IGNORED)}
    if len(kept) < len(found):
        log.say(f"{path}: {len(found) - len(kept)} tensors of distillation's adapters left out")
    return {key: value for key, value in kept.items() if key != COUNTER}


def recognised(state: State, path: Path) -> tuple[Toolbox, Architecture, dict[str, str]]:
    """The network whose names are the state's, and these by its own.

    Raises InputError where names are missing or unknown.
    """
    known: dict[tuple[Toolbox, Architecture], dict[str, str]] = {
        (toolbox, architecture): theirs(_weights(architecture), toolbox)
        for toolbox in TOOLBOXES
        for architecture in ARCHITECTURES
    }
    near = max(known, key=lambda k: len(state.keys() & {*known[k].values()}))
    (toolbox, architecture), own = near, known[near]
    wanted = {*own.values()}
    missing, unknown = sorted(wanted - state.keys()), sorted(state.keys() - wanted)
    if missing or unknown:
        parts = (("are missing", missing), ("are unknown", unknown))
        words = [f"{len(n)} tensors {what} ({few(n)})" for what, n in parts if n]
        raise InputError(
            f"{path} is no PointPillars or SECOND with anchors of mmdetection3d or OpenPCDet; of "
            f"{toolbox}'s {architecture}, the nearest, {', '.join(words)}"
        )
    return toolbox, architecture, own


def _weights(architecture: Architecture) -> list[str]:
    """Names of a network's weights, which all widths share."""
    with torch.device("meta"):
        network = PointPillars() if architecture == "pointpillars" else Second()
    return [*network.state_dict()]


def shape_of(state: State, architecture: Architecture, path: Path) -> Shape:
    """Of a network whose weights have the names that they have here.

    Raises InputError for one that there is none of here.
    """
    norm, first, published = _FIRST[architecture]
    width = state[norm].numel()
    known = {narrowed(published, compression): compression for compression in DIVISORS}
    if width not in known:
        raise InputError(
            f"{path}: its first layer has {width} channels; {architecture} of a published width "
            f"has {', '.join(map(str, known))}"
        )
    each = state[first].numel() // width
    values = each - 6 if architecture == "pointpillars" else each // 27
    if values < 3:
        raise InputError(f"{path}: its points have {values} values, fewer than x, y and z")
    logits, codes, halves = (
        state[f"head.{part}.bias"].numel() for part in ("logits", "codes", "halves")
    )
    anchors = halves // 2
    classes = logits // max(anchors, 1)
    yaws = anchors // max(classes, 1)
    if not yaws or (classes * anchors, classes * yaws, 2 * anchors) != (logits, anchors, halves):
        raise InputError(
            f"{path}: {logits} class scores and {halves} directions of a cell are not those of one "
            "head with as many anchors for each class"
        )
    if codes != 7 * anchors:
        raise InputError(f"{path}: {codes} codes of {anchors} anchors; only boxes of 7 are read")
    return Shape(known[width], values, classes, yaws)


def few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
