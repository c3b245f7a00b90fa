"""What makes a detector here give what its toolbox gives, from the toolboxes' own settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any, Literal

from geodistill.checks import InputError
from geodistill.detect.anchors import KITTI, ClassAnchors
from geodistill.nn import pointpillars, second
from geodistill.nn.anchor_detector import AnchorSettings, Choice
from geodistill.nn.toolboxes.names import Architecture, Toolbox
from geodistill.nn.voxels import VoxelGrid

Convention = Literal["mmdet3d", "mmdet3d-0", "openpcdet"]
"""Of boxes, see `detect.boxes.CONVENTIONS`: mmdet3d-0 is before 1.0."""

ORDER: dict[Toolbox, tuple[str, ...]] = {
    "mmdet3d": ("Pedestrian", "Cyclist", "Car"),
    "openpcdet": ("Car", "Pedestrian", "Cyclist"),
}
"""Of the classes of KITTI, in which the toolboxes' own detectors have them."""

OPENPCDET_OFFSET = 0.78539  # as its settings write pi / 4
CHOICES: dict[Toolbox, Choice] = {
    "mmdet3d": Choice(0.1, 100, 0.01, 50, by_class=True),
    "openpcdet": Choice(0.1, 4096, 0.01, 500, by_class=False),
}
KITTI_BASE = "kitti_dataset.yaml"
"""On which OpenPCDet's detectors of KITTI are based."""
_MOST_CELLS = 1 << 23  # on the ground
_NO_LIMIT = 1 << 30
_OLD_PILLARS_AREA = (0.0, -39.68, 70.4, 39.68)  # so before 0.18, though the scans end at 69.12


class OtherNetwork(InputError):
    """Settings of a network that there is none of here, though its weights have the same shapes."""


class OtherGrid(InputError):
    """Settings that leave the grid of voxels to a file that is not there."""


def published(architecture: Architecture, convention: Convention) -> AnchorSettings:
    """As the toolbox publishes its detector of KITTI, its classes in the order of `KITTI` here."""
    pillars = architecture == "pointpillars"
    grid = pointpillars.KITTI_GRID if pillars else second.KITTI_GRID
    settings = AnchorSettings(architecture=architecture, grid=grid)
    if convention == "openpcdet":
        return replace(
            settings,
            placing="ends",
            offset=OPENPCDET_OFFSET,
            forced="any",
            normaliser="scan",
            choice=CHOICES["openpcdet"],
        )
    old = convention == "mmdet3d-0"
    anchors = KITTI if pillars else tuple(map(_as_in_second, KITTI))
    return replace(
        settings,
        anchors=tuple(map(since_1, anchors)) if old else anchors,
        placing="centers" if pillars and not old else "ends",
        area=_OLD_PILLARS_AREA if pillars and old else None,
        offset=-math.pi / 2,
        forced="negative",
        normaliser="batch",
        coordinates="mmdet3d_legacy" if pillars else "absolute",
        choice=CHOICES["mmdet3d"],
    )


def since_1(anchors: ClassAnchors) -> ClassAnchors:
    """Anchors whose yaws are those of mmdetection3d before 1.0, as the same boxes since: in the
    opposite order, so that 0 and 1.57 become 0.0008 and 1.5708."""
    return replace(anchors, yaws=tuple(math.pi / 2 - yaw for yaw in reversed(anchors.yaws)))


def from_openpcdet(
    config: Mapping[str, Any], start: AnchorSettings, grid: VoxelGrid | None = None
) -> AnchorSettings:
    """With what a YAML file of OpenPCDet sets, its classes in the order of the file.

    Args:
        grid: that counts where the file sets none.

    Raises OtherNetwork for a network that there is none of here, OtherGrid where only a file that
    it is based on says its grid, and KeyError, TypeError, ValueError or IndexError for other
    settings.
    """
    model = config["MODEL"]
    _expect_no_distance(model.get("VFE", {}).get("WITH_DISTANCE"))
    backbone = model.get("BACKBONE_2D", {})
    _expect_strides(start, backbone.get("LAYER_STRIDES"), backbone.get("UPSAMPLE_STRIDES"))
    head = model["DENSE_HEAD"]
    given = head["ANCHOR_GENERATOR_CONFIG"]
    anchors = [_openpcdet_anchors(one) for one in given]
    if config.get("CLASS_NAMES", names := [one.name for one in anchors]) != names:
        raise ValueError(f"the anchors' classes {names} are not CLASS_NAMES")
    centers = {bool(one.get("align_center", False)) for one in given}
    data = config.get("DATA_CONFIG", {})
    steps = [s for s in data.get("DATA_PROCESSOR", ()) if "VOXEL_SIZE" in s]
    settings = replace(
        start,
        anchors=tuple(anchors),
        placing="centers" if _one(centers) else "ends",
        offset=_offset(head["DIR_OFFSET"], head.get("DIR_LIMIT_OFFSET", 0)),
    )
    if steps and (grid is None or "POINT_CLOUD_RANGE" in data):
        most = steps[0]["MAX_NUMBER_OF_VOXELS"]
        settings = _with_grid(
            settings,
            _range(data),
            steps[0]["VOXEL_SIZE"],
            steps[0]["MAX_POINTS_PER_VOXEL"],
            (most["train"], most["test"]),
        )
    elif grid is None:
        _expect_published_grid(data, start.grid)
    after = model.get("POST_PROCESSING")
    if after:
        nms = after["NMS_CONFIG"]
        choice = Choice(
            float(after["SCORE_THRESH"]),
            int(nms["NMS_PRE_MAXSIZE"]),
            float(nms["NMS_THRESH"]),
            int(nms["NMS_POST_MAXSIZE"]),
            bool(nms["MULTI_CLASSES_NMS"]),
        )
        settings = replace(settings, choice=choice)
    return settings


def _openpcdet_anchors(one: Mapping[str, Any]) -> ClassAnchors:
    return ClassAnchors(
        name=str(one["class_name"]),
        size=_numbers(*one["anchor_sizes"]),
        bottom=float(_one(one["anchor_bottom_heights"])),
        positive=float(one["matched_threshold"]),
        negative=float(one["unmatched_threshold"]),
        yaws=_numbers(one["anchor_rotations"]),
    )


def from_mmdet3d(
    config: Mapping[str, Any], names: Sequence[str], start: AnchorSettings, old: bool
) -> AnchorSettings:
    """With what a config of mmdetection3d sets, its classes, of these names, in its order.

    Raises OtherNetwork for a network that there is none of here, and KeyError, TypeError,
    ValueError or IndexError for other settings.
    """
    model = config["model"]
    _expect_no_distance(model.get("voxel_encoder", {}).get("with_distance"))
    strides = model.get("backbone", {}).get("layer_strides")
    _expect_strides(start, strides, model.get("neck", {}).get("upsample_strides"))
    head = model["bbox_head"]
    given = head["anchor_generator"]
    training = model.get("train_cfg") or config.get("train_cfg") or {}
    rules = training.get("assigner") or [
        {"pos_iou_thr": one.positive, "neg_iou_thr": one.negative} for one in start.anchors
    ]
    rules = [rules] * len(names) if isinstance(rules, dict) else rules
    anchors, area = _generated(given, rules, names, old)
    settings = replace(
        start,
        anchors=anchors,
        placing="centers" if _class(given).startswith("Aligned") else "ends",
        offset=-math.pi / 2 - float(head.get("dir_offset", 0))
        if old
        else _offset(head.get("dir_offset", start.offset), head.get("dir_limit_offset", 0)),
    )
    layer = (model.get("data_preprocessor") or model)["voxel_layer"]
    span, most = layer["point_cloud_range"], layer["max_voxels"]
    settings = _with_grid(settings, span, layer["voxel_size"], layer["max_num_points"], most)
    grid = settings.grid
    settings = replace(settings, area=None if area == (*grid.low[:2], *grid.high[:2]) else area)
    if all(float(rule.get("min_pos_iou", 1)) == 0 for rule in rules):
        settings = replace(settings, forced="any")
    encoder = model["voxel_encoder" if start.architecture == "pointpillars" else "middle_encoder"]
    settings = replace(settings, values=int(encoder.get("in_channels", start.values)))
    if settings.architecture == "pointpillars":
        legacy = model["voxel_encoder"].get("legacy", True)
        settings = replace(settings, coordinates="mmdet3d_legacy" if legacy else "absolute")
    after = model.get("test_cfg") or config.get("test_cfg")
    if after:
        numbers = (int(after["nms_pre"]), float(after["nms_thr"]), int(after["max_num"]))
        settings = replace(
            settings, choice=Choice(float(after["score_thr"]), *numbers, by_class=True)
        )
    return settings


def _generated(
    given: Mapping[str, Any], rules: Sequence[Any], names: Sequence[str], old: bool
) -> tuple[tuple[ClassAnchors, ...], tuple[float, ...]]:
    """The anchors of mmdetection3d's generator, and the one area that they cover."""
    sizes, ranges = given["sizes"], list(given["ranges"])
    ranges = ranges * len(sizes) if len(ranges) == 1 else ranges
    anchors, areas = [], set()
    for name, size, span, rule in zip(names, sizes, ranges, rules, strict=True):
        width_length = _numbers(size)
        length, width = width_length[1::-1] if old else width_length[:2]
        x, y, bottom, far_x, far_y, _ = _numbers(span)
        areas.add((x, y, far_x, far_y))
        found = ClassAnchors(
            name,
            (length, width, width_length[2]),
            bottom,
            float(rule["pos_iou_thr"]),
            float(rule["neg_iou_thr"]),
            _numbers(given.get("rotations", (0, 1.5707963))),
        )
        anchors.append(since_1(found) if old else found)
    return tuple(anchors), _one(areas)


def _as_in_second(one: ClassAnchors) -> ClassAnchors:
    """mmdetection3d's SECOND asks less of an anchor of a small object."""
    return one if one.name == "Car" else dataclasses.replace(one, positive=0.35, negative=0.2)


def _with_grid(
    settings: AnchorSettings, span: Any, size: Any, most_points: Any, most_voxels: Any
) -> AnchorSettings:
    *low, a, b, c = _numbers(span)
    x, y, z = _numbers(size)
    train, test = map(_limit, most_voxels)
    most = _limit(most_points)
    grid = VoxelGrid((low[0], low[1], low[2]), (a, b, c), (x, y, z), most, train)
    if not 0 < grid.cells[0] * grid.cells[1] <= _MOST_CELLS:
        raise ValueError(f"voxels of {x} x {y} x {z} m")
    return replace(settings, grid=grid, most_voxels_detecting=test)


def _range(data: Mapping[str, Any]) -> Any:
    """Of the points; where a file sets voxels alone, that of the data set it is based on."""
    if "POINT_CLOUD_RANGE" in data:
        return data["POINT_CLOUD_RANGE"]
    base = str(data.get("_BASE_CONFIG_", KITTI_BASE))
    if base.endswith(KITTI_BASE):
        return (*second.KITTI_GRID.low, *second.KITTI_GRID.high)
    raise OtherGrid(
        "it sets no POINT_CLOUD_RANGE, which its _BASE_CONFIG_ does: put "
        f"{PurePath(base).name} beside it"
    )


def _expect_strides(start: AnchorSettings, layers: Any, ups: Any) -> None:
    # Weights have the same shapes whatever these are.
    own = pointpillars if start.architecture == "pointpillars" else second
    for what, given, known in (("layers", layers, own.STRIDES), ("upsampling", ups, own.UPS)):
        if given is not None and _numbers(given) != known:
            raise OtherNetwork(
                f"the strides of its {what} are {[*given]}: those of {start.architecture} here are "
                f"{[*known]}"
            )


def _expect_published_grid(data: Mapping[str, Any], grid: VoxelGrid) -> None:
    base = str(data.get("_BASE_CONFIG_", KITTI_BASE))
    span = data.get("POINT_CLOUD_RANGE")
    if base.endswith(KITTI_BASE) and (span is None or _numbers(span) == (*grid.low, *grid.high)):
        return
    raise OtherGrid(
        "it sets no voxels (DATA_PROCESSOR with VOXEL_SIZE), which its _BASE_CONFIG_ does: put "
        f"{PurePath(base).name} beside it"
    )


def _expect_no_distance(given: Any) -> None:
    # Its weights have the shape of those of points with one value more.
    if given:
        raise OtherNetwork("its pillars see each point's distance: here they do not")


def _offset(offset: Any, limit: Any) -> float:
    if float(limit) != 0:
        raise ValueError(f"limit of directions {limit}")
    return float(offset)


def _limit(count: Any) -> int:
    """-1 is none, as for mmdetection3d's dynamic voxels."""
    return int(count) if int(count) >= 0 else _NO_LIMIT


def _numbers(values: Any) -> Any:
    found = tuple(float(value) for value in values)
    if not all(map(math.isfinite, found)):
        raise ValueError(f"numbers {found}")
    return found


def _one(values: Collection[Any]) -> Any:
    (value,) = values
    return value


def _class(config: Mapping[str, Any]) -> str:
    """`module.Class` and the class itself are both ways to name it."""
    return str(config["type"]).rpartition(".")[2]
