"""Sparse convolution: SECOND's encoder on 20,000 voxels, beside spconv's build for CPUs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch
from rows import Row, medians
from torch import Tensor, nn

from geodistill.nn.second import KITTI_GRID, SparseEncoder
from geodistill.nn.sparse import SparseMap
from geodistill.nn.voxels import voxel_means, voxelize
from geodistill.simulate.lidar.frame import simulate
from geodistill.simulate.lidar.sensor import SENSORS

VOXELS, SHAPE, TIMES = 20_000, (41, 1600, 1408), 7


def rows() -> list[Row]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    cells, features = voxels()
    encoder = SparseEncoder(4, lambda width: width).train()

    def ours() -> None:
        encoder(SparseMap(features, cells, SHAPE, 2)).sum().backward()

    what = f"SECOND's encoder, {len(cells):,} voxels of two scans, forward and backward"
    target = "faster than spconv"
    if find_spec("spconv") is None:
        mine = medians({"ours": ours}, TIMES, time.process_time)["ours"]
        return [Row(what, f"{mine:.3f} CPU-s", target, None, "spconv: not installed")]
    forms = {"ours": ours, "spconv": _spconv(cells, features)}
    mine, theirs = medians(forms, TIMES, time.process_time).values()
    note = f"spconv {theirs:.3f} CPU-s, ratio {mine / theirs:.2f}"
    return [Row(what, f"{mine:.3f} CPU-s", target, mine < theirs, note)]


def voxels() -> tuple[Tensor, Tensor]:
    """Cells int64 [V, 4] of two simulated scans, half of them each, and features [V, 4]."""
    scans = [torch.from_numpy(simulate(SENSORS["hdl-64e"], 0, k).points) for k in range(2)]
    found = voxelize(scans, replace(KITTI_GRID, most_voxels=VOXELS // 2))
    return found.cells, voxel_means(found.points, found)


def _spconv(cells: Tensor, features: Tensor) -> Callable[[], None]:
    os.environ["OMP_NUM_THREADS"] = "1"  # of the OpenMP that spconv brings along
    import spconv.pytorch as sp
    from spconv.pytorch import ops

    # Its backward pass asks for a CUDA stream whatever the device is.
    ops.get_current_stream = lambda: 0
    for name in ("functional", "conv"):
        module: Any = __import__(f"spconv.pytorch.{name}", fromlist=[name])
        if hasattr(module, "get_current_stream"):
            module.get_current_stream = lambda: 0

    def normed(layer: nn.Module, width: int) -> list[nn.Module]:
        return [layer, nn.BatchNorm1d(width, 1e-3, 0.01), nn.ReLU()]

    def sub(a: int, b: int, key: str) -> list[nn.Module]:
        return normed(sp.SubMConv3d(a, b, 3, 1, bias=False, indice_key=key), b)

    def down(a: int, b: int, size: Any, stride: Any, padding: Any) -> list[nn.Module]:
        return normed(sp.SparseConv3d(a, b, size, stride, padding, bias=False), b)

    net = sp.SparseSequential(
        *sub(4, 16, "a"),
        *sub(16, 16, "a"),
        *(*down(16, 32, 3, 2, 1), *sub(32, 32, "b"), *sub(32, 32, "b")),
        *(*down(32, 64, 3, 2, 1), *sub(64, 64, "c"), *sub(64, 64, "c")),
        *(*down(64, 64, 3, 2, (0, 1, 1)), *sub(64, 64, "d"), *sub(64, 64, "d")),
        *down(64, 128, (3, 1, 1), (2, 1, 1), 0),
    ).train()
    places = cells.int().contiguous()

    def run() -> None:
        found = net(sp.SparseConvTensor(features, places, list(SHAPE), 2))
        found.dense().sum().backward()

    return run
