"""Pillar detectors as ONNX files, checked in onnxruntime.

Gathering points into voxels stays outside: it is `voxelize`, or whatever does the same.
"""

from __future__ import annotations

import copy
import logging
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geodistill.checks import InputError, UsageError
from geodistill.detect.anchors import decode, directed
from geodistill.io.extras import require
from geodistill.nn.anchor_detector import AnchorDetector
from geodistill.nn.voxels import Voxels
from geodistill.runs import atomic_write

INPUTS, OUTPUTS = ("points", "voxel", "cells", "counts"), ("boxes", "scores")
OPSET = 18
CLOSE, TURNED = 1e-3, 1e-3
"""Of numbers, and the share of boxes that may point the other way."""
_TIMES = 5


@dataclass(frozen=True)
class Exported:
    """Attributes:
    difference: the largest between onnxruntime's and torch's boxes and scores, see
        `box_difference`.
    onnx_ms, torch_ms: medians for one scan, on this machine's CPU.
    size: of the file in bytes.
    """

    difference: float
    onnx_ms: float
    torch_ms: float
    size: int


class _Graph(nn.Module):
    """From the voxels of one scan to boxes [A, 7] and scores [A, C] of all anchors."""

    def __init__(self, detector: AnchorDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(
        self, points: Tensor, voxel: Tensor, cells: Tensor, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        own = self.detector
        found = own.network(Voxels(points, voxel, cells, counts, 1, own.settings.grid))
        boxes = decode(found.codes[0], own.anchors.reshape(-1, 7))
        half = found.halves[0].argmax(1)
        yaw = directed(boxes[:, 6], half, own.settings.offset)
        return torch.cat([boxes[:, :6], yaw[:, None]], 1), found.logits[0].sigmoid()


def export_onnx(path: Path, detector: AnchorDetector) -> Exported:
    """Write a detector with pillars for one scan at a time, once it is shown to give the same in
    onnxruntime; atomically.

    Inputs: points float32 [N, F]; voxel int64 [N], the voxel of each; cells int64 [V, 4], 0, z, y
    and x; counts int64 [V], their points. Outputs: boxes float32 [A, 7] and scores float32 [A, C].

    Raises:
        UsageError: a detector without pillars.
        InputError: the package that is missing, or results that differ.
    """
    if detector.settings.architecture != "pointpillars":
        raise UsageError(
            f"{detector.settings.architecture} convolves sparse grids, which ONNX has no form for: "
            "only pointpillars is exported"
        )
    runtime = require("onnxruntime", "onnx", "checking an ONNX file")
    require("onnxscript", "onnx", "writing an ONNX file")
    detector = copy.deepcopy(detector).cpu().eval()  # the caller may go on training its own
    graph = _Graph(detector)
    example, other = _inputs(detector, 3000, 0), _inputs(detector, 4000, 1)
    content = _model(graph, example)
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    fed = {name: value.numpy() for name, value in zip(INPUTS, other, strict=True)}
    there = session.run(None, fed)
    with torch.no_grad():
        here = graph(*other)
    boxes, scores = map(torch.from_numpy, there)
    away = box_difference(boxes, here[0]), float((scores - here[1]).abs().max())
    if not all(one < CLOSE for one in away):
        raise InputError(
            f"onnxruntime gives other results than torch: boxes differ by {away[0]:.2g}, scores "
            f"by {away[1]:.2g}"
        )
    atomic_write(path, content)
    with torch.no_grad():
        times = (
            _milliseconds(lambda: session.run(None, fed)),
            _milliseconds(lambda: graph(*other)),
        )
    return Exported(max(away), *times, len(content))


def _model(graph: _Graph, example: tuple[Tensor, ...]) -> bytes:
    """The graph as an ONNX file, for any number of points and voxels."""
    said = logging.getLogger("torch.onnx")  # of each operator of torchvision's that is not there
    level = said.level
    said.setLevel(logging.ERROR)
    some, voxels = torch.export.Dim("points"), torch.export.Dim("voxels")
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                example,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[*INPUTS],
                output_names=[*OUTPUTS],
                dynamic_shapes=({0: some}, {0: some}, {0: voxels}, {0: voxels}),
            )
    except Exception as error:
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None  # torch makes a failed export of it
        raise
    finally:
        said.setLevel(level)
    assert program is not None
    return program.model_proto.SerializeToString()


def box_difference(one: Tensor, two: Tensor) -> float:
    """The largest between numbers of boxes [A, 7].

    Of a few boxes in a thousand the yaws may differ by half a turn: which half of the circle a box
    points to is the larger of two logits, and rounding decides it where they are as good as equal.
    """
    away = one - two
    turns = (away[:, 6] / math.pi).round()
    if (turns != 0).float().mean() <= TURNED:
        away = torch.cat([away[:, :6], away[:, 6:] - math.pi * turns[:, None]], 1)
    return float(away.abs().max())


def _inputs(detector: AnchorDetector, count: int, seed: int) -> tuple[Tensor, ...]:
    """A scan of points all over the grid."""
    grid = detector.settings.grid
    low, high = torch.tensor(grid.low), torch.tensor(grid.high)
    points = torch.rand(count, detector.settings.values, generator=_seeded(seed))
    points[:, :3] = low + points[:, :3] * (high - low)
    voxels = detector.prepare([points])
    return voxels.points, voxels.voxel, voxels.cells, voxels.counts


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _milliseconds(run: Callable[[], Any]) -> float:
    spent = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        run()
        spent.append(1000 * (time.perf_counter() - started))
    return statistics.median(spent)
