"""Detectors in checkpoints of mmdetection3d and OpenPCDet, read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from geodistill import config, log
from geodistill.checks import InputError, UsageError
from geodistill.detect.anchors import KITTI, ClassAnchors
from geodistill.io.checkpoints import load_checkpoint, outline_checkpoint
from geodistill.nn.detector import Detector, DetectorSettings
from geodistill.nn.pointpillars import DIVISORS, narrowed
from geodistill.nn.toolboxes.layouts import (
    HeadOrder,
    State,
    from_old_boxes,
    sparse_layout,
    with_head_order,
    with_sparse_layout,
)
from geodistill.nn.toolboxes.names import (
    ARCHITECTURES,
    COUNTER,
    IGNORED,
    TOOLBOXES,
    Architecture,
    Toolbox,
    theirs,
)
from geodistill.nn.toolboxes.python_text import assigned
from geodistill.nn.toolboxes.settings import (
    ORDER,
    Convention,
    from_mmdet3d,
    from_openpcdet,
    published,
)
from geodistill.nn.voxels import VoxelGrid

_STATES = ("state_dict", "model_state")
_PARTS = (*_STATES, "meta")
_FIRST_WIDTH = {"pointpillars": 64, "second": 16}
_MISREAD = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)


@dataclass(frozen=True, eq=False)
class ToolboxDetector:
    """Attributes:
    toolbox: that wrote it.
    convention: of the boxes that it was trained with; those of `detector` are this package's.
    detector: in eval mode, with the settings in which it gives what the toolbox does. The classes
        of KITTI are in the order of `detect.anchors.KITTI`, others in that of the file.
    """

    toolbox: Toolbox
    convention: Convention
    detector: Detector


@dataclass(frozen=True)
class _Head:
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


def read_detector(
    path: Path | str,
    anchors: tuple[ClassAnchors, ...] | None = None,
    grid: VoxelGrid | None = None,
    convention: Convention | None = None,
) -> ToolboxDetector:
    """PointPillars or SECOND, of any published width, from a checkpoint.

    Its settings are those of the config in it (mmdetection3d) or of a YAML file of its name beside
    it (OpenPCDet); without, those with which the toolbox publishes its detector of KITTI.

    Args:
        anchors: of the classes in the order of the file, in the place of these settings'; yaws are
            in this package's convention.
        grid: of voxels, in the place of these settings'.
        convention: of the boxes that it was trained with; mmdet3d-0 is mmdetection3d before 1.0.
            None: as the version in the file says, and the newer where it says none.

    Raises InputError, naming the file, when it is missing, damaged, or another network.
    """
    path = Path(path)
    content = load_checkpoint(path, _PARTS)
    state = _state(content, path)
    toolbox, architecture, own = _recognised(state, path)
    values = {name: state[key] for name, key in own.items()}
    shape, head = _shape(values, architecture, path)
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    convention = convention or _convention(toolbox, meta)
    if convention not in (("openpcdet",) if toolbox == "openpcdet" else ("mmdet3d", "mmdet3d-0")):
        raise UsageError(f"{path} is of {toolbox}: its boxes are not those of {convention}")
    settings = published(architecture, convention)
    named = _names(meta, toolbox, head, path, anchors, settings)
    settings = _configured(path, settings, meta, convention, named)
    settings = replace(settings, **shape, grid=grid or settings.grid)
    settings = replace(settings, anchors=anchors or settings.anchors)
    settings, order = _ordered(settings, head, path, convention)
    try:
        detector = Detector(settings)
    except UsageError as error:
        raise InputError(f"{path}: {error}") from None
    detector.network.load_state_dict(_arranged(values, detector, order, convention, path))
    return ToolboxDetector(toolbox, convention, detector.eval())


def _state(content: Mapping[str, Any], path: Path) -> State:
    found = next((content[key] for key in _STATES if key in content), None)
    if not isinstance(found, dict):
        raise InputError(
            f"{path} is no checkpoint of mmdetection3d or OpenPCDet: it has neither state_dict nor "
            "model_state"
        )
    wrong = [key for key, value in found.items() if not isinstance(value, Tensor)]
    if wrong or not all(isinstance(key, str) for key in found):
        raise InputError(f"{path}: its state holds more than tensors, such as {wrong[:1]}")
    kept = {key: value for key, value in found.items() if not key.startswith(IGNORED)}
    if len(kept) < len(found):
        log.say(f"{path}: {len(found) - len(kept)} tensors of distillation's adapters left out")
    return {key: value for key, value in kept.items() if key != COUNTER}


def _recognised(state: State, path: Path) -> tuple[Toolbox, Architecture, dict[str, str]]:
    """The network whose names are the state's, and these by its own.

    Raises InputError where names are missing or unknown.
    """
    known = {
        (toolbox, architecture): theirs(_weights(architecture), toolbox)
        for toolbox in TOOLBOXES
        for architecture in ARCHITECTURES
    }
    toolbox, architecture = max(known, key=lambda k: len(state.keys() & {*known[k].values()}))
    own = known[toolbox, architecture]
    wanted = {*own.values()}
    missing, unknown = sorted(wanted - state.keys()), sorted(state.keys() - wanted)
    if missing or unknown:
        parts = (("are missing", missing), ("are unknown", unknown))
        words = [f"{len(n)} tensors {what} ({_few(n)})" for what, n in parts if n]
        raise InputError(
            f"{path} is no PointPillars or SECOND with anchors of mmdetection3d or OpenPCDet; of "
            f"{toolbox}'s {architecture}, the nearest, {', '.join(words)}"
        )
    return toolbox, architecture, own


def _weights(architecture: Architecture) -> list[str]:
    """Names of a network's weights, which all widths share."""
    settings = published(architecture, "openpcdet")
    return [*Detector(replace(settings, compression=16)).network.state_dict()]


def _shape(
    state: State, architecture: Architecture, path: Path
) -> tuple[dict[str, int], _Head]:
    """Compression and values of a point, and what the head predicts."""
    width = len(state[_norm(architecture)].flatten())
    known = {narrowed(_FIRST_WIDTH[architecture], c): c for c in DIVISORS}
    if width not in known:
        widths = ", ".join(map(str, known))
        raise InputError(
            f"{path}: its first layer has {width} channels, {architecture} of a compression that "
            f"is published has one of {widths}"
        )
    if architecture == "pointpillars":
        values = state["encoder.linear.weight"].numel() // width - 6
    else:
        values = state["encoder.first.convolution.weight"].numel() // (27 * width)
    logits, codes, halves = (
        state[f"head.{part}.bias"].numel() for part in ("logits", "codes", "halves")
    )
    count = halves // 2
    classes = logits // count if count else 0
    yaws = count // classes if classes else 0
    if (classes * classes * yaws, 2 * classes * yaws) != (logits, halves) or not yaws:
        raise InputError(
            f"{path}: {logits} class scores and {halves} directions of a cell are not those of one "
            "head with as many anchors for each class"
        )
    if codes != 7 * count:
        raise InputError(f"{path}: {codes} codes for {count} anchors: only boxes of 7 are read")
    if values < 3:
        raise InputError(f"{path}: its points have {values} values, fewer than x, y and z")
    return {"compression": known[width], "values": values}, _Head(classes, yaws)


def _norm(architecture: Architecture) -> str:
    return f"encoder.{'' if architecture == 'pointpillars' else 'first.'}norm.weight"


def _convention(toolbox: Toolbox, meta: Mapping[str, Any]) -> Convention:
    if toolbox == "openpcdet":
        return "openpcdet"
    version = meta.get("mmdet3d_version")
    if isinstance(version, str):
        return "mmdet3d-0" if version.startswith("0.") else "mmdet3d"
    # The first versions did not write their own; since 1.1 mmengine writes these.
    before = "mmdet_version" in meta and not {"mmengine_version", "dataset_meta"} & meta.keys()
    return "mmdet3d-0" if before else "mmdet3d"


def _names(
    meta: Mapping[str, Any],
    toolbox: Toolbox,
    head: _Head,
    path: Path,
    anchors: tuple[ClassAnchors, ...] | None,
    settings: DetectorSettings,
) -> tuple[str, ...]:
    """Of the classes, in the order of the file."""
    if anchors is not None:
        return tuple(one.name for one in anchors)
    data = meta.get("dataset_meta")
    named = meta.get("CLASSES") or (data.get("classes") if isinstance(data, dict) else None)
    if isinstance(named, (list, tuple)) and all(isinstance(name, str) for name in named):
        return tuple(named)
    usual = {len(settings.anchors): ORDER[toolbox], 1: ("Car",)}
    return usual.get(head.classes, ())


def _configured(
    path: Path,
    settings: DetectorSettings,
    meta: Mapping[str, Any],
    convention: Convention,
    names: tuple[str, ...],
) -> DetectorSettings:
    """Settings of the file's config where it has one, in the order of the file."""
    beside = path.with_suffix(".yaml")
    text = meta.get("cfg") or meta.get("config")
    try:
        if convention == "openpcdet":
            if beside.is_file():
                found = from_openpcdet(config.read_yaml(beside), settings)
                log.say(f"{path}: its settings are those of {beside.name} beside it")
                return found
        elif isinstance(text, str):
            given = assigned(text, f"the config in {path}")
            return from_mmdet3d(given, names, settings, convention == "mmdet3d-0")
    except _MISREAD as error:
        if isinstance(error, InputError) and convention == "openpcdet":
            raise
        where = beside if convention == "openpcdet" else f"{path}: the config in it"
        log.say(f"{where} is not understood ({error!r}): published settings are taken")
    by_name = {one.name: one for one in settings.anchors}
    return replace(settings, anchors=tuple(by_name[name] for name in names if name in by_name))


def _ordered(
    settings: DetectorSettings, head: _Head, path: Path, convention: Convention
) -> tuple[DetectorSettings, HeadOrder]:
    """Classes in the order of this package, and where they are in the file."""
    anchors = settings.anchors
    shape = {(len(anchors), len(one.yaws)) for one in anchors}
    if shape != {(head.classes, head.yaws)}:
        names = ", ".join(one.name for one in anchors) or "none"
        raise InputError(
            f"{path} has a head of {head.classes} classes with {head.yaws} anchors each, known are "
            f"those of {names}: say its anchors, in its order"
        )
    usual = [one.name for one in KITTI]
    order = list(range(head.classes))
    if {one.name for one in anchors} <= {*usual}:
        order.sort(key=lambda k: usual.index(anchors[k].name))
    yaws = range(head.yaws)
    turned = reversed(yaws) if convention == "mmdet3d-0" else yaws
    return replace(settings, anchors=tuple(anchors[k] for k in order)), HeadOrder(order, [*turned])


def _arranged(
    state: State, detector: Detector, order: HeadOrder, convention: Convention, path: Path
) -> State:
    """Weights as the network here has them."""
    own = detector.network.state_dict()
    layout = sparse_layout(state, own)
    if layout is not None:
        state = with_sparse_layout(state, layout, reading=True)
    wrong = [
        f"{name} {list(state[name].shape)} instead of {list(own[name].shape)}"
        for name in own
        if state[name].shape != own[name].shape
    ]
    if wrong:
        settings = detector.settings
        raise InputError(
            f"{path} is no {settings.architecture} of compression {settings.compression}: "
            f"{len(wrong)} tensors have another shape ({_few(wrong)})"
        )
    state = with_head_order(state, order)
    return from_old_boxes(state) if convention == "mmdet3d-0" else state


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
