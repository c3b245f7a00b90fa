from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geodistill.checks import UsageError
from geodistill.detect.anchors import decode
from geodistill.nn.anchor_detector import AnchorDetector, AnchorSettings
from geodistill.nn.detector_onnx import box_difference, export_onnx
from geodistill.nn.second import KITTI_GRID as VOXELS
from geodistill.nn.voxels import VoxelGrid

GRID = VoxelGrid((0.0, -5.12, -3.0), (10.24, 5.12, 1.0), (0.32, 0.32, 4.0), 32, 4000)
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("coordinates", ["absolute", "mmdet3d_legacy"])
def test_onnxruntime_finds_the_same_boxes(tmp_path: Path, coordinates) -> None:
    torch.manual_seed(0)
    detector = AnchorDetector(AnchorSettings(compression=16, grid=GRID, coordinates=coordinates))
    for module in detector.modules():  # statistics as after training
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    detector.eval()
    found = export_onnx(tmp_path / "a.onnx", detector)
    assert found.difference < 1e-3
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    for count in (1, 700):
        scan = torch.rand(count, 4) * torch.tensor([10, 8, 3, 1.0]) - torch.tensor([0, 4, 2.5, 0])
        voxels = detector.prepare([scan])
        fed = {
            "points": voxels.points.numpy(),
            "voxel": voxels.voxel.numpy(),
            "cells": voxels.cells.numpy(),
            "counts": voxels.counts.numpy(),
        }
        boxes, scores = session.run(None, fed)
        with torch.no_grad():
            there = detector(voxels)
        assert np.abs(scores - there.logits[0].sigmoid().numpy()).max() < 1e-5
        plain = decode(there.codes[0], detector.anchors.reshape(-1, 7)).numpy()
        assert np.abs(boxes[:, :6] - plain[:, :6]).max() < 1e-3
        turns = (boxes[:, 6] - plain[:, 6]) / np.pi
        assert np.abs(turns - turns.round()).max() < 1e-4


def test_rounding_may_turn_a_few_boxes_by_half_a_circle() -> None:
    torch.manual_seed(0)
    one = torch.rand(2000, 7)
    two = one + 1e-6
    two[7, 6] += np.pi
    two[1900, 6] -= np.pi
    assert box_difference(one, two) < 1e-5
    two[:5, 6] += np.pi
    assert box_difference(one, two) == pytest.approx(np.pi, abs=1e-4)
    two = one.clone()
    two[3, 6] += 1.0
    assert box_difference(one, two) == pytest.approx(1.0)
    two[3, 2] = np.nan
    assert not box_difference(one, two) < 1


def test_sparse_detectors_are_refused(tmp_path: Path) -> None:
    grid = replace(VOXELS, high=(6.4, -33.6, 1.0))
    second = AnchorDetector(AnchorSettings("second", 16, grid=grid))
    with pytest.raises(UsageError, match="second convolves sparse grids"):
        export_onnx(tmp_path / "a.onnx", second)
    assert not (tmp_path / "a.onnx").exists()
