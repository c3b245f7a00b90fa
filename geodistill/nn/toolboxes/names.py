"""What mmdetection3d and OpenPCDet call the weights of PointPillars and SECOND.

Sources: mmdetection3d 1.4 (voxel_encoders, middle_encoders/sparse_encoder, backbones/second,
necks/second_fpn, dense_heads/anchor3d_head) and OpenPCDet 0.6 (backbones_3d/vfe/pillar_vfe,
backbones_3d/spconv_backbone, backbones_2d/base_bev_backbone, dense_heads/anchor_head_single).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

Toolbox = Literal["mmdet3d", "openpcdet"]
Architecture = Literal["pointpillars", "second"]
TOOLBOXES: tuple[Toolbox, ...] = ("mmdet3d", "openpcdet")
ARCHITECTURES: tuple[Architecture, ...] = ("pointpillars", "second")

COUNTER = "global_step"
"""Of OpenPCDet's trainer, in its state beside the weights."""
IGNORED = ("teacher_gcn_adapt.", "student_gcn_adapt.")
"""Adapters of PointDistiller's losses, which its students keep; a detector does without them."""

_SPARSE = r"\.(?P<kind>convolution|norm)\.(?P<rest>.+)"
_NAMES = (
    (
        r"encoder\.(?P<rest>(linear|norm)\..+)",
        "voxel_encoder.pfn_layers.0.{rest}",
        "vfe.pfn_layers.0.{rest}",
    ),
    (
        r"encoder\.first" + _SPARSE,
        "middle_encoder.conv_input.{layer}.{rest}",
        "backbone_3d.conv_input.{layer}.{rest}",
    ),
    (
        r"encoder\.stages\.(?P<stage>\d+)\.(?P<block>\d+)" + _SPARSE,
        "middle_encoder.encoder_layers.encoder_layer{next_stage}.{block}.{layer}.{rest}",
        "backbone_3d.conv{next_stage}.{block}.{layer}.{rest}",
    ),
    (
        r"encoder\.last" + _SPARSE,
        "middle_encoder.conv_out.{layer}.{rest}",
        "backbone_3d.conv_out.{layer}.{rest}",
    ),
    (
        # A module of OpenPCDet's pads before the first convolution, so that all others follow it.
        r"backbone\.stages\.(?P<stage>\d+)\.(?P<block>\d+)\.(?P<rest>.+)",
        "backbone.blocks.{stage}.{block}.{rest}",
        "backbone_2d.blocks.{stage}.{next_block}.{rest}",
    ),
    (r"neck\.ups\.(?P<rest>.+)", "neck.deblocks.{rest}", "backbone_2d.deblocks.{rest}"),
    (r"head\.logits\.(?P<rest>.+)", "bbox_head.conv_cls.{rest}", "dense_head.conv_cls.{rest}"),
    (r"head\.codes\.(?P<rest>.+)", "bbox_head.conv_reg.{rest}", "dense_head.conv_box.{rest}"),
    (
        r"head\.halves\.(?P<rest>.+)",
        "bbox_head.conv_dir_cls.{rest}",
        "dense_head.conv_dir_cls.{rest}",
    ),
)
"""Of a weight here, in mmdetection3d, and in OpenPCDet."""


def theirs(own: Collection[str], toolbox: Toolbox) -> dict[str, str]:
    """The names that weights have in a toolbox, by those that they have here."""
    return {name: _renamed(name, toolbox) for name in own}


def _renamed(name: str, toolbox: Toolbox) -> str:
    for pattern, *templates in _NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            parts = match.groupdict()
            numbers = {f"next_{k}": int(v) + 1 for k, v in parts.items() if k in ("stage", "block")}
            layer = int(parts.get("kind") == "norm")
            return templates[TOOLBOXES.index(toolbox)].format(**parts, **numbers, layer=layer)
    raise AssertionError(f"{name} is no weight of these networks")
