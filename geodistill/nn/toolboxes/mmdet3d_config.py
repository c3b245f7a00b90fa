"""Configs with which mmdetection3d builds a detector like one here."""

from __future__ import annotations

import pprint
from collections.abc import Sequence
from typing import Any

from geodistill.detect.anchors import ClassAnchors
from geodistill.detect.losses import BETA
from geodistill.nn.anchor_detector import AnchorSettings
from geodistill.nn.toolboxes.widths import (
    depths,
    joined_widths,
    map_channels,
    span,
    sparse_widths,
    stage_widths,
    strides,
    ups,
)


def mmdet3d_config(settings: AnchorSettings, anchors: Sequence[ClassAnchors]) -> str:
    """Python, with the anchors of the classes in the order of the file."""
    choice, reach = settings.choice, span(settings)
    model = {
        "type": "VoxelNet",
        "data_preprocessor": {
            "type": "Det3DDataPreprocessor",
            "voxel": True,
            "voxel_layer": {
                "max_num_points": settings.grid.most_points,
                "point_cloud_range": reach,
                "voxel_size": [*settings.grid.size],
                "max_voxels": (settings.grid.most_voxels, settings.most_voxels_detecting),
            },
        },
        **_encoder(settings),
        "backbone": {
            "type": "SECOND",
            "in_channels": map_channels(settings),
            "layer_nums": [*depths(settings)],
            "layer_strides": [*strides(settings)],
            "out_channels": stage_widths(settings),
        },
        "neck": {
            "type": "SECONDFPN",
            "in_channels": stage_widths(settings),
            "upsample_strides": [*ups(settings)],
            "out_channels": joined_widths(settings),
        },
        "bbox_head": _head(settings, anchors),
        "train_cfg": _training(settings, anchors),
        "test_cfg": {
            "use_rotate_nms": True,
            "nms_across_levels": False,
            "nms_thr": choice.overlap,
            "score_thr": choice.least_score,
            "min_bbox_size": 0,
            "nms_pre": choice.candidates,
            "max_num": choice.most,
        },
    }
    parts = {
        "class_names": [one.name for one in anchors],
        "metainfo": {"classes": [one.name for one in anchors]},
        "point_cloud_range": reach,
        "model": model,
    }
    shown = (f"{k} = {pprint.pformat(v, width=100, sort_dicts=False)}" for k, v in parts.items())
    return "\n".join(shown) + "\n"


def _encoder(settings: AnchorSettings) -> dict[str, Any]:
    x, y, z = settings.grid.cells
    if settings.architecture == "second":
        w16, w32, w64, w128 = sparse_widths(settings)
        return {
            "voxel_encoder": {"type": "HardSimpleVFE", "num_features": settings.values},
            "middle_encoder": {
                "type": "SparseEncoder",
                "in_channels": settings.values,
                "sparse_shape": [z + 1, y, x],
                "order": ("conv", "norm", "act"),
                "base_channels": w16,
                "output_channels": w128,
                "encoder_channels": ((w16,), (w32,) * 3, (w64,) * 3, (w64,) * 3),
            },
        }
    return {
        "voxel_encoder": {
            "type": "PillarFeatureNet",
            "in_channels": settings.values,
            "feat_channels": [map_channels(settings)],
            "with_distance": False,
            "voxel_size": [*settings.grid.size],
            "point_cloud_range": span(settings),
            "legacy": settings.coordinates == "mmdet3d_legacy",
        },
        "middle_encoder": {
            "type": "PointPillarsScatter",
            "in_channels": map_channels(settings),
            "output_shape": [y, x],
        },
    }


def _head(settings: AnchorSettings, anchors: Sequence[ClassAnchors]) -> dict[str, Any]:
    weights = settings.weights
    x, y, far_x, far_y = settings.area or (*settings.grid.low[:2], *settings.grid.high[:2])
    return {
        "type": "Anchor3DHead",
        "num_classes": len(anchors),
        "in_channels": sum(joined_widths(settings)),
        "feat_channels": sum(joined_widths(settings)),
        "use_direction_classifier": True,
        "assign_per_class": True,
        "dir_offset": settings.offset,
        "dir_limit_offset": 0,
        "anchor_generator": {
            "type": f"{'Aligned' * (settings.placing == 'centers')}Anchor3DRangeGenerator",
            "ranges": [[x, y, one.bottom, far_x, far_y, one.bottom] for one in anchors],
            "sizes": [[*one.size] for one in anchors],
            "rotations": [*anchors[0].yaws],
            "reshape_out": False,
        },
        "diff_rad_by_sin": True,
        "bbox_coder": {"type": "DeltaXYZWLHRBBoxCoder"},
        "loss_cls": {
            "type": "mmdet.FocalLoss",
            "use_sigmoid": True,
            "gamma": 2.0,
            "alpha": 0.25,
            "loss_weight": weights.classes,
        },
        "loss_bbox": {
            "type": "mmdet.SmoothL1Loss",
            "beta": BETA,
            "loss_weight": weights.codes,
        },
        "loss_dir": {
            "type": "mmdet.CrossEntropyLoss",
            "use_sigmoid": False,
            "loss_weight": weights.halves,
        },
    }


def _training(settings: AnchorSettings, anchors: Sequence[ClassAnchors]) -> dict[str, Any]:
    return {
        "assigner": [
            {
                "type": "Max3DIoUAssigner",
                "iou_calculator": {"type": "BboxOverlapsNearest3D"},
                "pos_iou_thr": one.positive,
                "neg_iou_thr": one.negative,
                "min_pos_iou": one.negative if settings.forced == "negative" else 0.0,
                "ignore_iof_thr": -1,
            }
            for one in anchors
        ],
        "allowed_border": 0,
        "pos_weight": -1,
        "debug": False,
    }
