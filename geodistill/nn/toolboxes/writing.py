"""Detectors as checkpoints that mmdetection3d and OpenPCDet load, written."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geodistill import __version__, log
from geodistill.checks import UsageError, choose
from geodistill.nn.anchor_detector import AnchorDetector, AnchorSettings
from geodistill.nn.toolboxes.layouts import (
    SPCONV_1,
    SPCONV_2,
    HeadOrder,
    to_absolute,
    with_head_order,
    with_sparse_layout,
)
from geodistill.nn.toolboxes.mmdet3d_config import mmdet3d_config
from geodistill.nn.toolboxes.names import COUNTER, Toolbox, theirs
from geodistill.nn.toolboxes.openpcdet_config import openpcdet_config
from geodistill.nn.toolboxes.settings import ORDER
from geodistill.runs import write_files

ENDING: dict[str, str] = {"mmdet3d": ".py", "openpcdet": ".yaml"}
"""Of the config that is written beside a checkpoint."""
# mmdetection3d takes weights without a version for spconv 1's, whichever spconv it runs on.
_LAYOUT: dict[Toolbox, int] = {"mmdet3d": SPCONV_1, "openpcdet": SPCONV_2}


def checkpoint_files(path: Path, toolbox: Toolbox) -> tuple[Path, Path]:
    """The checkpoint, and the config beside it."""
    return path, path.with_suffix(choose("toolbox", toolbox, ENDING))


def write_detector(
    path: Path | str,
    detector: AnchorDetector,
    toolbox: Toolbox,
    classes: Sequence[str] | None = None,
) -> tuple[Path, Path]:
    """Write a checkpoint that a toolbox loads, and beside it the config that builds its network.

    Args:
        path: NAME.pth; the config is NAME.py (mmdet3d) or NAME.yaml (openpcdet).
        detector: of any width.
        classes: their order in the file; None: the toolbox's for the classes of KITTI, and the
            detector's own for others.

    Returns:
        Both files, each written atomically.

    Raises UsageError for classes that are not the detector's, or what the toolbox has no setting
    for; InputError as `runs.atomic_write`.
    """
    path = Path(path)
    files = checkpoint_files(path, toolbox)
    if files[0] == files[1]:
        raise UsageError(f"{path}: the config beside it has this name: call it NAME.pth")
    settings = detector.settings
    order = _order(settings, toolbox, classes)
    anchors = [settings.anchors[k] for k in order.classes]
    if toolbox == "openpcdet" and settings.area is not None:
        raise UsageError(
            f"{path}: its anchors cover {settings.area}, not the scans' area, which OpenPCDet has "
            "no setting for: write it for mmdet3d"
        )
    state = {k: v.detach().cpu() for k, v in detector.network.state_dict().items()}
    state = with_head_order(state, order)
    if toolbox == "openpcdet" and settings.coordinates == "mmdet3d_legacy":
        state = to_absolute(state)
    state = with_sparse_layout(state, _LAYOUT[toolbox], reading=False)
    names = theirs(state, toolbox)
    kept = OrderedDict(
        (names[name], tensor.clone(memory_format=torch.contiguous_format))
        for name, tensor in state.items()
    )
    _tell(path, settings, toolbox)
    config = openpcdet_config if toolbox == "openpcdet" else mmdet3d_config
    text = config(settings, anchors)
    content = _content(toolbox, kept, text, [one.name for one in anchors])
    saved = io.BytesIO()
    torch.save(content, saved)
    # What is large first: where it finds no room, a config that is there stays with its weights.
    write_files(path, {files[0].name: saved.getvalue(), files[1].name: text.encode()})
    return files


def _content(
    toolbox: Toolbox, kept: OrderedDict[str, Tensor], text: str, classes: list[str]
) -> dict[str, Any]:
    """What the checkpoint holds, of weights by their names there and the config's text."""
    if toolbox == "mmdet3d":
        meta = {"cfg": text, "dataset_meta": {"classes": classes}}
        return {"meta": {**meta, "epoch": 0, "iter": 0}, "state_dict": kept}
    return {
        "epoch": 0,
        "it": 0,
        "model_state": OrderedDict({COUNTER: torch.zeros(1, dtype=torch.long), **kept}),
        "optimizer_state": None,
        "version": f"geodistill+{__version__}",
    }


def _order(settings: AnchorSettings, toolbox: Toolbox, classes: Sequence[str] | None) -> HeadOrder:
    own = settings.classes
    if classes is None:
        classes = ORDER[toolbox] if {*own} == {*ORDER[toolbox]} else own
    if sorted(classes) != sorted(own):
        raise UsageError(f"the detector's classes are {', '.join(own)}, not {', '.join(classes)}")
    yaws = settings.anchors[0].yaws
    if any(one.yaws != yaws for one in settings.anchors) and toolbox == "mmdet3d":
        raise UsageError("mmdetection3d has the same yaws for the anchors of all classes")
    return HeadOrder([own.index(name) for name in classes], range(len(yaws)))


def _tell(path: Path, settings: AnchorSettings, toolbox: Toolbox) -> None:
    """Say what the config cannot."""
    if toolbox == "openpcdet" and settings.architecture == "second" and settings.compression > 1:
        log.say(
            f"{path}: OpenPCDet's VoxelBackBone8x has its widths in its code: divide them there to "
            "load this one"
        )
    if toolbox == "openpcdet" and settings.choice.by_class:
        log.say(f"{path}: OpenPCDet suppresses boxes of one head across classes, not within each")
    if toolbox == "mmdet3d" and not settings.choice.by_class:
        log.say(f"{path}: mmdetection3d suppresses boxes within each class alone, not across them")
