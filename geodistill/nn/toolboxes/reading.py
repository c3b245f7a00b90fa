"""Detectors in checkpoints of mmdetection3d and OpenPCDet, read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from geodistill import config, log
from geodistill.checks import InputError, UsageError
from geodistill.detect.anchors import KITTI, ClassAnchors
from geodistill.io.checkpoints import load_checkpoint
from geodistill.nn.anchor_detector import STRIDE, AnchorDetector, AnchorSettings
from geodistill.nn.detector_files import expect_finite
from geodistill.nn.toolboxes.layouts import (
    HeadOrder,
    State,
    from_old_boxes,
    is_without_height,
    sparse_layout,
    to_absolute,
    with_head_order,
    with_height,
    with_sparse_layout,
)
from geodistill.nn.toolboxes.names import Toolbox
from geodistill.nn.toolboxes.python_text import assigned
from geodistill.nn.toolboxes.recognition import STATES, Shape, few, recognised, shape_of, weights_in
from geodistill.nn.toolboxes.settings import (
    ORDER,
    Convention,
    OtherGrid,
    OtherNetwork,
    from_mmdet3d,
    from_openpcdet,
    published,
)
from geodistill.nn.voxels import VoxelGrid

_MOST_ANCHORS = 1 << 24
_MISREAD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


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
    detector: AnchorDetector


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
        grid: of voxels, which anchors cover, in the place of these settings'.
        convention: of the boxes that it was trained with; mmdet3d-0 is mmdetection3d before 1.0.
            None: as the version in the file says, and the newer where it says none.

    Raises InputError, naming the file, when it is missing, damaged, another network, or its config
    is not understood.
    """
    path = Path(path)
    content = load_checkpoint(path, (*STATES, "meta"))
    state = weights_in(content, path)
    toolbox, architecture, own = recognised(state, path)
    expect_finite(state, path)
    values = {name: state[key] for name, key in own.items()}
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    convention = convention or _convention(toolbox, meta)
    flat = convention == "mmdet3d-0" and is_without_height(values)
    values = with_height(values) if flat else values
    shape = shape_of(values, architecture, path)
    if not convention.startswith(toolbox):
        raise UsageError(f"{path} is of {toolbox}: its boxes are not those of {convention}")
    names = tuple(one.name for one in anchors) if anchors else _names(meta, toolbox, shape)
    usual = published(architecture, convention)
    found = _configured(path, usual, meta, convention, names, grid)
    settings = found or usual
    if found is not None and toolbox == "mmdet3d":
        _expect_values(found, shape, path)
    if flat:
        values = to_absolute(values, 2) if settings.coordinates == "mmdet3d_legacy" else values
        settings = replace(settings, coordinates="absolute")
    if anchors is None:
        anchors = found.anchors if found else _of_names(usual.anchors, names)
    classes, order = _ordered(anchors, shape, path, convention)
    settings = replace(
        settings,
        compression=shape.compression,
        values=shape.values,
        anchors=classes,
        grid=grid or settings.grid,
        area=None if grid else settings.area,
    )
    _expect_few(settings, shape, path)
    detector = AnchorDetector(settings)
    detector.network.load_state_dict(_arranged(values, detector, order, convention, path))
    return ToolboxDetector(toolbox, convention, detector.eval())


def _of_names(anchors: Sequence[ClassAnchors], names: Sequence[str]) -> tuple[ClassAnchors, ...]:
    """Those of the classes that there are."""
    by_name = {one.name: one for one in anchors}
    return tuple(by_name[name] for name in names if name in by_name)


def _expect_few(settings: AnchorSettings, shape: Shape, path: Path) -> None:
    x, y, _ = settings.grid.cells
    most = _MOST_ANCHORS * STRIDE[settings.architecture] ** 2
    if x * y * shape.classes * shape.yaws > most:
        raise InputError(f"{path}: {x} x {y} cells with {shape.classes} classes are too many")


def _expect_values(found: AnchorSettings, shape: Shape, path: Path) -> None:
    if found.values != shape.values:
        raise InputError(
            f"{path}: points have {found.values} values by its config and {shape.values} by its "
            "weights"
        )


def _convention(toolbox: Toolbox, meta: Mapping[str, Any]) -> Convention:
    if toolbox == "openpcdet":
        return "openpcdet"
    version = meta.get("mmdet3d_version")
    if isinstance(version, str):
        return "mmdet3d-0" if version.startswith("0.") else "mmdet3d"
    # The first versions did not write their own; since 1.1 mmengine writes these.
    before = "mmdet_version" in meta and not {"mmengine_version", "dataset_meta"} & meta.keys()
    return "mmdet3d-0" if before else "mmdet3d"


def _names(meta: Mapping[str, Any], toolbox: Toolbox, shape: Shape) -> tuple[str, ...]:
    """Of the classes, in the order of the file."""
    data = meta.get("dataset_meta")
    data = {str(key).lower(): data[key] for key in data} if isinstance(data, dict) else {}
    named = meta.get("CLASSES") or data.get("classes") or _config_names(meta)
    if isinstance(named, list | tuple) and all(isinstance(name, str) for name in named):
        return tuple(named)
    return {len(ORDER[toolbox]): ORDER[toolbox], 1: ("Car",)}.get(shape.classes, ())


def _config_names(meta: Mapping[str, Any]) -> Any:
    """What the config in the file calls the classes, if it does."""
    key = _config_key(meta)
    try:
        given = assigned(meta[key], "its config") if key else {}
    except _MISREAD:
        return None  # `_configured` says why
    info = given.get("metainfo")
    return given.get("class_names") or (info.get("classes") if isinstance(info, dict) else None)


def _config_key(meta: Mapping[str, Any]) -> str | None:
    """Where the file has its config."""
    keys = (key for key in ("cfg", "config") if isinstance(meta.get(key), str) and meta[key])
    return next(keys, None)


def _configured(
    path: Path,
    settings: AnchorSettings,
    meta: Mapping[str, Any],
    convention: Convention,
    names: tuple[str, ...],
    grid: VoxelGrid | None,
) -> AnchorSettings | None:
    """Settings of the file's config, its classes in the order of the file; None where there is no
    config. Raises InputError for one that is not understood."""
    if convention == "openpcdet":
        beside = path.with_suffix(".yaml")
        if beside.is_file():
            try:
                settings = from_openpcdet(_with_base(beside), settings, grid)
            except OtherNetwork as error:
                raise InputError(f"{path}: {error}") from None
            except OtherGrid as error:
                raise InputError(f"{beside}: {error}") from None
            except _MISREAD as error:
                raise InputError(
                    f"{beside}, beside {path.name}, is no config of its detector that is "
                    f"understood ({_said(error)}): correct it, or rename it where the settings "
                    "that are published for KITTI are its own"
                ) from None
            log.say(f"{path}: its settings are those of {beside.name} beside it")
            return settings
    key = _config_key(meta)
    if convention == "openpcdet" or key is None:
        log.say(f"{path}: no config says its settings, which are taken as published for KITTI")
        return None
    try:
        given = assigned(meta[key], "its config")
        return from_mmdet3d(given, names, settings, convention == "mmdet3d-0")
    except OtherNetwork as error:
        raise InputError(f"{path}: {error}") from None
    except _MISREAD as error:
        raise InputError(
            f"{path}: the config in it is not understood ({_said(error)}): where the settings that "
            f"are published for KITTI are its own, save it without meta['{key}']"
        ) from None


def _with_base(path: Path) -> dict[str, Any]:
    """A YAML file with what its data are based on, where that is beside it."""
    found = config.read_yaml(path)
    data = found.get("DATA_CONFIG", {})
    name = data.get("_BASE_CONFIG_") if isinstance(data, dict) else None
    base = path.with_name(PurePath(str(name)).name) if name else path
    if base == path or not base.is_file():
        return found
    return {**found, "DATA_CONFIG": {**config.read_yaml(base), **data}}


def _said(error: BaseException) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)[:100]


def _ordered(
    anchors: tuple[ClassAnchors, ...], shape: Shape, path: Path, convention: Convention
) -> tuple[tuple[ClassAnchors, ...], HeadOrder]:
    """Classes in the order of this package, and where they are in the file."""
    if {(len(anchors), len(one.yaws)) for one in anchors} != {(shape.classes, shape.yaws)}:
        names = ", ".join(one.name for one in anchors) or "none"
        raise InputError(
            f"{path} has a head of {shape.classes} classes with {shape.yaws} anchors each, but the "
            f"anchors that are known are those of {names}: give its own, in its order, to "
            "read_detector(path, anchors=...)"
        )
    usual = [one.name for one in KITTI]
    order = list(range(shape.classes))
    if {one.name for one in anchors} <= {*usual}:
        order.sort(key=lambda k: usual.index(anchors[k].name))
    yaws = range(shape.yaws)
    turned = reversed(yaws) if convention == "mmdet3d-0" else yaws
    return tuple(anchors[k] for k in order), HeadOrder(order, [*turned])


def _arranged(
    state: State, detector: AnchorDetector, order: HeadOrder, convention: Convention, path: Path
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
            f"{len(wrong)} tensors have another shape ({few(wrong)})"
        )
    state = with_head_order(state, order)
    return from_old_boxes(state) if convention == "mmdet3d-0" else state
