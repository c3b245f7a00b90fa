"""Configs with which OpenPCDet builds a detector like one here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geodistill.config.yaml_text import dump
from geodistill.detect.anchors import ClassAnchors
from geodistill.nn.anchor_detector import STRIDE, AnchorSettings
from geodistill.nn.toolboxes.widths import (
    depths,
    joined_widths,
    map_channels,
    span,
    stage_widths,
    strides,
    ups,
)

_HEAD = {
    "NAME": "AnchorHeadSingle",
    "CLASS_AGNOSTIC": False,
    "USE_DIRECTION_CLASSIFIER": True,
}
_POINT = ("x", "y", "z", "intensity", "timestamp")


def openpcdet_config(settings: AnchorSettings, anchors: Sequence[ClassAnchors]) -> str:
    """YAML, with the anchors of the classes in the order of the file."""
    config = {
        "CLASS_NAMES": [one.name for one in anchors],
        "DATA_CONFIG": _data(settings),
        "MODEL": {
            **_encoder(settings),
            "BACKBONE_2D": {
                "NAME": "BaseBEVBackbone",
                "LAYER_NUMS": [*depths(settings)],
                "LAYER_STRIDES": [*strides(settings)],
                "NUM_FILTERS": stage_widths(settings),
                "UPSAMPLE_STRIDES": [*ups(settings)],
                "NUM_UPSAMPLE_FILTERS": joined_widths(settings),
            },
            "DENSE_HEAD": {
                **_HEAD,
                "DIR_OFFSET": settings.offset,
                "DIR_LIMIT_OFFSET": 0.0,
                "NUM_DIR_BINS": 2,
                "ANCHOR_GENERATOR_CONFIG": [_anchors(settings, one) for one in anchors],
                "TARGET_ASSIGNER_CONFIG": {
                    "NAME": "AxisAlignedTargetAssigner",
                    "POS_FRACTION": -1.0,
                    "SAMPLE_SIZE": 512,
                    "NORM_BY_NUM_EXAMPLES": False,
                    "MATCH_HEIGHT": False,
                    "BOX_CODER": "ResidualCoder",
                },
                "LOSS_CONFIG": {
                    "LOSS_WEIGHTS": {
                        "cls_weight": settings.weights.classes,
                        "loc_weight": settings.weights.codes,
                        "dir_weight": settings.weights.halves,
                        "code_weights": [1.0] * 7,
                    }
                },
            },
            "POST_PROCESSING": {
                "RECALL_THRESH_LIST": [0.3, 0.5, 0.7],
                "SCORE_THRESH": settings.choice.least_score,
                "OUTPUT_RAW_SCORE": False,
                "EVAL_METRIC": "kitti",
                "NMS_CONFIG": {
                    "MULTI_CLASSES_NMS": False,  # is of several heads alone
                    "NMS_TYPE": "nms_gpu",
                    "NMS_THRESH": settings.choice.overlap,
                    "NMS_PRE_MAXSIZE": settings.choice.candidates,
                    "NMS_POST_MAXSIZE": settings.choice.most,
                },
            },
        },
    }
    return dump(config)


def _data(settings: AnchorSettings) -> dict[str, Any]:
    return {
        "_BASE_CONFIG_": "cfgs/dataset_configs/kitti_dataset.yaml",
        "POINT_CLOUD_RANGE": span(settings),
        "POINT_FEATURE_ENCODING": {
            "encoding_type": "absolute_coordinates_encoding",
            "used_feature_list": _values(settings.values),
            "src_feature_list": _values(max(settings.values, 4)),  # scans have these at least
        },
        "DATA_PROCESSOR": [
            {"NAME": "mask_points_and_boxes_outside_range", "REMOVE_OUTSIDE_BOXES": True},
            {"NAME": "shuffle_points", "SHUFFLE_ENABLED": {"train": True, "test": False}},
            {
                "NAME": "transform_points_to_voxels",
                "VOXEL_SIZE": [*settings.grid.size],
                "MAX_POINTS_PER_VOXEL": settings.grid.most_points,
                "MAX_NUMBER_OF_VOXELS": {
                    "train": settings.grid.most_voxels,
                    "test": settings.most_voxels_detecting,
                },
            },
        ],
    }


def _values(count: int) -> list[str]:
    """Names of a point's values."""
    more = (f"value_{number}" for number in range(len(_POINT) + 1, count + 1))
    return [*_POINT[:count], *more]


def _encoder(settings: AnchorSettings) -> dict[str, Any]:
    if settings.architecture == "second":
        return {
            "NAME": "SECONDNet",
            "VFE": {"NAME": "MeanVFE"},
            "BACKBONE_3D": {"NAME": "VoxelBackBone8x"},
            "MAP_TO_BEV": {"NAME": "HeightCompression", "NUM_BEV_FEATURES": map_channels(settings)},
        }
    return {
        "NAME": "PointPillar",
        "VFE": {
            "NAME": "PillarVFE",
            "WITH_DISTANCE": False,
            "USE_ABSLOTE_XYZ": True,
            "USE_NORM": True,
            "NUM_FILTERS": [map_channels(settings)],
        },
        "MAP_TO_BEV": {"NAME": "PointPillarScatter", "NUM_BEV_FEATURES": map_channels(settings)},
    }


def _anchors(settings: AnchorSettings, one: ClassAnchors) -> dict[str, Any]:
    return {
        "class_name": one.name,
        "anchor_sizes": [[*one.size]],
        "anchor_rotations": [*one.yaws],
        "anchor_bottom_heights": [one.bottom],
        "align_center": settings.placing == "centers",
        "feature_map_stride": STRIDE[settings.architecture],
        "matched_threshold": one.positive,
        "unmatched_threshold": one.negative,
    }
