"""Checkpoints and configs as mmdetection3d and OpenPCDet write them, small."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import yaml

SPAN = [0, -2.56, -3, 5.12, 2.56, 1]
PILLARS, VOXELS = [0.32, 0.32, 4], [0.16, 0.16, 0.1]
ORDERS = {"mmdet3d": "Pedestrian Cyclist Car", "openpcdet": "Car Pedestrian Cyclist"}
SIZES = {"Pedestrian": [0.8, 0.6, 1.73], "Cyclist": [1.76, 0.6, 1.73], "Car": [3.9, 1.6, 1.56]}
BOTTOMS = {"Pedestrian": -0.6, "Cyclist": -0.6, "Car": -1.78}


def mmdet3d_text(architecture: str, old: bool = False, more: str = "") -> str:
    """A config as mmdetection3d keeps it in checkpoints, a quarter as wide."""
    pillars = architecture == "pointpillars"
    size, most = (PILLARS, 4) if pillars else (VOXELS, 3)
    layer = f"voxel_layer=dict(max_num_points={most}, point_cloud_range={SPAN}, "
    layer += "voxel_size=voxel_size, max_voxels=(600, 700))"
    sizes = [SIZES[name] for name in ORDERS["mmdet3d"].split()]
    if old:
        sizes = [[w, l, h] for l, w, h in sizes]  # noqa: E741
    far = 6.4 if old else SPAN[3]
    ranges = [[0, -2.56, BOTTOMS[n], far, 2.56, BOTTOMS[n]] for n in ORDERS["mmdet3d"].split()]
    encoder = (
        f"dict(type='PillarFeatureNet', in_channels=4, feat_channels=[16]{more})"
        if pillars
        else "dict(type='HardSimpleVFE')"
    )
    middle = (
        "dict(type='PointPillarsScatter', in_channels=16)"
        if pillars
        else "dict(type='SparseEncoder', in_channels=4, output_channels=32, "
        "encoder_channels=((4,), (8, 8, 8), (16, 16, 16), (16, 16, 16)))"
    )
    backbone = (
        "in_channels=16, layer_nums=[3, 5, 5], layer_strides=[2, 2, 2], out_channels=[16, 32, 64]"
        if pillars
        else "in_channels=64, layer_nums=[5, 5], layer_strides=[1, 2], out_channels=[32, 64]"
    )
    neck = (
        "in_channels=[16, 32, 64], upsample_strides=[1, 2, 4], out_channels=[32, 32, 32]"
        if pillars
        else "in_channels=[32, 64], upsample_strides=[1, 2], out_channels=[64, 64]"
    )
    aligned = "Aligned" if pillars and not old else ""
    return f"""
voxel_size = {size}
model = dict(
    type='VoxelNet',
    {layer if old else f"data_preprocessor=dict(type='Det3DDataPreprocessor', {layer})"},
    voxel_encoder={encoder},
    middle_encoder={middle},
    backbone=dict(type='SECOND', {backbone}),
    neck=dict(type='SECONDFPN', {neck}),
    bbox_head=dict(
        type='Anchor3DHead', num_classes=3, feat_channels={96 if pillars else 128},
        anchor_generator=dict(
            type='{aligned}Anchor3DRangeGenerator', ranges={ranges}, sizes={sizes},
            rotations=[0, 1.57], reshape_out=False)))
optimizer = dict(type='AdamW', lr=1e-3 * 18 / 10)
"""


def openpcdet_mapping(architecture: str, align_center: bool = False) -> dict[str, Any]:
    pillars = architecture == "pointpillars"
    size, most = (PILLARS, 4) if pillars else (VOXELS, 3)
    names = ORDERS["openpcdet"].split()
    anchors = [
        {
            "class_name": name,
            "anchor_sizes": [SIZES[name]],
            "anchor_rotations": [0, 1.57],
            "anchor_bottom_heights": [BOTTOMS[name]],
            "align_center": align_center,
            "matched_threshold": 0.6 if name == "Car" else 0.5,
            "unmatched_threshold": 0.45 if name == "Car" else 0.35,
        }
        for name in names
    ]
    model = {
        "DENSE_HEAD": {"DIR_OFFSET": 0.78539, "ANCHOR_GENERATOR_CONFIG": anchors},
        "BACKBONE_2D": {
            "LAYER_NUMS": [3, 5, 5] if pillars else [5, 5],
            "LAYER_STRIDES": [2, 2, 2] if pillars else [1, 2],
            "NUM_FILTERS": [16, 32, 64] if pillars else [32, 64],
            "UPSAMPLE_STRIDES": [1, 2, 4] if pillars else [1, 2],
            "NUM_UPSAMPLE_FILTERS": [32] * 3 if pillars else [64] * 2,
        },
        "MAP_TO_BEV": {"NUM_BEV_FEATURES": 16 if pillars else 64},
    }
    if pillars:
        vfe = {"USE_ABSLOTE_XYZ": True, "NUM_FILTERS": [16]}
        model = {"NAME": "PointPillar", "VFE": vfe, **model}
    else:
        model = {"NAME": "SECONDNet", **model}
    step = {
        "NAME": "transform_points_to_voxels",
        "VOXEL_SIZE": size,
        "MAX_POINTS_PER_VOXEL": most,
        "MAX_NUMBER_OF_VOXELS": {"train": 600, "test": 700},
    }
    data = {"POINT_CLOUD_RANGE": SPAN, "DATA_PROCESSOR": [step]}
    return {"CLASS_NAMES": names, "DATA_CONFIG": data, "MODEL": model}


class HistoryBuffer:
    """As mmengine logs numbers: beside the weights, with the names of its methods."""

    __module__ = "mmengine.logging.history_buffer"

    def mean(self) -> float:
        return 0.0


def save_mmdet3d(path: Path, oracle: Any, **meta: Any) -> Path:
    log: Any = HistoryBuffer()
    log.__dict__.update(_log_history=np.ones(2), statistics_methods={"mean": HistoryBuffer.mean})
    content = {"meta": meta, "state_dict": oracle.state_dict()}
    modules = {
        name: types.ModuleType(name)
        for name in ("mmengine", "mmengine.logging", HistoryBuffer.__module__)
    }
    vars(modules[HistoryBuffer.__module__])["HistoryBuffer"] = HistoryBuffer
    with patch.dict(sys.modules, modules):  # where pickling looks for the class
        torch.save({**content, "message_hub": {"log_scalars": {"train/loss": log}}}, path)
    return path


def save_openpcdet(path: Path, oracle: Any, config: Any = None) -> Path:
    state = {"epoch": 80, "it": 9, "model_state": oracle.state_dict(), "version": "pcdet+0.6.0"}
    torch.save({**state, "optimizer_state": {"state": {}, "param_groups": []}}, path)
    if config:
        path.with_suffix(".yaml").write_text(yaml.safe_dump(config))
    return path
